"""A real OpenSSH server, a home folder for ourselves, and an API client."""

from __future__ import annotations

import getpass
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from remote.exceptions import RemoteError
from remote.owner import calls, sealing
from remote.ssh import known_hosts
from remote.ssh.connections import pool
from remote.ssh.loop import run
from remote.sync import registry
from tests import servers
from tests.runs.conftest import Root

USER = getpass.getuser()
PASSWORD = "open-sesame-47"


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    with servers.sshd(tmp_path_factory.mktemp("sshd"), kinds=("ed25519", "rsa")) as running:
        yield running


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither the keys nor the hosts of whoever runs the tests count; nothing stays open."""
    config = tmp_path / "config" / "runicorn"
    config.mkdir(parents=True)
    limits = {"settings": {"enable_rate_limiting": False}}
    (config / "rate_limits.json").write_text(json.dumps(limits))
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config.parent))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield home
    for connection in pool.all():
        run(pool.close(*_key(connection)))


def _key(connection: Any) -> tuple[str, int, str]:
    address = connection.address
    return address.host, address.port, address.username


@pytest.fixture(autouse=True)
def as_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the owner is asked, and answers, travels here as it does from a worker to the web."""

    def travelling(function: Any) -> Any:
        def wrapped(**arguments: Any) -> Any:
            try:
                answer = function(**sealing.unseal(sealing.seal(arguments)))
            except RemoteError as error:
                data = sealing.unseal(sealing.seal(error.to_json()))
                raise RemoteError.from_json(data) from error
            return sealing.unseal(sealing.seal(answer))

        return wrapped

    for name, call in calls.CALLS.items():
        monkeypatch.setitem(calls.CALLS, name, call._replace(function=travelling(call.function)))


class Api:
    """The HTTP API, answered in this process."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, path: str, status: int = 200, /, **query: Any) -> Any:
        return self._checked(self.client.get(f"/api{path}", query), status)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.client.post(f"/api{path}", body, content_type="application/json")
        return self._checked(answer, status)

    def _checked(self, answer: Any, status: int) -> Any:
        assert answer.status_code == status, answer.content
        return answer.json()

    def trust(self, server: servers.Sshd, kind: str = "ed25519") -> None:
        """Confirm the key of *server*, as a person would after the 409."""
        login = login_to(server)
        host_key = self.post("/unified/connect", login, 409)["detail"]["host_key"]
        assert host_key["public_key"] == server.host_key(kind)
        names = ("host", "port", "key_type", "public_key", "fingerprint_sha256")
        body = {name: host_key[name] for name in names}
        assert self.post("/remote/known-hosts/accept", body) == {"ok": True}


def login_to(server: servers.Sshd, **changes: Any) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": server.port,
        "username": USER,
        "private_key_path": str(server.key),
        "use_agent": False,
        **changes,
    }


@pytest.fixture
def password_host():
    """A host that lets ``someone`` in with PASSWORD, its key confirmed. OpenSSH would need an
    account of the machine's for this."""

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username):
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return (username, password) == ("someone", PASSWORD)

    key = asyncssh.generate_private_key("ssh-ed25519")

    async def listen():
        return await asyncssh.create_server(Server, "127.0.0.1", 0, server_host_keys=[key])

    async def close():
        listening.close()
        await listening.wait_closed()

    listening = run(listen())
    port = listening.get_port()
    known_hosts.accept("127.0.0.1", port, key.convert_to_public())
    yield {"host": "127.0.0.1", "port": port, "username": "someone"}
    run(close())


@pytest.fixture
def as_owner(client):
    """Requests are those of the person at the machine: sent to a loopback name."""
    client.defaults["SERVER_NAME"] = "localhost"


@pytest.fixture
def api(client, db, as_owner) -> Api:
    return Api(client)


# -- viewers there ---------------------------------------------------------------------------------

ROOT = "~/it's $HOME; runs"


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """A host whose ``python3`` has our package, and runs in its home folder."""
    folder = tmp_path_factory.mktemp("gpu")
    programs = folder / "home" / "bin"
    programs.mkdir(parents=True)
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    root = Root(folder / "home" / "it's $HOME; runs")
    root.path.mkdir()
    root.run("demo", "there").write("status.json", {"status": "finished"})
    with servers.sshd(folder, path=f"{programs}:/usr/bin:/bin") as running:
        yield running


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A server of its own process."""
    folder = tmp_path_factory.mktemp("real")
    with servers.viewer(folder / "root", HOME=str(folder)) as server:
        yield server


# -- syncing ---------------------------------------------------------------------------------------

RUN = "p/e/runs/20260101_000000_000001"


@pytest.fixture
def local(tmp_path, settings):
    settings.RUNICORN_STORAGE_ROOT = tmp_path / "local"
    settings.RUNICORN_STORAGE_ROOT.mkdir()
    return settings.RUNICORN_STORAGE_ROOT


@pytest.fixture
def server(request, tmp_path):
    """Its parameter: where commands are found that are run there."""
    path = getattr(request, "param", "/usr/bin:/bin").format(tmp_path=tmp_path)
    with servers.sshd(tmp_path / "sshd", path=path) as running:
        yield running


@pytest.fixture
def sftp(server):
    from .blocking import Blocking

    client = Blocking(server)
    yield client
    client.close()


@pytest.fixture
def there(server):
    return server.home / "storage"


@pytest.fixture
def mirrored(api, server, there, local):
    """Started over the unified API; stopped whatever happens."""
    there.mkdir()
    api.trust(server)
    api.post("/unified/connect", login_to(server))
    yield lambda: api.post(
        "/unified/configure_mode",
        {"mode": "mirror", "remote_root": "~/storage", "mirror_interval": 0.5},
    )
    run(registry.stop_all("unified"))


@pytest.fixture
def smart(api, server, there, local):
    there.mkdir()
    api.trust(server)
    api.post("/unified/connect", login_to(server))

    def start(**options):
        body = {"mode": "smart", "remote_root": "~/storage", "sync_interval_seconds": 0.5}
        return api.post("/unified/configure_mode", body | options)

    yield start
    run(registry.stop_all("unified"))


def make_run(there: Path, run: str = RUN, log: bytes = b"one\n") -> Path:
    folder = there / run
    (folder / "media").mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"id": folder.name}))
    (folder / "status.json").write_text(json.dumps({"status": "running"}))
    (folder / "events.jsonl").write_bytes(b'{"type": "metrics", "data": {"a": 1}}\n')
    (folder / "logs.txt").write_bytes(log)
    (folder / "media/a.png").write_bytes(b"\x89PNG")
    return folder


def files(root: Path) -> dict[str, bytes]:
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and ".runicorn" not in path.relative_to(root).parts:
            with suppress(FileNotFoundError):  # a temporary one, gone meanwhile
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


def wait_until_same(there: Path, local: Path, seconds: float = 30) -> None:
    def differing() -> list[str]:
        ours, theirs = files(local), files(there)
        return [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]

    try:
        servers.wait_until(lambda: not differing(), "is the same", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {differing()}") from None
