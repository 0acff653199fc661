"""What a person does to a synced run, here or there, and links that lead to projects."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from remote.sync import registry
from runs.ingest import folder_source
from runs.models import Run
from tests import servers

from .conftest import RUN, files, login_to, make_run, wait_until_same

pytestmark = pytest.mark.servers


def wait_for_scans(api, count: int = 2) -> None:
    before = scans(api)
    servers.wait_until(lambda: scans(api) >= before + count, "looked again")


def scans(api) -> int:
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    return task["stats"]["scans"]


def test_deleting_and_restoring_there_happens_here_and_what_is_done_here_stays(
    mirrored, api, there, local
):
    folder = make_run(there)
    mirrored()
    wait_until_same(there, local)
    marker, copy = folder / ".deleted", local / RUN / ".deleted"
    marker.write_text('{"deleted_at": 1}')
    servers.wait_until(copy.exists, "deleted here")
    marker.unlink()
    servers.wait_until(lambda: not copy.exists(), "restored here")
    copy.write_text('{"deleted_at": 2}')  # by somebody here
    wait_for_scans(api)
    assert copy.exists()
    marker.write_text('{"deleted_at": 3}')
    servers.wait_until(lambda: "3" in copy.read_text(), "taken over")
    copy.unlink()  # restored here
    wait_for_scans(api)
    assert not copy.exists()


def test_a_purged_run_stays_away_until_a_new_one_has_its_id(mirrored, api, there, local):
    folder = make_run(there)
    other = "p/e/runs/20260101_000000_000002"
    make_run(there, other)
    mirrored()
    wait_until_same(there, local)
    folder_source.index_run(RUN)
    body = {"run_ids": [folder.name]}
    assert api.post("/runs/soft-delete", body)["deleted_count"] == 1
    assert api.post("/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 1
    assert not (local / RUN).exists() and not Run.objects.by_id(folder.name)
    with (folder / "logs.txt").open("ab") as log:
        log.write(b"goes on\n")
    wait_for_scans(api, 3)
    assert not (local / RUN).exists()
    api.post("/unified/deactivate_mode", {"mode": "mirror"})
    mirrored()  # it is remembered
    wait_for_scans(api, 2)
    assert not (local / RUN).exists()
    # A new run under the same id, as ``init`` starts one.
    (folder / "events.jsonl").write_bytes(b"new\n")
    (folder / "meta.json").write_text(json.dumps({"id": folder.name, "created_at": 2}))
    later = time.time() + 5
    os.utime(folder / "meta.json", (later, later))
    wait_until_same(there, local)


def test_a_run_that_was_set_up_anew_there_has_nothing_of_the_one_before(mirrored, there, local):
    folder = make_run(there)
    (folder / "summary.json").write_text("{}")
    mirrored()
    wait_until_same(there, local)
    shutil.rmtree(folder)
    time.sleep(1.1)  # SFTP tells times in seconds
    make_run(there, log=b"another\n")
    wait_until_same(there, local)
    assert not (local / RUN / "summary.json").exists()


def test_a_run_that_goes_there_stays_here_and_is_counted(mirrored, api, there, local):
    folder = make_run(there)
    make_run(there, "p/e/runs/20260101_000000_000002")
    mirrored()
    wait_until_same(there, local)
    before = files(local)
    shutil.rmtree(folder)

    def gone() -> int:
        (task,) = api.get("/ssh/mirror/list")["mirrors"]
        return task["stats"]["gone_runs"]

    servers.wait_until(lambda: gone() == 1, "noticed")
    assert files(local) == before


def test_linked_projects_are_followed_inside_the_root_only(mirrored, api, there, local, tmp_path):
    make_run(there)
    make_run(there, ".large/x/runs/20260101_000000_000002")
    make_run(tmp_path / "outside", "e/runs/20260101_000000_000003")
    (there / "linked").symlink_to(".large")
    (there / "p/linked").symlink_to(there / ".large/x")
    (there / "leak").symlink_to(tmp_path / "outside")
    (there / "circle").symlink_to("circle")
    mirrored()
    followed = ["linked/x/runs", "p/linked/runs"]
    servers.wait_until(lambda: all((local / path).exists() for path in followed), "followed")
    wait_for_scans(api)
    assert {path.name for path in local.iterdir()} == {"p", "linked", ".runicorn"}
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    assert "is not followed" in task["stats"]["last_error"]


def test_what_the_status_tells(mirrored, api, there, local):
    make_run(there, log=b"x" * 10_000)
    mirrored()
    wait_until_same(there, local)
    wait_for_scans(api, 1)
    (task,) = api.get("/unified/status")["modes"]["mirror"]["tasks"]
    stats, progress = task["stats"], task["progress"]
    assert stats["known_files"] >= 5 and stats["avg_dirs_per_cycle"] == 1
    assert stats["last_error"] is None and stats["last_sync_at"] > 0
    assert progress["status"] == "completed" or progress["status"] == "running"
    assert progress["synced_files"] <= progress["total_files"]
    assert api.get("/unified/status")["cached_experiments"] == 1
    (one,) = registry.syncs("unified")
    assert one.appended_bytes >= 10_000


def test_a_folder_is_one_source_however_it_is_spelled(mirrored, api, server, there, local):
    folder = make_run(there)
    (server.home / "link").symlink_to(there)
    mirrored()
    wait_until_same(there, local)
    for spelled in ("storage", f"{there}/", "./storage/../storage//", "~/link"):
        body = {"mode": "mirror", "remote_root": spelled, "mirror_interval": 0.5}
        assert api.post("/unified/configure_mode", body)["config"]["remote_root"] == spelled
        with (folder / "logs.txt").open("a") as log:
            log.write(f"{spelled}\n")
        wait_until_same(there, local)
        (task,) = api.get("/ssh/mirror/list")["mirrors"]
        assert task["stats"]["last_error"] is None
    login = login_to(server)
    login["pkey_path"] = login.pop("private_key_path")
    session = api.post("/ssh/connect", login)["session_id"]
    started = api.post("/ssh/mirror/start", {"session_id": session, "remote_root": str(there)})
    (task,) = api.get("/ssh/mirror/list")["mirrors"]  # instead of the one before
    assert task["id"] == started["task"]["id"]
    api.post("/ssh/close", {"session_id": session})
