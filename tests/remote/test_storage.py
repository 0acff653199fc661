"""Remote storage of 0.4 over a real OpenSSH server: a root that is synced on demand."""

from __future__ import annotations

import sys

import pytest

from remote.compat import on_demand
from remote.ssh.loop import run
from runicorn.artifacts.storage import ArtifactStorage, Draft
from tests import servers

from .conftest import RUN, login_to, make_run

pytestmark = pytest.mark.servers

DISCONNECTED = {
    "mode": "local",
    "connected": False,
    "status": "disconnected",
    "sync_progress": None,
    "stats": None,
}


@pytest.fixture
def stored(api, server, there, local):
    make_run(there)
    (there / "artifacts" / "model").mkdir(parents=True)
    api.trust(server)
    yield {**login_to(server), "remote_root": "~/storage"}
    run(on_demand.disconnect())


def test_a_root_from_connecting_to_disconnecting(api, stored, there, local):
    assert DISCONNECTED.items() <= api.get("/remote/status").items()
    answer = api.post("/remote/connect", stored)
    assert answer["status"] == "connected" and answer["structure_verified"] is True
    assert (answer["remote_root"], answer["cache_dir"]) == ("~/storage", str(local))
    assert (answer["auto_sync"], answer["sync_interval_minutes"]) == (True, 10)

    def status():
        return api.get("/remote/status")

    servers.wait_until(lambda: (local / RUN / "meta.json").exists(), "is copied")
    servers.wait_until(lambda: status()["status"] == "connected", "is done")
    assert status()["mode"] == "remote" and status()["connection_count"] == 1
    assert status()["sync_progress"]["errors"] == []
    assert status()["stats"]["cached_experiments"] == 1
    assert api.get("/remote/mode") == {
        "mode": "remote",
        "remote_available": True,
        "remote_connected": True,
    }
    verified = api.get("/remote/verify")
    assert verified["connected"] is True
    assert verified["structure"] == {
        "artifacts_exists": True,
        "has_experiments": True,
        "has_model": True,
    }

    other = RUN.replace(RUN[-1], "f")
    make_run(there, other)
    assert api.post("/remote/sync")["message"] == "Metadata sync started"
    servers.wait_until(lambda: (local / other / "meta.json").exists(), "is copied too")
    cleaned = {"ok": True, "files_removed": 0, "message": "Cleaned up 0 old files"}
    assert api.post("/remote/cache/cleanup") == cleaned
    cleared = {"ok": True, "message": "Cache cleared successfully"}
    assert api.post("/remote/cache/clear") == cleared
    assert not (local / RUN).exists()

    switched = {"ok": True, "mode": "local", "message": "Switched to local storage mode"}
    assert api.post("/remote/mode/switch", {"mode": "local"}) == switched
    done = api.post("/remote/disconnect")
    assert done["message"] == "Disconnected from remote server"
    assert DISCONNECTED.items() <= api.get("/remote/status").items()
    assert api.get("/remote/sessions") == {"sessions": []}


def test_an_artifact_is_downloaded_named_and_tagged(api, stored, server, there, local, tmp_path):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
        files.append((tmp_path / name, f"weights/{name}.bin"))
    ArtifactStorage(there).save(Draft("net", "model", files))
    api.post("/remote/connect", stored)
    folder = local / "artifacts/model/net/v1"
    servers.wait_until(lambda: (folder / "manifest.json").exists(), "is known")
    assert not (folder / "files").exists()

    started = api.post("/remote/download/net/v1", {"target_dir": "weights/net"})
    assert started["artifact"] == "net:v1"

    def download():
        return api.get(f"/remote/download/{started['task_id']}/status")

    servers.wait_until(lambda: download()["status"] != "running", "is done")
    assert (download()["status"], download()["error"]) == ("completed", None)
    assert (download()["downloaded_files"], download()["downloaded_bytes"]) == (2, 2000)
    assert (local / "weights/net/weights/b.bin").read_bytes() == b"b" * 1000
    assert api.get("/remote/downloads")["total_count"] >= 1
    ended = api.client.delete(f"/api/remote/download/{started['task_id']}")
    assert (ended.status_code, ended.json()["detail"]) == (
        404,
        "Task not found or already completed",
    )
    for target in ("/etc", "../up", "a/../../b", "artifacts/x", ".runicorn"):
        wrong = api.post("/remote/download/net/v1", {"target_dir": target}, 400)
        assert wrong["detail"].startswith("Invalid target directory: ")
    missing = api.post("/remote/download/other/v1", {}, 404)["detail"]
    assert missing == "Artifact not found in cache: other. Please sync metadata first."
    api.get("/remote/download/unknown/status", 404)

    refused = api.post("/remote/artifacts/net/v1/alias", {"alias": "best"}, 400)["detail"]
    assert "needs runicorn on the host" in refused
    python = server.home / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    named = api.post("/remote/artifacts/net/v1/alias", {"alias": "best"})
    assert named["message"] == "Set alias 'best' → net:v1"
    tags = ["paper", "it's; $(touch crept)"]
    api.post("/remote/artifacts/net/v1/tags", {"tags": tags})
    store = ArtifactStorage(there)
    assert store.aliases(store.find("net"))["best"] == 1
    assert store.metadata(store.find("net"), 1).tags == tags
    assert not list(server.home.rglob("crept"))
    api.post("/remote/artifacts/net/v1/alias", {"alias": "a/b"}, 400)
    api.post("/remote/artifacts/net/v1/tags", {"tags": "x"}, 400)
    api.post("/remote/artifacts/other/v1/tags", {"tags": ["x"]}, 400)


def test_what_is_there_and_what_is_here_are_told_apart(api, stored, there, local, tmp_path):
    own, theirs = ArtifactStorage(local), ArtifactStorage(there)
    for store, name, content in ((own, "mine", b"m" * 10), (theirs, "net", b"1" * 1000)):
        (tmp_path / name).write_bytes(content)
        store.save(Draft(name, "model", [(tmp_path / name, "w.bin")]))
    (tmp_path / "second").write_bytes(b"2" * 500)
    theirs.save(Draft("net", "model", [(tmp_path / "second", "w.bin")]))
    assert "connected" not in api.get("/artifacts/stats")
    api.post("/remote/connect", stored)

    def figures(*names):
        found = api.get("/artifacts/stats")
        return [found.get(name) for name in names]

    def told(name):
        answer = api.get(f"/artifacts/{name}/files")
        (file,) = answer["files"]
        assert file["is_remote"] == answer["is_remote"] == (file["absolute_path"] is None)
        return file["is_remote"]

    pool = ("dedup_pool_size_bytes", "space_saved_bytes")
    members = ("cached_artifacts", "cache_size_bytes", "remote_size_bytes")
    servers.wait_until(lambda: figures(*members) == [1, 0, 1500], "is known")
    assert figures("connected", "error_count", "total_artifacts", *pool) == [True, 0, 2, 10, 0]
    assert figures("total_size_bytes") == [1510]
    assert (told("mine/v1"), told("net/v1"), told("net/v2")) == (False, True, True)
    page = api.client.get("/artifacts/model/net/v1")
    assert "on another host" in page.content.decode()

    assert api.post("/artifacts/net/v1/verify")["ok"] is True  # it comes for that
    assert (told("net/v1"), told("net/v2")) == (False, True)
    assert figures(*members, *pool) == [1, 1000, 1500, 1010, 0]
    status = api.get("/remote/status")["stats"]
    assert [status[name] for name in members] == [1, 1000, 1500]

    api.post("/remote/mode/switch", {"mode": "local"})
    assert "connected" not in api.get("/artifacts/stats")
    api.post("/remote/disconnect")
    assert told("net/v2") is True


def test_what_cannot_be_done_without_a_connection(api):
    artifact = "/remote/download/net/v1"
    for path in ("/remote/sync", "/remote/cache/clear", "/remote/cache/cleanup", artifact):
        assert api.post(path, status=400) == {"detail": "Not connected to remote server"}
    api.post("/remote/disconnect", status=400)
    wrong = api.post("/remote/mode/switch", {"mode": "remote"}, 400)["detail"]
    assert wrong.startswith("Cannot switch to remote mode: not connected.")
    assert api.get("/remote/downloads") == {"downloads": []}
    api.post("/remote/mode/switch", {"mode": "x"}, 400)
    api.post("/remote/mode/switch", {}, 400)
    not_connected = {"connected": False, "error": "Not connected to remote server"}
    assert api.get("/remote/verify") == not_connected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"host": ""}, "Host is required"),
        ({"username": None}, "Username is required"),
        ({"port": 70000}, "Invalid port: 70000"),
        ({"remote_root": ""}, "Remote root directory is required"),
        ({"use_agent": False}, "At least one authentication method is required"),
        ({"sync_interval_minutes": -1}, "sync_interval_minutes must be a positive number"),
    ],
)
def test_what_is_missing_is_said(api, change, reason):
    body = {"host": "h", "username": "u", "remote_root": "/data", **change}
    detail = api.post("/remote/connect", body, 400)["detail"]
    assert detail == f"Invalid configuration: {reason}"


def test_a_root_that_is_not_there(api, stored):
    detail = api.post("/remote/connect", {**stored, "remote_root": "~/nowhere"}, 404)["detail"]
    assert "~/nowhere" in detail
    assert api.get("/remote/sessions") == {"sessions": []}
