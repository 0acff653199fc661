"""Logging in to a real OpenSSH server: keys, agent, jump hosts, and what goes wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time

import asyncssh
import pytest

from core.http import rate_limits
from remote.ssh import known_hosts, transport
from tests import servers

from .conftest import PASSWORD, USER, login_to

pytestmark = pytest.mark.servers


def test_a_connection_from_beginning_to_end(api, sshd):
    api.trust(sshd)
    answer = api.post("/unified/connect", login_to(sshd))
    identity = f"{USER}@127.0.0.1:{sshd.port}"
    assert answer.pop("connected_at") == pytest.approx(time.time(), abs=10)
    assert answer == {
        "ok": True,
        "status": "connected",
        "message": "Successfully connected to 127.0.0.1",
        "connected": True,
        "connection_id": identity,
        "host": "127.0.0.1",
        "port": sshd.port,
        "username": USER,
        "reference_count": 1,
        "keepalive_seconds": 15,
        "compression_enabled": True,
        "stats": {"reconnect_count": 0, "last_error": None},
    }
    status = api.get("/unified/status")
    assert status["connected"] is True and status["connection_id"] == identity
    assert 0 <= status["connection"]["uptime_seconds"] < 60
    assert status["mirror_mode"] == status["smart_mode"] == {"active": False}
    done = {"ok": True, "message": "Disconnected successfully"}
    assert api.post("/unified/disconnect") == done
    none = {"ok": True, "message": "No active connection"}
    assert api.post("/unified/disconnect") == none
    inactive = {"active": False}
    assert api.get("/unified/status") == {
        "connection": {"connected": False},
        "connected": False,
        "connection_id": None,
        "smart_mode": inactive,
        "mirror_mode": inactive,
        "modes": {"smart": inactive, "mirror": inactive},
    }


def test_a_key_with_a_passphrase_and_a_key_as_text(api, sshd, tmp_path):
    api.trust(sshd)
    key = asyncssh.read_private_key(sshd.key)
    locked = key.export_private_key("openssh", passphrase="secret").decode()
    login = login_to(sshd, private_key_path=None, private_key=locked, passphrase="secret")
    api.post("/unified/connect", login)
    bad_key = {"detail": "Invalid private key format or passphrase"}
    assert api.post("/unified/connect", {**login, "passphrase": "wrong"}, 400) == bad_key
    assert api.post("/unified/connect", {**login, "private_key": "no key"}, 400) == bad_key
    missing = login_to(sshd, private_key_path=str(tmp_path / "missing"))
    assert api.post("/unified/connect", missing, 400) == bad_key


def test_an_open_connection_is_not_lent_to_whoever_cannot_log_in(api, sshd):
    api.trust(sshd)
    api.post("/unified/connect", login_to(sshd))
    guess = login_to(sshd, private_key_path=None, password="guess")
    answer = api.post("/unified/connect", guess, 401)
    assert answer["detail"].startswith("Authentication failed: Permission denied")
    assert api.get("/unified/status")["connected"] is True


def test_the_agent_is_asked_only_if_it_may_be(api, sshd, monkeypatch, tmp_path):
    api.trust(sshd)
    sock = tmp_path / "agent"
    with servers.process(["ssh-agent", "-D", "-a", sock], tmp_path / "log", sock.exists):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        subprocess.run(["ssh-add", "-q", sshd.key], check=True)
        nothing = login_to(sshd, private_key_path=None)
        api.post("/unified/connect", nothing, 401)
        api.post("/unified/connect", {**nothing, "use_agent": True})


def test_an_alias_with_a_jump_host(api, sshd, own_home, tmp_path):
    """The host behind is reached through the other, whose key has to be confirmed as well."""
    with servers.sshd(tmp_path / "behind") as behind:
        (own_home / ".ssh/config").write_text(
            f"Host gpu\n HostName 127.0.0.1\n Port {behind.port}\n ProxyJump bastion\n"
            f"Host bastion\n HostName 127.0.0.1\n Port {sshd.port}\n User {USER}\n"
            f"Host *\n IdentityFile {sshd.key}\n IdentityFile {behind.key}\n"
        )
        login = {"host": "gpu", "username": USER}
        confirmed = []
        for name, server in (("bastion", sshd), ("gpu", behind)):
            host_key = api.post("/unified/connect", login, 409)["detail"]["host_key"]
            assert (host_key["host"], host_key["port"]) == (name, server.port)
            assert host_key["public_key"] == server.host_key()
            known_hosts.accept(name, server.port, asyncssh.import_public_key(server.host_key()))
            confirmed.append(name)
        (behind.home / "there").mkdir()
        assert api.post("/unified/connect", login)["connection_id"] == f"{USER}@gpu:{behind.port}"
        assert [i["name"] for i in api.get("/unified/listdir")["items"]] == ["there"]


def test_a_password_is_enough(api, own_home, password_host):
    login = {**password_host, "use_agent": False}
    api.post("/unified/connect", {**login, "password": PASSWORD})
    api.post("/unified/connect", {**login, "password": "other"}, 401)
    assert PASSWORD not in repr(transport.Credentials(password=PASSWORD))
    assert not is_written(PASSWORD, own_home.parent)


def is_written(secret, folder):
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return secret.encode() in b"".join(files)


def test_a_saved_connection_is_named_and_its_secrets_stay_here(
    api, own_home, password_host, caplog
):
    saved = {**password_host, "name": "gpu box", "auth_method": "password", "password": PASSWORD}
    forgotten = api.post("/config/ssh_connections", saved)["key"]
    api.post("/unified/connect", {"saved": forgotten}, 401)  # nobody asked to keep the password
    api.post("/unified/connect", {"saved": forgotten, "password": PASSWORD})
    api.post("/remote/disconnect", password_host)

    api.post("/config/ssh_connections", {**saved, "remember_password": True})
    for path in ("/unified/connect", "/ssh/connect", "/remote/connect"):
        answer = api.client.post(f"/api{path}", {"saved": "gpu box"}, "application/json")
        assert answer.status_code == 200, answer.content
        assert PASSWORD.encode() not in answer.content
    # The password goes to the host it was saved for, whatever else the request says.
    evil = {"saved": "gpu box", "host": "127.0.0.2", "port": 1, "username": "other"}
    assert api.post("/remote/connect", evil)["host"] == "127.0.0.1"
    api.post("/remote/connect", {"saved": "unknown"}, 404)
    assert not is_written(PASSWORD, own_home.parent)

    listed = api.get("/remote/connections/saved")["connections"]
    assert [(one["name"], one["has_password"]) for one in listed] == [("gpu box", True)]
    shown = [api.get(p) for p in ("/unified/status", "/remote/status", "/remote/sessions")]
    processes = subprocess.check_output(["ps", "axeww"], text=True)
    assert PASSWORD not in repr([listed, *shown, caplog.text, processes])
    # What was listed can be sent back; the password that was not shown is not lost by that.
    assert api.post("/remote/connections/saved", [{**listed[0], "name": "renamed"}])["ok"] is True
    api.post("/remote/disconnect", password_host)
    api.post("/remote/connect", {"saved": "renamed"})
    assert api.post("/remote/connections/saved", [])["ok"] is True
    assert api.get("/config/ssh_connections") == {"connections": []}
    for wrong in ({}, ["x"], [{"host": "h"}]):
        api.post("/remote/connections/saved", wrong, 400)


def test_keys_of_this_machine_and_saved_connections_are_the_owners_alone(
    api, own_home, password_host, sshd
):
    body = {**password_host, "name": "box", "remember_password": True, "password": PASSWORD}
    api.post("/config/ssh_connections", body)
    api.trust(sshd)
    (own_home / ".ssh/config").write_text(f"Host *\n IdentityFile {sshd.key}\n")
    default_keys = login_to(sshd, private_key_path=None, use_agent=True)
    api.post("/ssh/connect", default_keys)
    api.post("/remote/disconnect", default_keys)
    api.client.defaults["REMOTE_ADDR"] = "192.0.2.1"
    for path in ("/unified/connect", "/ssh/connect", "/remote/connect"):
        api.post(path, {"saved": "box"}, 403)
        key_file = login_to(sshd)
        api.post(path, {**key_file, "pkey_path": key_file["private_key_path"]}, 403)
        api.post(path, default_keys, 401)
        api.post(path, {**password_host, "password": PASSWORD})


def test_guessing_ends_after_five_refusals(api, own_home, password_host, sshd, monkeypatch):
    (own_home.parent / "config/runicorn/rate_limits.json").unlink()
    monkeypatch.setattr(rate_limits, "policy_file", rate_limits.PolicyFile())
    login = {**password_host, "use_agent": False, "remote_root": "/", "password": "guess"}
    for _ in range(5):
        api.post("/remote/viewer/start", login, 401)
    body = json.dumps({**login, "remote_root": None, "pkey": None, "password": PASSWORD})
    refused = api.client.post("/api/ssh/connect", body, "application/json")
    assert refused.status_code == 429
    assert refused.json()["detail"] == "Rate limit exceeded"
    assert 0 < int(refused["Retry-After"]) == refused.json()["retry_after"] <= 60
    api.trust(sshd)  # another host is another matter
    api.post("/unified/connect", login_to(sshd))


def test_several_hosts_at_once(api, sshd, tmp_path):
    with servers.sshd(tmp_path / "other") as other:
        for number, server in enumerate((sshd, other)):
            api.trust(server)
            (server.home / f"host-{number}").mkdir()
            identifier = api.post("/remote/connect", login_to(server))["connection_id"]
            assert identifier.endswith(f":{server.port}")
        assert api.get("/remote/status")["connection_count"] == 2
        for number, session in enumerate(api.get("/remote/sessions")["sessions"]):
            listed = api.get("/remote/fs/list", connection_id=session["key"])["items"]
            assert f"host-{number}" in [item["name"] for item in listed]


def test_nobody_there(api):
    port = servers.free_port()
    login = {"host": "127.0.0.1", "port": port, "username": "someone"}
    detail = f"Unexpected error: [Errno None] Unable to connect to port {port} on 127.0.0.1"
    assert api.post("/unified/connect", login, 400) == {"detail": detail}


def test_a_server_that_says_nothing_holds_up_nobody_else(api, sshd, monkeypatch):
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login = {"host": "127.0.0.1", "port": silent.getsockname()[1], "username": "someone"}
        login["use_agent"] = False  # needs no look at the user, in another thread's database
        answers = []

        def connect():
            answers.append(api.post("/unified/connect", login, 408))

        waiting = threading.Thread(target=connect)
        waiting.start()
        api.trust(sshd)
        api.post("/remote/connect", login_to(sshd))
        assert waiting.is_alive()
        waiting.join()
    assert answers == [{"detail": "Connection failed: Connection timed out"}]


def test_a_server_that_speaks_no_ssh(api):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            peer, _ = other.accept()
            with peer:
                peer.sendall(b"SSH-2.0-x\r\nthis is no key exchange" + os.urandom(100))
                peer.recv(4096)

        threading.Thread(target=answer, daemon=True).start()
        login = {"host": "127.0.0.1", "port": other.getsockname()[1], "username": "someone"}
        answer = api.post("/unified/connect", login, 500)
    assert answer["detail"].startswith("SSH connection failed: ")


@pytest.mark.parametrize(
    "change",
    [
        {"host": ""},
        {"host": "a b"},
        {"host": "-oProxyCommand=x"},
        {"host": "$(reboot)"},
        {"host": "a\nb"},
        {"username": "a;b"},
        {"username": None},
        {"port": 0},
        {"port": "x"},
    ],
)
def test_names_that_could_mean_more_are_refused(api, change):
    body = {"host": "h", "username": "u", **change}
    (error,) = api.post("/unified/connect", body, 400)["errors"]
    assert error["loc"] == ["body", *change]


def test_a_connection_that_was_cut_is_seen_and_opened_again(api, tmp_path):
    with servers.sshd(tmp_path / "sshd") as server:
        api.trust(server)
        api.post("/unified/connect", login_to(server))
        children = subprocess.check_output(["pgrep", "-P", str(server.process.pid)], text=True)
        for child in children.split():
            os.kill(int(child), 9)
        servers.wait_until(lambda: not api.get("/unified/status")["connected"], "is seen")
        no_connection = {"detail": "No active SSH connection. Please connect first."}
        assert api.get("/unified/listdir", 400) == no_connection
        assert api.post("/unified/connect", login_to(server))["stats"]["reconnect_count"] == 1
        api.get("/unified/listdir")
