"""What a manifest lists, and when it is written anew."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time

import pytest

from runicorn.manifest import ManifestGenerator, ManifestType, SyncManifest, read_manifest


def paths(manifest: SyncManifest) -> list[str]:
    return [file.path for experiment in manifest.experiments for file in experiment.files]


def test_the_file_has_the_documented_form(root):
    folder = root.run()
    (folder / "logs.txt").write_bytes(b"x" * 5000)
    os.utime(folder / "logs.txt", (2e9, 2e9))
    manifest, path = ManifestGenerator(root.path).generate()
    data = json.loads(path.read_bytes())
    assert path == root.path / ".runicorn/full_manifest.json"
    assert path.read_bytes().startswith(b'{\n  "format_version": "1.0",\n')
    assert data == manifest.to_dict() == json.loads(json.dumps(manifest.to_dict()))
    assert (
        gzip.decompress(path.with_name("full_manifest.json.gz").read_bytes()) == path.read_bytes()
    )
    assert list(data) == [
        *("format_version", "manifest_type", "revision", "snapshot_id", "generated_at"),
        *("server_hostname", "remote_root", "experiments", "statistics", "generator_version"),
    ]
    assert data["manifest_type"] == "full" and data["revision"] == 1
    assert data["statistics"] == {"total_experiments": 1, "total_files": 4, "total_bytes": 5052}
    (experiment,) = data["experiments"]
    files = {file["path"].rpartition("/")[2]: file for file in experiment.pop("files")}
    assert experiment == {
        "run_id": folder.name,
        "project": "p",
        "name": "e",
        "status": "finished",
        "created_at": 100.5,
        "updated_at": 2e9,
        "tags": None,
    }
    assert list(files) == ["events.jsonl", "logs.txt", "meta.json", "status.json"]
    assert files["logs.txt"] == {
        "path": f"p/e/runs/{folder.name}/logs.txt",
        "size": 5000,
        "mtime": 2e9,
        "tail_hash": hashlib.md5(b"x" * 4096).hexdigest(),
        "priority": 3,
        "is_append_only": True,
    }
    assert files["meta.json"].keys() == {"path", "size", "mtime", "priority"}
    assert files["meta.json"]["priority"] == 1


def test_what_is_listed_and_what_is_not(root):
    folder = root.run()
    (folder / ".deleted").write_text("{}")
    (folder / "environment.json").write_bytes(b" " * (2**20 + 1))
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "media").mkdir()
    (folder / "media/a.png").write_bytes(b"png")
    (folder / "media/b\nc.png").write_bytes(b"odd")
    (folder / "media/large.png").write_bytes(b" " * (2**20 + 1))
    (folder / "summary.json").symlink_to("/etc/hostname")
    for other in ("artifacts/model/runs/x", ".hidden/e/runs/x", "runs/20260101_000000_00000f"):
        (root.path / other).mkdir(parents=True)
        (root.path / other / "meta.json").write_text("{}")
    (root.path / "p/empty/runs/20260101_000000_00000e").mkdir(parents=True)
    manifest, _ = ManifestGenerator(root.path).generate()
    assert [path.removeprefix(f"p/e/runs/{folder.name}/") for path in paths(manifest)] == [
        *(".deleted", "events.jsonl", "media/a.png", "meta.json", "status.json"),
    ]
    media = manifest.experiments[0].files[2]
    assert (media.priority, media.is_append_only, media.tail_hash) == (4, False, None)


def test_the_revision_counts_changes_of_both_kinds(root):
    folder = root.run()
    generator = ManifestGenerator(root.path)
    first, path = generator.generate()
    before = path.stat().st_mtime_ns
    again, _ = generator.generate()
    assert again == first and path.stat().st_mtime_ns == before
    assert generator.generate(ManifestType.ACTIVE)[0].revision == 2
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'{"a": 2}\n')
    changed, _ = ManifestGenerator(root.path).generate()
    assert changed.revision == 3 and changed.snapshot_id != first.snapshot_id
    assert read_manifest(path.read_bytes()) == changed


def test_a_lost_twin_is_written_again(root):
    root.run()
    _, path = ManifestGenerator(root.path).generate()
    twin = path.with_name("full_manifest.json.gz")
    twin.unlink()
    manifest, _ = ManifestGenerator(root.path).generate()
    assert read_manifest(twin.read_bytes()) == manifest


def test_hashes_of_unchanged_files_are_not_made_again(root, monkeypatch):
    folder = root.run()
    ManifestGenerator(root.path).generate()
    (folder / "status.json").write_text("{}")
    made = []
    md5 = hashlib.md5
    monkeypatch.setattr(hashlib, "md5", lambda *a, **k: made.append(a) or md5(*a, **k))
    assert ManifestGenerator(root.path).generate()[0].revision == 2
    assert not made
    (folder / "status.json").write_text('{"status": "failed"}')
    assert ManifestGenerator(root.path, incremental=False).generate()[0].revision == 3
    assert len(made) == 1


def test_a_long_run_that_still_logs_is_active(root):
    """Appending does not touch the time of the folder."""
    alive, finished = root.run(1), root.run(2)
    for folder in (alive, finished):
        for path in (*folder.iterdir(), folder):
            os.utime(path, (1e9, 1e9))
    os.utime(alive / "events.jsonl")
    manifest, path = ManifestGenerator(root.path).generate(ManifestType.ACTIVE)
    assert path.name == "active_manifest.json"
    assert [experiment.run_id for experiment in manifest.experiments] == [alive.name]
    assert manifest.experiments[0].updated_at == pytest.approx(time.time(), abs=60)


def test_a_damaged_run_does_not_hide_the_others(root):
    good, bad = root.run(1), root.run(2)
    (bad / "meta.json").write_text('{"created_at": "yesterday"}')
    (bad / "status.json").write_text('{"status": "\\ud800"}')
    (root.path / ".experiments_metadata.json").write_text(
        json.dumps({good.name: {"tags": ["a", 1]}, bad.name: []})
    )
    manifest, path = ManifestGenerator(root.path).generate()
    assert [(e.status, e.tags) for e in manifest.experiments] == [
        ("finished", ["a"]),
        ("unknown", []),
    ]
    assert read_manifest(path.read_bytes()) == manifest


def test_what_cannot_be_published_leaves_what_was(root):
    root.run(1)
    first, path = ManifestGenerator(root.path).generate()
    root.run(2)
    with pytest.raises(
        ValueError, match=r"Manifest size \(\d+ bytes\) exceeds limit \(500 bytes\)"
    ):
        ManifestGenerator(root.path, max_manifest_size=500).generate()
    assert read_manifest(path.read_bytes()) == first
    assert {p.name for p in path.parent.iterdir()} <= {
        *("full_manifest.json", "full_manifest.json.gz"),
        *(".manifest_state.json", ".manifest_state.json.lock"),
    }


def test_a_root_that_cannot_be_read_is_no_empty_one(root):
    generator = ManifestGenerator(root.path, output_dir=root.path.parent / "out")
    root.path.rmdir()
    with pytest.raises(FileNotFoundError):
        generator.generate()


def test_an_empty_root_has_a_manifest(root):
    manifest, path = ManifestGenerator(root.path).generate()
    assert json.loads(path.read_bytes())["experiments"] == []
    assert read_manifest(path.read_bytes()) == manifest


def test_tags_are_those_of_the_run_itself(root):
    run, linked = root.run(1), root.run(2)
    (run / "annotations.json").write_text('{"tags": ["mine", "\\ud800"], "updated_at": 9}')
    (root.path / "elsewhere.json").write_text('{"tags": ["secret"], "updated_at": 9}')
    (linked / "annotations.json").symlink_to(root.path / "elsewhere.json")
    older = {"tags": ["older"], "updated_at": 5}
    (root.path / ".experiments_metadata.json").write_text(json.dumps({run.name: older}))
    manifest, path = ManifestGenerator(root.path).generate()
    assert [e.tags for e in manifest.experiments] == [["mine"], []]
    listed = [f.path.rpartition("/")[2] for e in manifest.experiments for f in e.files]
    assert listed.count("annotations.json") == 1
    assert "secret" not in path.read_text()
