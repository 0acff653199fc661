"""Viewers on a host: our real viewer, started by a real OpenSSH server, seen through a tunnel."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from remote.ssh.loop import run
from remote.viewer import viewers
from runicorn import layout
from tests import servers
from tests.packaging.test_documents import blocks

from .conftest import ROOT, USER, Api, login_to

pytestmark = pytest.mark.servers


@pytest.fixture
def connected(api: Api, gpu: servers.Sshd):
    api.trust(gpu)
    api.post("/remote/connect", login_to(gpu))
    yield api
    for session in viewers.sessions():
        run(viewers.stop(session.id))


def start(api: Api, gpu: servers.Sshd, status: int = 200, /, **changes: Any) -> Any:
    body = {**login_to(gpu), "remote_root": ROOT, **changes}
    return api.post("/remote/viewer/start", body, status)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_viewer_from_start_to_stop(connected, gpu):
    answer = start(connected, gpu)
    session = answer["session"]
    port = session["localPort"]
    assert answer["message"] == f"Remote Viewer ready at http://localhost:{port}"
    assert session["status"] == "running" and session["isActive"] is True
    assert session["remoteRoot"] == ROOT and session["sshPort"] == gpu.port
    assert 8080 <= session["remotePort"] <= 8999 and is_alive(session["remotePid"])

    def names() -> list[str]:
        runs = httpx.get(f"{session['url']}/api/runs", trust_env=False).json()
        return [one["name"] for one in runs]

    # It is ready when it answers; what is there is indexed after that.
    servers.wait_until(lambda: names() == ["there"], "the run over there")
    assert (gpu.home / "it's $HOME; runs" / layout.SERVER_DIR).is_dir()

    (listed,) = connected.get("/remote/viewer/sessions")["sessions"]
    assert listed["sessionId"] == session["sessionId"]
    shown = connected.get(f"/remote/viewer/status/{session['sessionId']}")
    assert shown["healthy"] is True and shown["uptimeSeconds"] > 0
    assert connected.get("/remote/status")["viewer_session_count"] == 1

    stopped = connected.post("/remote/viewer/stop", {"session_id": session["sessionId"]})
    assert stopped == {"ok": True, "message": f"Session {session['sessionId']} stopped"}
    assert not is_alive(session["remotePid"])
    assert not servers.accepts(port)
    connected.get(f"/remote/viewer/status/{session['sessionId']}", 404)
    connected.post("/remote/viewer/stop", {"session_id": session["sessionId"]}, 404)


def test_a_viewer_that_is_killed_there_is_marked_and_started_again(connected, gpu):
    ports = {"local_port": servers.free_port(), "remote_port": servers.free_port()}
    session = start(connected, gpu, **ports)["session"]
    assert (session["localPort"], session["remotePort"]) == tuple(ports.values())
    start(connected, gpu, 400, local_port=ports["local_port"])  # the port is taken

    os.kill(session["remotePid"], signal.SIGKILL)
    address = f"/remote/viewer/status/{session['sessionId']}"
    servers.wait_until(lambda: connected.get(address)["status"] == "stopped", "is marked")
    shown = connected.get(address)
    assert (shown["isActive"], shown["healthy"]) == (False, False)
    assert shown["lastError"].startswith("The viewer ended there (-9)")
    assert connected.get("/remote/viewer/sessions") == {"sessions": []}
    assert not servers.accepts(ports["local_port"])

    again = run(viewers.restart(viewers.get(session["sessionId"])))
    assert run(again.is_healthy())


def test_one_that_hangs_is_not_healthy_and_disconnecting_ends_it(connected, gpu, monkeypatch):
    monkeypatch.setattr(viewers, "HEALTH_SECONDS", 1)
    session = start(connected, gpu)["session"]
    os.kill(session["remotePid"], signal.SIGSTOP)
    assert connected.get(f"/remote/viewer/status/{session['sessionId']}")["healthy"] is False
    os.kill(session["remotePid"], signal.SIGCONT)
    body = {name: login_to(gpu)[name] for name in ("host", "port", "username")}
    assert connected.post("/remote/disconnect", body)["ok"] is True
    assert connected.get("/remote/viewer/sessions") == {"sessions": []}
    servers.wait_until(lambda: not is_alive(session["remotePid"]), "ends")


def test_what_is_missing_is_said(connected, gpu, tmp_path, api):
    assert start(connected, gpu, 404, remote_root="~/nowhere")["detail"] == (
        "Failed to start Remote Viewer: There is no folder ~/nowhere on the host"
    )
    assert (
        "Environment 'other' not found" in start(connected, gpu, 400, conda_env="other")["detail"]
    )
    python = gpu.home / "bin" / "python3"
    hidden = python.rename(python.with_name("hidden"))
    try:
        # The machine's own Python, which does not know us.
        assert shutil.which("python3", path="/usr/bin:/bin")
        detail = start(connected, gpu, 400)["detail"]
        assert "runicorn not installed on remote server. Install it there" in detail
        assert "-m pip install 'runicorn[viewer]'" in detail
    finally:
        hidden.rename(python)
    assert connected.get("/remote/viewer/sessions") == {"sessions": []}


def test_what_a_host_has(connected, gpu):
    for name in ("plain", "$(touch crept)", "it's"):  # the last two are passed over
        folder = gpu.home / ".virtualenvs" / name / "bin"
        folder.mkdir(parents=True)
        shutil.copy(gpu.home / "bin" / "python3", folder / "python")
    identifier = connected.get("/remote/sessions")["sessions"][0]["key"]
    envs = connected.get("/remote/conda-envs", connection_id=identifier)["envs"]
    assert envs[0]["name"] == "system" and envs[0]["is_default"] is True
    assert [env["name"] for env in envs if env["type"] == "venv"] == ["plain"]
    assert not list(gpu.home.rglob("crept"))
    assert envs[0]["path"] == str(gpu.home / "bin" / "python3")
    assert envs[0]["python_version"] == ".".join(map(str, sys.version_info[:3]))
    found = connected.get("/remote/config", connection_id=identifier)
    assert found["condaEnv"] == "system" and found["runicornVersion"]
    assert found["defaultStorageRoot"] == str(gpu.home / ".runicorn")
    assert found["storageRootExists"] is False
    assert 8080 <= found["suggestedRemotePort"] <= 8999
    unknown = connected.get("/remote/config", 404, connection_id=identifier, conda_env="x")
    assert unknown["detail"].startswith("Environment 'x' not found.")
    connected.get("/remote/config", 400, connection_id="nothing")
    connected.get("/remote/conda-envs", 404, connection_id="a@b:22")


def test_a_hanging_host_stalls_no_other_request(real):
    """Several logins wait for a host that says nothing; pages and runs do not wait with them."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login = {"host": "127.0.0.1", "port": silent.getsockname()[1], "username": "someone"}
        answers: list[int] = []

        def connect() -> None:
            url = f"{real.url}/api/remote/connect"
            answers.append(httpx.post(url, json=login, trust_env=False, timeout=60).status_code)

        waiting = [threading.Thread(target=connect) for _ in range(12)]
        for thread in waiting:
            thread.start()
        peer, _ = silent.accept()  # at least one has arrived there
        for path in ("/api/runs", "/api/health", "/api/remote/sessions", "/remote"):
            assert httpx.get(f"{real.url}{path}", trust_env=False).status_code == 200
        assert answers == []  # all of them still wait
        peer.close()
    # Closing ends those that wait in its queue; nobody is there for the others.
    for thread in waiting:
        thread.join()
    assert answers == [400] * 12


def test_the_documents_script_shows_a_hosts_runs(gpu, real, capsys):
    home = real.storage.parent
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text(
        f"Host gpu-a100\n HostName 127.0.0.1\n Port {gpu.port}\n IdentityFile {gpu.key}\n"
    )
    (gpu.home / "experiments").mkdir()
    login = {"host": "gpu-a100", "port": 22, "username": USER}  # 22: what clients send by default
    host_key = post(real, "/remote/connect", login)["detail"]["host_key"]
    assert post(real, "/remote/known-hosts/accept", host_key) == {"ok": True}
    script, *_ = (b for b in blocks("docs/remote.md", "python") if "start_viewer" in b)
    script = script.replace("connect()", f"connect({real.url!r})").replace('"me"', repr(USER))
    names: dict[str, Any] = {}
    exec(script, names)
    names["client"].close()
    assert capsys.readouterr().out.startswith("Look at http://localhost:")
    assert post(real, "/remote/viewer/stop", {"session_id": "x"})["detail"]
    left = {path.name for path in (gpu.home / "experiments").iterdir()}
    assert left <= {layout.SERVER_DIR, layout.RUNS}


def post(server: servers.Viewer, path: str, body: Any) -> Any:
    answer = httpx.post(f"{server.url}/api{path}", json=body, trust_env=False, timeout=60)
    return answer.json()


def test_our_crash_leaves_nothing_on_the_host(gpu, real):
    """The server is killed with ``kill -9``; neither the viewer nor its supervisor stays."""
    host_key = post(real, "/remote/connect", login_to(gpu))["detail"]["host_key"]
    assert post(real, "/remote/known-hosts/accept", host_key) == {"ok": True}
    body = {**login_to(gpu), "remote_root": ROOT}
    viewer = post(real, "/remote/viewer/start", body)["session"]["remotePid"]
    supervisor = int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(viewer)]))
    pids = [viewer, supervisor]
    assert all(map(is_alive, pids))
    real.process.kill()
    servers.wait_until(lambda: not any(map(is_alive, pids)), "nothing is left")
