"""``client.remote``: runs on other machines, seen through SSH."""

from __future__ import annotations

from typing import Any

from . import _requests as http
from ._calls import JSON, Client
from ._steps import Awaiting, Blocking, Steps, awaiting, blocking
from .artifacts import _Extension
from .exceptions import NotFoundError
from .models import SESSION_NAMES

_SSH_PORT = 22


class _Remote(Client):
    credentials: dict[str, JSON]


def connect(
    self: _Remote,
    host: str,
    port: int = _SSH_PORT,
    username: str | None = None,
    password: str | None = None,
    private_key_path: str | None = None,
    passphrase: str | None = None,
) -> Steps[JSON]:
    """Open an SSH connection from the server to *host*; its ``connection_id``."""
    given = {
        "host": host,
        "port": port,
        "username": username,
        "password": password,
        "private_key_path": private_key_path,
        "passphrase": passphrase,
    }
    body = {key: value for key, value in given.items() if value is not None}
    answer: JSON = yield from http.post(self, "/api/remote/connect", body)
    # Starting a viewer asks for them again; they never leave this process otherwise.
    self.credentials[answer.get("connection_id", f"{username}@{host}:{port}")] = body
    return answer


def disconnect(
    self: _Remote, host: str, port: int = _SSH_PORT, username: str | None = None
) -> Steps[JSON]:
    """Close a connection; *username* may be left out if only one to *host* is open."""
    if username is None:
        username = (yield from _session(self, host, port))["username"]
    self.credentials.pop(f"{username}@{host}:{port}", None)
    body = {"host": host, "port": port, "username": username}
    return (yield from http.expect_object(http.post(self, "/api/remote/disconnect", body)))


def list_sessions(self: Client) -> Steps[list[JSON]]:
    """The open SSH connections of the server."""
    answer = yield from http.get(self, "/api/remote/sessions")
    sessions: list[JSON] = answer["sessions"]
    return sessions


def start_viewer(
    self: _Remote,
    connection_id: str,
    remote_root: str,
    local_port: int | None = None,
    remote_port: int | None = None,
) -> Steps[JSON]:
    """Start a viewer on the other machine and a tunnel to it; look at its ``local_url``.

    *connection_id*: ``user@host:port``, or the host of an open connection.
    """
    user, host, port = yield from _connection(self, connection_id)
    body = {
        **self.credentials.get(f"{user}@{host}:{port}", {}),
        "host": host,
        "port": port,
        "username": user,
        "remote_root": remote_root,
        "local_port": local_port,
        "remote_port": remote_port,
    }
    answer = yield from http.post(self, "/api/remote/viewer/start", body)
    return _flat(answer["session"])


def stop_viewer(self: Client, session_id: str) -> Steps[JSON]:
    """Stop a viewer on another machine and its tunnel."""
    return (
        yield from http.expect_object(
            http.post(self, "/api/remote/viewer/stop", {"session_id": session_id})
        )
    )


def list_viewer_sessions(self: Client) -> Steps[list[JSON]]:
    """The viewers on other machines that run now."""
    answer = yield from http.get(self, "/api/remote/viewer/sessions")
    return [_flat(session) for session in answer["sessions"]]


def list_remote_directory(self: Client, connection_id: str, path: str = "~") -> Steps[list[JSON]]:
    """``{"name", "is_dir", "size" (bytes), "mtime"}`` of what is in a folder there."""
    params = {"connection_id": connection_id, "path": path}
    answer = yield from http.get(self, "/api/remote/fs/list", params)
    items: list[JSON] = answer["items"]
    return items


def check_remote_path(self: Client, connection_id: str, path: str) -> Steps[bool]:
    """Whether there is such a file or folder there."""
    params = {"connection_id": connection_id, "path": path}
    answer = yield from http.get(self, "/api/remote/fs/exists", params)
    return bool(answer["exists"])


def get_remote_status(self: Client) -> Steps[JSON]:
    """The open connections and viewers, with their numbers."""
    return (yield from http.expect_object(http.get(self, "/api/remote/status")))


def _connection(self: _Remote, connection_id: str) -> Steps[tuple[str, str, int]]:
    user, at, address = connection_id.partition("@")
    if at:
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal():
            return user, host, int(port)
        return user, address, _SSH_PORT
    session = yield from _session(self, connection_id)
    return session["username"], session["host"], int(session["port"])


def _session(self: Client, host: str, port: int | None = None) -> Steps[JSON]:
    for session in (yield from list_sessions(self)):
        if session["host"] == host and port in (None, session["port"]):
            return session
    raise NotFoundError(f"Resource not found: no open connection to {host}", status_code=404)


def _flat(session: JSON) -> JSON:
    """*session* with its members in snake case too."""
    flat: dict[str, Any] = {
        snake: session[camel] for snake, camel in SESSION_NAMES.items() if camel in session
    }
    started = session.get("startedAt")  # milliseconds
    address = f"{session.get('username')}@{session.get('host')}:{session.get('sshPort')}"
    return {
        **session,
        **flat,
        "connection_id": session.get("connection_id", address),
        "created_at": started / 1000 if isinstance(started, int | float) else 0,
        "local_url": f"http://localhost:{flat.get('local_port', 0)}",
    }


class _RemoteExtension(_Extension):
    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.credentials: dict[str, JSON] = {}


class RemoteAPI(_RemoteExtension):
    """SSH connections of a server and the viewers behind them."""

    _transport: Blocking

    connect = blocking(connect)
    disconnect = blocking(disconnect)
    list_sessions = blocking(list_sessions)
    start_viewer = blocking(start_viewer)
    stop_viewer = blocking(stop_viewer)
    list_viewer_sessions = blocking(list_viewer_sessions)
    list_remote_directory = blocking(list_remote_directory)
    check_remote_path = blocking(check_remote_path)
    get_remote_status = blocking(get_remote_status)


class AsyncRemoteAPI(_RemoteExtension):
    """The same, asynchronously."""

    _transport: Awaiting

    connect = awaiting(connect)
    disconnect = awaiting(disconnect)
    list_sessions = awaiting(list_sessions)
    start_viewer = awaiting(start_viewer)
    stop_viewer = awaiting(stop_viewer)
    list_viewer_sessions = awaiting(list_viewer_sessions)
    list_remote_directory = awaiting(list_remote_directory)
    check_remote_path = awaiting(check_remote_path)
    get_remote_status = awaiting(get_remote_status)
