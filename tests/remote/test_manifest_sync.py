"""``ManifestSyncClient`` over a real OpenSSH server, as a script uses it and as both modes do."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time

import pytest

from runicorn.manifest import ManifestGenerator, ManifestType
from runicorn.remote_storage import ManifestSyncClient
from tests import servers

from .conftest import RUN, files, make_run, wait_until_same

pytestmark = pytest.mark.servers


def make_client(sftp, there, local, **options) -> ManifestSyncClient:
    return ManifestSyncClient(sftp, str(there), local, jitter_max=0, **options)


def append(folder, data: bytes) -> None:
    with (folder / "logs.txt").open("ab") as log:
        log.write(data)


def without(entries: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {path: data for path, data in entries.items() if path.rsplit("/", 1)[-1] not in names}


def test_what_is_listed_comes_and_only_what_is_new_comes_again(sftp, there, local):
    folder = make_run(there, log=b"x" * 5000)
    ManifestGenerator(there).generate()
    client, told = make_client(sftp, there, local), []
    done = client.sync(lambda *progress: told.append(progress))
    assert done["files_synced"] == done["full_count"] == 5 and done["failed_count"] == 0
    assert done["manifest_revision"] == 1 and done["manifest_snapshot_id"]
    assert [count for count, *_ in told] == [1, 2, 3, 4, 5] and {n for _, n, _ in told} == {5}
    paths = [path.rsplit("/", 1)[-1] for *_, path in told]
    assert set(paths[:2]) == {"status.json", "meta.json"} and paths[-1] == "a.png"
    assert without(files(local), ".sync_cursor.json") == files(there)

    before = sftp.requests
    assert client.sync() == {"skipped": True, "reason": "no_changes"}
    assert sftp.requests - before == 5
    assert make_client(sftp, there, local).sync()["skipped"]  # remembers

    append(folder, b"y" * 100)
    ManifestGenerator(there).generate()
    before = sftp.requests
    done = client.sync()
    assert (done["incremental_count"], done["full_count"]) == (1, 0)
    assert done["bytes_downloaded"] == 100 and done["manifest_revision"] == 2
    assert sftp.requests - before < 15
    assert client.stats["files_synced"] == 6 and client.cursor["sync_count"] == 2
    assert (local / RUN / "logs.txt").read_bytes() == b"x" * 5000 + b"y" * 100


def test_manifests_of_one_second_are_told_apart(sftp, there, local):
    folder = make_run(there)
    generator = ManifestGenerator(there)
    generator.generate()
    client = make_client(sftp, there, local)
    client.sync()
    marks = set()
    for _ in range(5):
        append(folder, b"x")
        generator.generate()
        marks.add(int((there / ".runicorn/full_manifest.json").stat().st_mtime))
        assert client.sync()["bytes_downloaded"] == 1
    assert len(marks) == 5


def test_an_active_manifest_brings_what_is_new_between_full_ones(sftp, there, local):
    old = make_run(there, "p/e/runs/20250101_000000_000001")
    for path in [*old.rglob("*"), old]:
        os.utime(path, (1.7e9, 1.7e9))
    folder = make_run(there)
    generator = ManifestGenerator(there)
    generator.generate(ManifestType.ACTIVE)
    generator.generate()
    client = make_client(sftp, there, local)
    assert client.sync()["files_synced"] == 10  # the old run too
    append(folder, b"more\n")
    generator.generate(ManifestType.ACTIVE)
    done = client.sync()
    assert done["bytes_downloaded"] == 5 and done["manifest_revision"] == 3


def test_a_log_that_was_replaced_is_noticed_by_its_end(sftp, there, local):
    folder = make_run(there, log=b"old\n" * 2000)
    ManifestGenerator(there).generate()
    client = make_client(sftp, there, local)
    client.sync()
    # The same 256 bytes where the copy ends, but another log.
    (folder / "logs.txt").write_bytes(b"NEW\n" * 1000 + b"old\n" * 1000 + b"more\n")
    ManifestGenerator(there).generate()
    done = client.sync()
    assert done["full_count"] == 1 and done["failed_count"] == 0
    assert (local / RUN / "logs.txt").read_bytes() == (folder / "logs.txt").read_bytes()


def test_what_failed_is_tried_again(sftp, there, local, monkeypatch):
    monkeypatch.setattr(ManifestSyncClient, "RETRY_BASE_DELAY", 0)
    folder = make_run(there, log=b"a longer log\n")
    ManifestGenerator(there).generate()
    (folder / "logs.txt").write_bytes(b"short")  # it shrank since
    client = make_client(sftp, there, local)
    done = client.sync()
    assert done["failed_count"] == 1 and done["files_synced"] == 4
    (folder / "logs.txt").write_bytes(b"a longer log\n")
    assert client.sync()["files_synced"] == 1


@pytest.mark.parametrize(
    "path",
    ["../x/runs/r/meta.json", "p/e/runs/../x", "/etc/passwd", "p/e/runs/r", "p/e/x/r/meta.json"],
)
def test_a_hostile_manifest_is_refused(sftp, there, local, path):
    make_run(there)
    manifest, where = ManifestGenerator(there).generate()
    document = manifest.to_dict()
    document["experiments"][0]["files"].append({"path": path, "size": 1, "mtime": 1})
    where.write_text(json.dumps(document))
    where.with_name(f"{where.name}.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(OSError, match="No valid manifest found on server"):
        make_client(sftp, there, local).sync()
    assert files(local) == {}


def test_a_damaged_twin_and_a_bomb_are_passed_over(sftp, there, local):
    make_run(there)
    _, where = ManifestGenerator(there).generate()
    twin = where.with_name(f"{where.name}.gz")
    twin.write_bytes(twin.read_bytes()[:100])
    assert make_client(sftp, there, local).sync()["files_synced"] == 5
    where.unlink()
    twin.write_bytes(gzip.compress(b"[" * 300_000_000, 1))
    with pytest.raises(OSError, match="No valid manifest"):
        make_client(sftp, there, local / "2").sync()


def test_a_manifest_that_names_a_link_brings_nothing_from_outside(
    mirrored, api, there, local, tmp_path
):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "meta.json").write_text("secret")
    folder = make_run(there)
    for number in range(20):  # enough for tar
        (folder / f"media/{number}.png").write_bytes(b"x")
    manifest, where = ManifestGenerator(there).generate()
    (folder / "summary.json").symlink_to(secret / "meta.json")
    (there / "p/leak").symlink_to(tmp_path)
    document = manifest.to_dict()
    (entry,) = document["experiments"]
    entry["files"].append({"path": f"{RUN}/summary.json", "size": 6, "mtime": 1})
    linked = "p/leak/runs/secret"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/secret").symlink_to(secret)
    leak = {"path": f"{linked}/meta.json", "size": 6, "mtime": 1}
    document["experiments"].append(entry | {"name": "leak", "run_id": "secret", "files": [leak]})
    where.with_name(f"{where.name}.gz").unlink()
    where.write_text(json.dumps(document))
    mirrored()
    servers.wait_until(lambda: (local / RUN / "media/19.png").exists(), "came")
    time.sleep(1)
    assert b"secret" not in files(local).values()


def test_both_modes_follow_the_manifest(mirrored, api, there, local, monkeypatch):
    folder = make_run(there)
    generator = ManifestGenerator(there)
    generator.generate()
    mirrored()
    wait_until_same(there, local)
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    assert task["stats"]["by_manifest"] is True
    make_run(there, "p/e/runs/20260101_000000_000002")
    append(folder, b"live\n")
    servers.wait_until(lambda: b"live" in (local / RUN / "logs.txt").read_bytes(), "is live")
    generator.generate()
    wait_until_same(there, local)


def test_a_document_that_grew_since_comes_whole(sftp, there, local):
    folder = make_run(there)
    ManifestGenerator(there).generate()
    for length in (10_000, 3):
        document = json.dumps({"status": "x" * length})
        (folder / "status.json").write_text(document)
        make_client(sftp, there, local / str(length)).sync()
        assert (local / str(length) / RUN / "status.json").read_text() == document


def test_a_manifest_that_is_behind_undoes_nothing(mirrored, api, there, local):
    folder = make_run(there)
    generator = ManifestGenerator(there)
    generator.generate()
    mirrored()
    wait_until_same(there, local)
    for _ in range(3):
        append(folder, b"seen by the manifest\n" * 300)
        generator.generate()
        append(folder, b"later\n")
        wait_until_same(there, local)
        time.sleep(1)
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    streams = sum((folder / name).stat().st_size for name in ("logs.txt", "events.jsonl"))
    assert task["stats"]["appended_bytes"] == streams  # none of it twice
    # But a log that is in truth shorter is noticed.
    (folder / "logs.txt").write_bytes(b"short\n")
    generator.generate()
    wait_until_same(there, local)


def test_a_manifest_as_0_4_2_writes_it(sftp, there, local):
    """It counts a revision at each generation, lists neither media nor marks, and says null."""
    folder = make_run(there, log=b"x" * 5000)
    where = there / ".runicorn/full_manifest.json"
    where.parent.mkdir()

    def generate(revision: int) -> None:
        entries = []
        for name in ("meta.json", "status.json", "events.jsonl", "logs.txt"):
            info = (folder / name).stat()
            entry = {"path": f"{RUN}/{name}", "size": info.st_size, "mtime": info.st_mtime}
            if name in ("events.jsonl", "logs.txt"):
                tail = (folder / name).read_bytes()[-4096:]
                digest = hashlib.md5(tail, usedforsecurity=False).hexdigest()
                entry |= {"tail_hash": digest, "priority": 2, "is_append_only": True}
            else:
                entry["priority"] = 1
            entries.append(entry)
        run = {"run_id": folder.name, "project": "p", "name": "e", "status": "running"}
        run |= {"created_at": 1.5, "updated_at": 2.5, "files": entries, "tags": None}
        document = {
            "format_version": "1.0",
            "manifest_type": "full",
            "revision": revision,
            "snapshot_id": f"00000000-0000-4000-8000-{revision:012d}",
            "generated_at": 1767323045.2,
            "server_hostname": "gpu",
            "remote_root": str(there),
            "experiments": [run],
            "statistics": {"total_experiments": 1, "total_files": 4, "total_bytes": 1},
            "generator_version": "1.0",
        }
        text = json.dumps(document, indent=2).encode()
        where.write_bytes(text)
        where.with_name("full_manifest.json.gz").write_bytes(gzip.compress(text))
        for path in where.parent.iterdir():  # it takes its time; SFTP tells whole seconds
            os.utime(path, (1767323045 + revision, 1767323045 + revision))

    generate(1)
    client = make_client(sftp, there, local)
    assert client.sync()["files_synced"] == 4
    generate(2)
    assert client.sync() == {"skipped": True, "reason": "no_file_changes"}
    append(folder, b"more\n")
    generate(3)
    done = client.sync()
    assert (done["bytes_downloaded"], done["manifest_revision"]) == (5, 3)
    assert (local / RUN / "logs.txt").read_bytes() == (folder / "logs.txt").read_bytes()
