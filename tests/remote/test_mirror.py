"""Mirror mode over a real OpenSSH server: byte for byte, live, and trusting nothing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time

import httpx
import pytest

from remote.sync import host_tree, session
from runicorn import heartbeats
from tests import servers

from .conftest import RUN, USER, login_to, make_run, wait_until_same

pytestmark = pytest.mark.servers


def test_everything_arrives_and_goes_on_arriving(mirrored, api, there, local, server):
    folder = make_run(there)
    make_run(there, "runs/20260101_000000_00000a")
    started = mirrored()
    assert started["config"] == {"remote_root": "~/storage", "mirror_interval": 0.5}
    wait_until_same(there, local)
    with (folder / "logs.txt").open("ab") as log:
        log.write(b"two\n")
    (folder / "status.json").write_text(json.dumps({"status": "stopped"}))  # of the same size
    make_run(there, "p/e/runs/20260101_000000_000002")
    wait_until_same(there, local)
    status = api.get("/unified/status")
    assert status["mirror_mode"] == {"active": True}
    (task,) = status["modes"]["mirror"]["tasks"]
    assert task["alive"] and task["stats"]["last_error"] is None
    busy = api.post("/unified/disconnect")
    assert busy["ok"] is False and busy["mirror_active"] is True
    stopped = {"ok": True, "mode": "mirror", "message": "Mirror mode deactivated"}
    assert api.post("/unified/deactivate_mode", {"mode": "mirror"}) == stopped
    assert api.post("/unified/disconnect")["ok"] is True


def test_only_what_is_new_travels(mirrored, api, there, local):
    folder = make_run(there, log=b"x" * 3_000_000)
    mirrored()
    wait_until_same(there, local)

    def appended() -> int:
        (task,) = api.get("/ssh/mirror/list")["mirrors"]
        return task["stats"]["appended_bytes"]

    # A file is here a moment before it is counted.
    servers.wait_until(lambda: appended() > 3_000_000, "is counted")
    before = appended()
    with (folder / "logs.txt").open("ab") as log:
        log.write(b"y" * 1000)
    wait_until_same(there, local)
    servers.wait_until(lambda: appended() > before, "is counted")
    assert appended() - before == 1000
    api.post("/unified/deactivate_mode", {"mode": "mirror"})
    mirrored()  # knows nothing but the folder
    with (folder / "logs.txt").open("ab") as log:
        log.write(b"z" * 10)
    wait_until_same(there, local)
    servers.wait_until(lambda: appended() > 0, "is counted")
    assert appended() == 10


def test_a_sign_of_life_means_nothing_here(mirrored, there, local):
    """What a sync brings late would have each run ended here that lives there."""
    folder = make_run(there)
    for name in ("status.json", "meta.json"):
        text = json.loads((folder / name).read_text()) | {"hostname": "there", "status": "running"}
        (folder / name).write_text(json.dumps(text))
    heartbeat = folder / heartbeats.name_of({"hostname": "there", "pid": 7})
    heartbeat.write_text(json.dumps({"hostname": "there", "pid": 7}))
    os.utime(heartbeat, (1, 1))
    make_run(there, "p/e/runs/20260101_000000_000002")
    mirrored()
    arrived = local / "p/e/runs/20260101_000000_000002/events.jsonl"
    servers.wait_until(lambda: arrived.exists() and (local / RUN / "events.jsonl").exists(), "here")
    assert not list(local.rglob("heartbeat.*"))


@pytest.mark.parametrize("change", ["shorter", "longer", "same size"])
def test_a_stream_that_was_replaced_is_read_anew(mirrored, there, local, change):
    folder = make_run(there, log=b"old\n" * 1000)
    mirrored()
    wait_until_same(there, local)
    time.sleep(1.1)  # SFTP tells times in seconds
    count = {"shorter": 10, "longer": 2000, "same size": 1000}[change]
    (folder / "logs.txt").unlink()
    (folder / "logs.txt").write_bytes(b"new\n" * count)
    wait_until_same(there, local)


@pytest.mark.slow
def test_a_connection_that_is_cut_twenty_times(mirrored, there, local, server, monkeypatch):
    monkeypatch.setattr(session, "LONGEST_PAUSE", 1)
    folder = make_run(there)
    mirrored()
    wait_until_same(there, local)
    cuts, chance = 0, random.Random(6)
    while cuts < 20:
        for name in ("logs.txt", "events.jsonl"):
            with (folder / name).open("ab") as file:
                file.write(chance.randbytes(chance.randrange(300_000)))
        time.sleep(chance.random() * 0.7)
        listed = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True)
        for child in listed.stdout.split():
            os.kill(int(child), 9)
            cuts += 1
    wait_until_same(there, local, 60)


def test_nothing_of_a_hostile_host_leads_outside(mirrored, api, there, local, tmp_path):
    folder = make_run(there)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (folder / "summary.json").symlink_to(secret)
    (folder / "circle").symlink_to(folder)
    make_run(tmp_path / "elsewhere", "e/runs/20260101_000000_00000d")
    (there / "link").symlink_to(tmp_path / "elsewhere")
    (there / "p/nowhere").symlink_to("nowhere")
    (there / "p/e/runs/20260101_000000_00000e").symlink_to(folder)
    (folder / "back\\slash").write_bytes(b"")
    (folder / "new\nline").write_bytes(b"")
    (folder / os.fsdecode(b"\xff")).write_bytes(b"")
    (folder / "q'uo\"te $(x); `y`").write_bytes(b"kept")
    (there / "artifacts/model/runs/v1").mkdir(parents=True)
    (there / "artifacts/model/runs/v1/a").write_bytes(b"")
    ours = make_run(local, "p/e/runs/20260101_000000_00000b", b"ours")
    make_run(there, "p/e/runs/20260101_000000_00000b", b"theirs")
    mirrored()
    kept = "q'uo\"te $(x); `y`"
    servers.wait_until(lambda: (local / RUN / kept).exists(), "is copied")
    servers.wait_until(lambda: api.get("/ssh/mirror/list")["mirrors"][0]["stats"]["scans"] > 1, "x")
    names = {"meta.json", "status.json", "events.jsonl", "logs.txt", "media", kept}
    assert {path.name for path in (local / RUN).iterdir()} == names
    assert {path.name for path in local.iterdir()} == {"p", ".runicorn"}
    assert (ours / "logs.txt").read_bytes() == b"ours"
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    assert "did not come from there" in task["stats"]["last_error"]


def test_a_local_link_is_not_written_through(mirrored, there, local, tmp_path):
    folder = make_run(there)
    mirrored()
    wait_until_same(there, local)
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    (local / RUN / "logs.txt").unlink()
    (local / RUN / "logs.txt").symlink_to(outside)
    for name in ("logs.txt", "events.jsonl"):
        with (folder / name).open("ab") as file:
            file.write(b"more\n")
    events = local / RUN / "status.json"
    (folder / "status.json").write_text('{"status": "failed"}')
    servers.wait_until(lambda: b"failed" in events.read_bytes(), "goes on")
    assert outside.read_bytes() == b"outside"


@pytest.mark.parametrize(
    "name, is_plain",
    [
        (b"logs.txt", True),
        ("实验".encode(), True),
        (b"..", False),
        (b".", False),
        (b"", False),
        (b"a/b", False),
        (b"../x", False),
        (b"a\\b", False),
        (b"a\nb", False),
        (b"a\0b", False),
        (b"\xff", False),
        (b"x" * 201, False),
    ],
)
def test_which_names_are_one_component_of_a_path(name, is_plain):
    assert (host_tree.plain_name(name) is not None) is is_plain


def test_the_legacy_api(api, server, there, local):
    there.mkdir()
    make_run(there)
    api.trust(server)
    login = login_to(server)
    login["pkey_path"] = login.pop("private_key_path")
    session = api.post("/ssh/connect", login)["session_id"]
    body = {"session_id": session, "remote_root": str(there)}
    task = api.post("/ssh/mirror/start", body)["task"]
    assert task["id"].startswith(f"mirror:{session}:") and task["interval"] == 2
    assert task["local_root"] == str(local)
    wait_until_same(there, local)
    listed = api.get("/ssh/mirror/list")
    assert listed["storage"] == str(local)
    assert [one["id"] for one in listed["mirrors"]] == [task["id"]]
    assert api.post("/ssh/mirror/stop", {"task_id": task["id"]}) == {"ok": True}
    assert api.post("/ssh/mirror/stop", {"task_id": task["id"]}) == {"ok": False}
    api.post("/ssh/mirror/start", body)
    assert api.post("/ssh/close", {"session_id": session}) == {"ok": True}
    assert api.get("/ssh/mirror/list")["mirrors"] == []
    missing = {"detail": f"Session {session} not found"}
    assert api.post("/ssh/mirror/start", body, 404) == missing
    required = "session_id and remote_root are required"
    assert api.post("/ssh/mirror/start", {}, 400)["detail"] == required
    assert api.post("/ssh/mirror/stop", {}, 400)["detail"] == "task_id required"


def test_modes_that_cannot_be(api, server, local):
    connect_first = {"detail": "No active SSH connection"}
    assert api.post("/unified/configure_mode", {"mode": "mirror"}, 400) == connect_first
    for path in ("/unified/configure_mode", "/unified/deactivate_mode"):
        assert api.post(path, {"mode": "x"}, 400)["detail"] == "Unknown mode: x"
        api.post(path, {}, 400)
    api.trust(server)
    api.post("/unified/connect", login_to(server))
    body = {"mode": "mirror"}
    needed = "remote_root is required for mirror mode"
    assert api.post("/unified/configure_mode", body, 400)["detail"] == needed
    body |= {"remote_root": "/x", "mirror_interval": "soon"}
    api.post("/unified/configure_mode", body, 400)
    needed = "remote_root is required for smart mode"
    assert api.post("/unified/configure_mode", {"mode": "smart"}, 400)["detail"] == needed


def test_a_live_run_there_is_live_here(server, there, tmp_path, own_home):
    """Through a whole viewer: from a line written there to the answer here."""
    there.mkdir()
    folder = make_run(there)
    local = tmp_path / "viewer"
    local.mkdir()
    with (
        servers.viewer(local, HOME=str(own_home)) as viewer,
        httpx.Client(base_url=f"{viewer.url}/api", trust_env=False, timeout=30) as http,
    ):
        login = login_to(server)
        host_key = http.post("/unified/connect", json=login).json()["detail"]["host_key"]
        host_key.pop("reason"), host_key.pop("known_hosts_host")
        assert http.post("/remote/known-hosts/accept", json=host_key).status_code == 200
        assert http.post("/unified/connect", json=login).json()["connection_id"].startswith(USER)
        body = {"mode": "mirror", "remote_root": str(there)}
        assert http.post("/unified/configure_mode", json=body).status_code == 200

        def points() -> int:
            answer = http.get(f"/runs/{folder.name}/metrics_step")
            return len(answer.json()["rows"]) if answer.status_code == 200 else 0

        is_here = lambda: http.get(f"/runs/{folder.name}").status_code == 200  # noqa: E731
        servers.wait_until(is_here, "the run is here")
        for number in range(1, 4):
            with (folder / "events.jsonl").open("ab") as events:
                line = {"ts": 1, "type": "metrics", "data": {"a": 1, "global_step": number}}
                events.write(json.dumps(line).encode() + b"\n")
            servers.wait_until(lambda n=number: points() == n, "the point is here", 3)
