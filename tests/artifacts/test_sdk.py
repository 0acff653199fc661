"""Artifacts as a training script saves and uses them, with no server anywhere."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pty
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import runicorn as rn
from runicorn.artifacts import ArtifactStorage, DigestMismatch, LineageTracker
from tests import v04


@pytest.fixture
def run(tmp_path):
    run = rn.Run("p", tmp_path / "root", name="e", capture_env=False)
    yield run
    run.finish()


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * 3000)
    return path


def read(path: Path):
    return json.loads(path.read_text())


def folder(run: rn.Run, place: str = "model/net") -> Path:
    return run.storage_root / "artifacts" / place


def test_what_was_saved_is_what_is_downloaded(run, tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/a.txt").write_text("a")
    (source / "big.bin").write_bytes(os.urandom(3 << 20))
    (source / "empty").touch()
    (source / "skipped.tmp").touch()
    artifact = rn.Artifact("data", "dataset").add_dir(source, exclude_patterns=["*.tmp"])
    assert run.log_artifact(artifact) == 1
    assert str(artifact) == "data:v1" and not artifact.is_loaded

    target = run.use_artifact("data:latest").download(tmp_path / "target")
    found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert set(found) == {"deep/a.txt", "big.bin", "empty"}
    assert found["big.bin"] == (source / "big.bin").read_bytes()


@pytest.mark.parametrize("size", [10, 300_000])
def test_each_name_of_a_content_keeps_its_time(run, tmp_path, size):
    """They are one file in the store, also if the name is as long as names may be."""
    source = tmp_path / "source"
    source.mkdir()
    names = ["first", "x" * 240, "last"]
    for number, name in enumerate(names):
        (source / name).write_bytes(b"w" * size)
        os.utime(source / name, (1e9, 1e9 + number))
    run.log_artifact(rn.Artifact("data", "dataset").add_dir(source))
    stored = folder(run, "dataset/data") / "v1/files"
    assert {(stored / name).stat().st_nlink for name in names} == {len(names) + 1}
    target = run.use_artifact("data:v1").download()
    assert [(target / name).stat().st_mtime - 1e9 for name in names] == [0, 1, 2]


def test_the_folder_is_that_of_v04(run, weights):
    artifact = rn.Artifact("net", description="d", metadata={"k": 1}).add_tags("x", "x", "y")
    artifact.add_file(weights, "m/w.bin").add_reference("s3://b/k", size=10, region="eu")
    run.log_artifact(artifact)
    place = folder(run)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    manifest = read(place / "v1/manifest.json")
    assert list(manifest) == [
        *("files", "references", "total_size", "total_files", "total_references", "created_at")
    ]
    assert manifest["files"] == [
        {
            "path": "m/w.bin",
            "size": 3000,
            "digest": f"sha256:{digest}",
            "modified_at": weights.stat().st_mtime,
        }
    ]
    metadata = read(place / "v1/metadata.json")
    assert list(metadata) == [
        *("name", "type", "version", "created_at", "updated_at", "created_by_run"),
        *("created_by_user", "size_bytes", "num_files", "num_references", "status", "metadata"),
        *("description", "tags", "aliases", "parent_artifacts", "manifest_digest"),
    ]
    assert metadata["size_bytes"] == 3010 and metadata["tags"] == ["x", "y"]
    assert metadata["aliases"] == ["latest"] and metadata["status"] == "ready"
    stored = (place / "v1/manifest.json").read_bytes()
    assert metadata["manifest_digest"] == hashlib.sha256(stored).hexdigest()
    pooled = run.storage_root / "artifacts/.dedup" / digest[:2] / digest
    assert pooled.samefile(place / "v1/files/m/w.bin")
    index = read(place / "versions.json")
    assert list(index) == [
        *("artifact_name", "artifact_type", "versions", "aliases", "created_at", "updated_at")
    ]
    assert index["aliases"] == {"latest": 1}
    created = read(run.run_dir / "artifacts_created.json")["artifacts"]
    assert created[0]["size_bytes"] == 3000 and created[0]["version"] == 1


def test_the_same_bytes_are_stored_once(run, weights):
    for _ in range(3):
        run.log_artifact(rn.Artifact("net").add_file(weights))
    assert next(iter((folder(run) / "v3/files").iterdir())).stat().st_nlink == 4


def test_a_use_is_noted_once(run, weights):
    run.log_artifact(rn.Artifact("net").add_file(weights))
    run.use_artifact("net:v1")
    run.use_artifact("net:latest")
    used = read(run.run_dir / "artifacts_used.json")["artifacts"]
    assert [(u["name"], u["type"], u["version"]) for u in used] == [("net", "model", 1)]


def test_a_number_is_never_given_twice(run, weights):
    storage = ArtifactStorage(run.storage_root)
    for _ in range(2):
        run.log_artifact(rn.Artifact("net").add_file(weights))
    storage.purge([(storage.find("net"), 2)])
    assert run.log_artifact(rn.Artifact("net").add_file(weights)) == 3
    storage.purge([(storage.find("net"), n) for n in (1, 3)])
    assert run.log_artifact(rn.Artifact("net").add_file(weights)) == 4


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("net", ValueError, "must be in format 'name:version' or 'name:alias', got: net"),
        ("nothing:v1", FileNotFoundError, "Artifact not found: nothing"),
        ("net:v0", ValueError, "Invalid version format: v0"),
        ("net:vx", ValueError, "Invalid version format: vx"),
        ("net:best", ValueError, "Alias not found: best for artifact net. Available aliases"),
        ("net:v9", FileNotFoundError, "Version not found: net:v9"),
        ("../net:v1", ValueError, "invalid characters"),
    ],
)
def test_what_cannot_be_used_is_refused_in_the_words_of_v04(run, weights, spec, error, text):
    run.log_artifact(rn.Artifact("net").add_file(weights))
    with pytest.raises(error, match=text.replace(".", r"\.")):
        run.use_artifact(spec)


def test_an_alias_may_start_with_v(run, weights):
    run.log_artifact(rn.Artifact("net").add_file(weights))
    storage = ArtifactStorage(run.storage_root)
    storage.set_alias(storage.find("net"), "validated", 1)
    run.log_artifact(rn.Artifact("net").add_file(weights))
    assert run.use_artifact("net:validated").version == 1


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a:b", "a\x00b", "a*", " a", 3])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(ValueError, match="Artifact name"):
        rn.Artifact(name)


@pytest.mark.parametrize("kind", ["..", "../..", "a/b", "", ".dedup"])
def test_a_type_that_is_no_folder_is_refused(kind):
    with pytest.raises(ValueError, match="Invalid artifact type"):
        rn.Artifact("a", kind)


@pytest.mark.parametrize("path", ["../a", "/a", "a/../b", "a//b", "C:x", "a\\b", "x" * 300])
def test_a_path_that_leads_outside_is_refused(weights, path):
    with pytest.raises(ValueError):
        rn.Artifact("net").add_file(weights, path)


def test_nothing_to_save_is_refused(run):
    with pytest.raises(ValueError, match="no files or references"):
        run.log_artifact(rn.Artifact("net"))
    assert not folder(run).exists()


def test_adding_says_what_is_wrong(tmp_path, weights, caplog):
    artifact = rn.Artifact("net")
    with pytest.raises(FileNotFoundError, match="File not found"):
        artifact.add_file(tmp_path / "none")
    with pytest.raises(ValueError, match="Not a file"):
        artifact.add_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="Directory not found"):
        artifact.add_dir(tmp_path / "none")
    with pytest.raises(ValueError, match="Not a directory"):
        artifact.add_dir(weights)
    with pytest.raises(RuntimeError, match=r"Use run\.use_artifact\(\) first"):
        artifact.download()
    (tmp_path / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        artifact.add_dir(tmp_path / "empty")
    assert "Nothing to add" in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        lambda artifact: artifact.add_reference(""),
        lambda artifact: artifact.add_reference("s3://x", size=-1),
        lambda artifact: artifact.add_reference("s3://x", size=2**53),
        lambda artifact: artifact.add_reference("s3://x", "\ud800"),
        lambda artifact: artifact.add_tags("ok", ""),
        lambda artifact: artifact.add_tags("x" * 256),
        lambda artifact: artifact.add_metadata({"rate": {1, 2}}),
        lambda artifact: artifact.add_metadata({"text": "\udc80"}),
        lambda artifact: artifact.add_metadata({"self": artifact.metadata}),
        lambda artifact: setattr(artifact, "description", "\ud800"),
    ],
)
def test_what_others_could_not_read_is_refused(run, weights, said):
    artifact = rn.Artifact("net").add_file(weights)
    with pytest.raises(ValueError):
        said(artifact)
        run.log_artifact(artifact)
    assert not folder(run).exists()


def test_one_pattern_is_not_taken_for_many(tmp_path, run):
    for name in ("a.tmp", "b.txt"):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).touch()
    artifact = rn.Artifact("net").add_dir(tmp_path / "data", exclude_patterns="*.tmp")
    run.log_artifact(artifact)
    assert [p.name for p in (folder(run) / "v1/files").iterdir()] == ["b.txt"]


def test_a_file_name_that_cannot_be_stored_is_named(tmp_path):
    (tmp_path / "a\\b").touch()
    with pytest.raises(ValueError, match="rename the file"):
        rn.Artifact("net").add_dir(tmp_path)


def test_a_file_that_vanished_leaves_no_version(run, weights, tmp_path):
    gone = tmp_path / "gone"
    gone.touch()
    artifact = rn.Artifact("net").add_file(weights).add_file(gone)
    gone.unlink()
    with pytest.raises(FileNotFoundError):
        run.log_artifact(artifact)
    assert [p.name for p in folder(run).iterdir()] == []


def test_a_changed_file_is_not_downloaded(run, weights, tmp_path):
    run.log_artifact(rn.Artifact("net").add_file(weights))
    (folder(run) / "v1/files/weights.bin").write_bytes(b"x" * 3000)
    with pytest.raises(DigestMismatch, match=r"weights\.bin of net:v1 was changed"):
        run.use_artifact("net:v1").download(tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_a_hostile_manifest_neither_reads_nor_writes_outside(run, weights, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    run.log_artifact(rn.Artifact("net").add_file(weights))
    path = folder(run) / "v1/manifest.json"
    manifest = read(path)
    digest = f"sha256:{hashlib.sha256(b's').hexdigest()}"
    for hostile in ("../../../../../../secret", str(secret), "link/secret"):
        manifest["files"] = [{"path": hostile, "size": 1, "digest": digest}]
        path.write_text(json.dumps(manifest))
        link = folder(run) / "v1/files/link"
        if not link.exists():
            link.symlink_to(tmp_path)
        artifact = run.use_artifact("net:v1")
        with pytest.raises(ValueError, match="path traversal"):
            artifact.download(tmp_path / "a/b/c/d/e/f/g")
        with pytest.raises(ValueError, match="path traversal"):
            artifact.get_file_path(hostile)
        storage = ArtifactStorage(run.storage_root)
        assert "unsafe" in {p.problem for p in storage.verify(storage.find("net"), 1)}


def test_a_linked_type_or_artifact_folder_is_not_entered(run, weights, tmp_path):
    run.log_artifact(rn.Artifact("net").add_file(weights))
    outside = tmp_path / "outside"
    (outside / "thing/v1").mkdir(parents=True)
    (folder(run, "evil")).symlink_to(outside)
    (folder(run, "model/evil")).symlink_to(outside / "thing")
    for name in ("thing", "evil"):
        with pytest.raises(FileNotFoundError):
            ArtifactStorage(run.storage_root).find(name)


def test_many_processes_save_at_once(run, tmp_path):
    code = """
import sys, runicorn as rn
run = rn.Run("p", sys.argv[1], name="e", capture_env=False)
for _ in range(5):
    run.log_artifact(rn.Artifact("net").add_dir(sys.argv[2]))
"""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / str(number)).write_bytes(b"%d" % number * 1000)
    with ThreadPoolExecutor(4) as threads:
        command = [sys.executable, "-c", code, run.storage_root, source]
        assert [p.returncode for p in threads.map(subprocess.run, [command] * 4)] == [0] * 4
    storage = ArtifactStorage(run.storage_root)
    location = storage.find("net")
    assert location.numbers() == list(range(1, 21))
    assert [v.version for v in storage.index(location).versions] == list(range(1, 21))
    assert all(not storage.verify(location, number) for number in location.numbers())
    assert len(list(storage.blobs.contents())) == 20


def test_a_name_whose_first_saving_was_killed_hides_no_other(run, weights):
    """What was made for it is a folder without versions, of a type that is looked at first."""
    run.log_artifact(rn.Artifact("net", "dataset").add_file(weights))
    folder(run).mkdir(parents=True)
    assert run.use_artifact("net:latest").type == "dataset"
    assert run.log_artifact(rn.Artifact("net").add_file(weights)) == 1
    assert run.use_artifact("net:latest").type == "model"


def test_a_large_download_shows_how_far_it_is(run, tmp_path):
    """On a terminal; elsewhere nothing is written."""
    (tmp_path / "large").write_bytes(os.urandom(65 << 20))
    run.log_artifact(rn.Artifact("net").add_file(tmp_path / "large"))
    code = "import sys, runicorn as rn; run = rn.Run('p', sys.argv[1], capture_env=False)"
    code += "; run.use_artifact('net:latest').download(sys.argv[2])"
    command = [sys.executable, "-c", code, run.storage_root, tmp_path / "target"]
    terminal, its_end = pty.openpty()
    subprocess.run(command, stderr=its_end, check=True)
    os.close(its_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert re.fullmatch(r"(\rnet:v1 \[#* *\] \d+ of 65 MiB)+\r\n", shown)
    assert shown.endswith(f"[{'#' * 30}] 65 of 65 MiB\r\n")
    command[-1] = tmp_path / "again"
    assert subprocess.run(command, stderr=subprocess.PIPE, check=True).stderr == b""


# -- what Runicorn 0.4.0 wrote -------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return v04.unpack_storage(tmp_path_factory.mktemp("recorded"))


def test_what_v04_wrote_is_read(recorded, tmp_path):
    storage = ArtifactStorage(recorded)
    for location in storage.locations():
        for number in location.numbers():
            assert storage.verify(location, number) == []
    run = rn.Run("p", recorded, name="e", capture_env=False)
    artifact = run.use_artifact("digits-classifier:production")
    assert artifact.version == 2 and artifact.type == "model"
    target = artifact.download(tmp_path)
    assert sorted(p.name for p in target.rglob("*") if p.is_file()) == [
        *("labels.json", "scaler.bin", "weights.json")
    ]


def test_the_slip_of_v04_in_the_default_type_is_read(run, weights):
    run.log_artifact(rn.Artifact("net").add_file(weights))
    (folder(run, "model")).rename(folder(run, "ArtifactType.MODEL"))
    artifact = run.use_artifact("net:latest")
    assert artifact.type == "model"
    assert run.log_artifact(rn.Artifact("net").add_file(weights)) == 2
    run.log_artifact(rn.Artifact("other").add_file(weights))
    assert folder(run, "model/other/v1").exists()


def test_a_stage_that_v04_put_into_the_metadata_is_read_and_moved(run, weights):
    run.log_artifact(rn.Artifact("net").add_file(weights))
    path = folder(run) / "v1/metadata.json"
    path.write_text(json.dumps(read(path) | {"lifecycle_stage": "staging"}))
    storage = ArtifactStorage(run.storage_root)
    assert storage.promote(storage.find("net"), 1, "production") == "staging"
    assert "lifecycle_stage" not in read(path)  # 0.4.0 could not read the version with it
    assert run.use_artifact("net:production").version == 1


def test_lineage_from_the_files(recorded):
    graph = LineageTracker(recorded).build_lineage_graph("digits-8x8", "dataset", 1)
    ids = {node.node_id for node in graph.nodes}
    assert {"digits-8x8:v1", "digits-classifier:v1", "eval-report:v1"} <= ids
    assert "20250314_080000_37106d" in ids
