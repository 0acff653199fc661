"""``client.remote``: runs on other machines, seen through SSH."""

from __future__ import annotations

from typing import Any

from . import _requests as http
from ._calls import JSON, Client
from ._steps import Awaiting, Blocking, Request, Steps, awaiting, blocking
from .artifacts import _Extension
from .exceptions import BadRequestError, NotFoundError
from .models import session_members

_SSH_PORT = 22

CONNECT_TIMEOUT_S = 60.0
"""A server waits for a host, and for each jump host before it."""

START_TIMEOUT_S = 180.0
"""A viewer on a slow host takes its time to come up."""


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
    """Open an SSH connection from the server to *host*; its ``connection_id``.

    Without a password or key the server tries its owner's agent and key files. A host whose key
    has not been confirmed is refused with status 409: look at ``error.detail["host_key"]``, give it
    to :func:`accept_host_key` if it is the right one, and connect again. Wrong credentials raise
    AuthenticationError.
    """
    given = {
        "host": host,
        "port": port,
        "username": username,
        "password": password,
        "private_key_path": private_key_path,
        "passphrase": passphrase,
    }
    body = {key: value for key, value in given.items() if value is not None}
    answer: JSON = yield from _post(self, "/api/remote/connect", body, CONNECT_TIMEOUT_S)
    # Starting a viewer asks for them again; they never leave this process otherwise.
    self.credentials[answer.get("connection_id", f"{username}@{host}:{port}")] = body
    return answer


def disconnect(
    self: _Remote, host: str, port: int = _SSH_PORT, username: str | None = None
) -> Steps[JSON]:
    """Close a connection; *username* may be left out if only one to *host* is open."""
    if username is None:
        session = yield from _session(self, host, None if port == _SSH_PORT else port)
        username, port = session["username"], session["port"]
    for identifier, login in list(self.credentials.items()):
        if (login["host"], login.get("username")) == (host, username) and (
            port == _SSH_PORT or identifier.endswith(f":{port}")  # 22 may mean a configured one
        ):
            del self.credentials[identifier]
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

    *connection_id*: ``user@host:port``, or the host of an open connection. *remote_root*: the
    storage folder there; ``~`` is the home folder. Ports are chosen where none are given.
    """
    user, host, port = yield from _connection(self, connection_id)
    identifier = f"{user}@{host}:{port}"
    # An original server logs in anew; ours takes the connection that another client has opened.
    login = self.credentials.get(identifier, {"connection_id": identifier})
    body = {
        "host": host,
        "port": port,
        "username": user,
        **login,
        "remote_root": remote_root,
        "local_port": local_port,
        "remote_port": remote_port,
    }
    answer = yield from _post(self, "/api/remote/viewer/start", body, START_TIMEOUT_S)
    return session_members({"connection_id": identifier, **answer["session"]})


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
    return [session_members(session) for session in answer["sessions"]]


def list_remote_directory(self: Client, connection_id: str, path: str = "~") -> Steps[list[JSON]]:
    """``{"name", "is_dir", "size" (bytes), "mtime"}`` of what is in a folder there, hidden
    entries too, folders first."""
    params = {"connection_id": (yield from _identifier(self, connection_id)), "path": path}
    answer = yield from http.get(self, "/api/remote/fs/list", params)
    items: list[JSON] = answer["items"]
    return items


def list_remote_storage_candidates(
    self: Client,
    connection_id: str,
    conda_env: str | None = None,
    scan_root: str | None = None,
    max_depth: int = 3,
) -> Steps[list[JSON]]:
    """Return the folders there that look like storage folders, the likeliest first, each with
    ``path``, ``run_count`` and ``score``.

    They are looked for at most *max_depth* below *scan_root*, the home folder by default. Needs a
    server of version 0.7 or later.
    """
    params = {
        "connection_id": (yield from _identifier(self, connection_id)),
        "conda_env": conda_env,
        "scan_root": scan_root,
        "max_depth": max_depth,
    }
    answer = yield from http.get(self, "/api/remote/storage-candidates", params)
    candidates: list[JSON] = answer["candidates"]
    return candidates


def check_remote_path(self: Client, connection_id: str, path: str) -> Steps[bool]:
    """Return whether there is such a file or folder there."""
    params = {"connection_id": (yield from _identifier(self, connection_id)), "path": path}
    answer = yield from http.get(self, "/api/remote/fs/exists", params)
    return bool(answer["exists"])


def get_remote_status(self: Client) -> Steps[JSON]:
    """The open connections and viewers, with their numbers."""
    return (yield from http.expect_object(http.get(self, "/api/remote/status")))


def accept_host_key(self: Client, host_key: JSON) -> Steps[JSON]:
    """Trust a host's key from now on: the ``host_key`` of the refusal, once a person agreed."""
    names = ("host", "port", "key_type", "public_key", "fingerprint_sha256")
    body = {name: host_key.get(name) for name in names}
    address = "/api/remote/known-hosts/accept"
    return (yield from http.expect_object(http.post(self, address, body)))


def list_host_keys(self: Client) -> Steps[list[JSON]]:
    """The host keys that are trusted."""
    answer = yield from http.get(self, "/api/remote/known-hosts/list")
    entries: list[JSON] = answer["entries"]
    return entries


def remove_host_key(self: Client, host: str, key_type: str, port: int = _SSH_PORT) -> Steps[bool]:
    """Trust a host's key of that type no longer; whether it was trusted."""
    body = {"host": host, "port": port, "key_type": key_type}
    answer = yield from http.post(self, "/api/remote/known-hosts/remove", body)
    return bool(answer["changed"])


def _post(self: Client, address: str, body: JSON, timeout_s: float) -> Steps[Any]:
    """A POST that waits longer than others if the client does not."""
    timeout_s = max(self.timeout, timeout_s)
    return (
        yield from http.json_answer(self, Request("POST", address, json=body, timeout_s=timeout_s))
    )


def _identifier(self: Client, connection_id: str) -> Steps[str]:
    user, host, port = yield from _connection(self, connection_id)
    return f"{user}@{host}:{port}"


def _connection(self: Client, connection_id: str) -> Steps[tuple[str, str, int]]:
    user, at, address = connection_id.partition("@")
    if at:
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal():
            return user, host, int(port)
        return user, address, _SSH_PORT
    session = yield from _session(self, connection_id)
    return session["username"], session["host"], int(session["port"])


def _session(self: Client, host: str, port: int | None = None) -> Steps[JSON]:
    sessions = [
        session
        for session in (yield from list_sessions(self))
        if session["host"] == host and port in (None, session["port"])
    ]
    if not sessions:
        raise NotFoundError(f"Resource not found: no open connection to {host}", status_code=404)
    if len(sessions) > 1:
        keys = ", ".join(
            f"{other['username']}@{other['host']}:{other['port']}" for other in sessions
        )
        raise BadRequestError(f"Bad request: {host} is not one connection; say which: {keys}")
    return sessions[0]


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
    list_remote_storage_candidates = blocking(list_remote_storage_candidates)
    check_remote_path = blocking(check_remote_path)
    get_remote_status = blocking(get_remote_status)
    accept_host_key = blocking(accept_host_key)
    list_host_keys = blocking(list_host_keys)
    remove_host_key = blocking(remove_host_key)


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
    list_remote_storage_candidates = awaiting(list_remote_storage_candidates)
    check_remote_path = awaiting(check_remote_path)
    get_remote_status = awaiting(get_remote_status)
    accept_host_key = awaiting(accept_host_key)
    list_host_keys = awaiting(list_host_keys)
    remove_host_key = awaiting(remove_host_key)
