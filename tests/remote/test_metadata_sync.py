"""``MetadataSyncService`` over a real OpenSSH server, as a script of Runicorn 0.4 uses it."""

from __future__ import annotations

import os

import pytest

from runicorn.artifacts.storage import ArtifactStorage, Draft
from runicorn.manifest import ManifestGenerator
from runicorn.remote_storage import MetadataSyncService
from runicorn.remote_storage.cache_manager import LocalCacheManager
from tests import servers

from .conftest import RUN, files, make_run

pytestmark = pytest.mark.servers


def make_service(sftp, there, local, *, gigabytes=10.0, **options) -> MetadataSyncService:
    cache = LocalCacheManager(root_dir=local, max_cache_size_gb=gigabytes)
    options = {"manifest_sync_jitter": 0, **options}
    return MetadataSyncService(
        ssh_session=None,
        sftp_client=sftp,
        remote_root=str(there),
        cache_manager=cache,
        **options,
    )


def copied(local) -> dict[str, bytes]:
    return {path: data for path, data in files(local).items() if not path.startswith(".")}


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_sync_from_the_first_to_one_without_changes(sftp, there, local, tmp_path, has_manifest):
    folder = make_run(there, log=b"x" * 1000)
    (tmp_path / "weights").write_bytes(b"content")
    ArtifactStorage(there).save(Draft("net", "model", [(tmp_path / "weights", "weights")]))
    generator = ManifestGenerator(there)
    if has_manifest:
        generator.generate()
    service, told = make_service(sftp, there, local), []
    service.add_progress_callback(lambda progress: told.append(progress.synced_files))
    assert service.sync_all(), service.progress.error
    expected = {
        path: data
        for path, data in files(there).items()
        if "/files/" not in path and ".dedup" not in path and not path.endswith(".lock")
    }
    assert copied(local) == expected
    assert service.get_progress().status == "completed" and max(told) == len(expected)
    assert service.progress.synced_bytes == sum(map(len, expected.values()))
    assert service.cache.root_dir == local
    noted = {"last_sync", "last_manifest_sync", "manifest_revision"}
    assert set(service.cache.stats()) == (noted if has_manifest else {"last_sync"})

    with (folder / "logs.txt").open("ab") as log:
        log.write(b"y" * 10)
    if has_manifest:
        generator.generate()
    assert service.sync_all() and service.progress.synced_bytes == 10
    assert copied(local)[f"{RUN}/logs.txt"] == b"x" * 1000 + b"y" * 10
    assert service.sync_all() and service.progress.synced_bytes == 0


def test_old_runs_come_too_and_are_then_left_alone(sftp, there, local):
    old, young = make_run(there), make_run(there, RUN[:-1] + "2")
    for path in old.rglob("*"):
        os.utime(path, (1.7e9, 1.7e9))
    (there / "p/link").symlink_to("/etc")
    (young / "new\nline.json").write_text("")
    (young / "media" / "back\\slash").write_text("")
    service = make_service(sftp, there, local)
    assert service.sync_all()
    expected = {p: d for p, d in files(there).items() if "\n" not in p and "\\" not in p}
    assert copied(local) == expected
    for folder in (old, young):
        (folder / "summary.json").write_text("{}")
        os.utime(folder / "summary.json", (1.7e9, 1.7e9))
    assert service.sync_all()
    assert (local / young.relative_to(there) / "summary.json").exists()
    assert not (local / old.relative_to(there) / "summary.json").exists()
    again = make_service(sftp, there, local, legacy_active_only=False)
    assert again.sync_all() and (local / RUN / "summary.json").exists()


def test_what_is_large_comes_as_long_as_there_is_room(sftp, there, local):
    make_run(there, log=b"x" * 50_000)
    service = make_service(sftp, there, local, gigabytes=20_000 / 2**30)
    assert service.sync_all()
    assert (local / RUN / "meta.json").exists() and not (local / RUN / "logs.txt").exists()


def test_again_and_again_and_a_host_that_is_gone(sftp, there, local):
    make_run(there)
    service = make_service(sftp, there, local)
    service.start_background_sync(0.2)
    servers.wait_until(lambda: (local / RUN / "logs.txt").exists(), "came")
    make_run(there, RUN[:-1] + "2")
    servers.wait_until(lambda: (local / (RUN[:-1] + "2") / "logs.txt").exists(), "came too")
    service.stop_background_sync()
    sftp.close()
    assert not service.sync_all()
    assert service.progress.status == "failed" and service.progress.error
