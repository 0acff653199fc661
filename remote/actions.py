"""What people do with hosts; the API, the admin and the pages all call these functions.

Each checks who may, asks the owner of the connections, and records who did it. All raise
RemoteError. A *login* is a ``transport.Login``; *client* is the address that it came from, of which
refused logins are counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.access import Right, may, record
from runicorn import config, credentials

from .compat import on_demand
from .exceptions import BadKey, NotConnected, NotYours, PathNotFound
from .models import Session, SyncJob, Viewer
from .owner.asking import ask, rows
from .ssh.connections import UNIFIED, VIEWER
from .ssh.transport import Credentials, Login
from .sync.session import MIRROR, SMART

__all__ = ["MIRROR", "SMART", "UNIFIED", "VIEWER"]

# -- logging in ------------------------------------------------------------------------------------

SECRETS = ("password", "private_key", "private_key_path", "passphrase")


def login_with(data: Mapping[str, Any], *, by: Any) -> Login:
    """Return the login that *data* describes, or the saved one that it names (``saved``)."""
    if name := data.get("saved"):
        data = _from_saved(_saved(name, by=by), data)
    proofs = {name: data.get(name) or None for name in SECRETS}
    known = Credentials(**proofs, use_agent=data.get("use_agent", True))
    return _allowed(Login(data["host"], data.get("port"), data.get("username"), known), by=by)


def _allowed(login: Login, *, by: Any) -> Login:
    """Leave of *login* what this person may use: key files and the agent here are the owner's."""
    known = login.credentials
    if not (known.use_agent or known.private_key_path) or may(by, Right.ADMINISTER):
        return login
    if known.private_key_path:
        raise NotYours("Only the owner of this server may use key files of its machine.")
    return replace(login, credentials=replace(known, use_agent=False))


def _saved(name: str, *, by: Any) -> dict[str, Any]:
    """Return the saved connection of that key or name, with its secrets."""
    if not may(by, Right.ADMINISTER):
        raise NotYours("Only the owner of this server may use saved connections.")
    entries = config.ssh_connections()
    keys = [entry["key"] for entry in entries if entry.get("name") == name]
    try:
        entry = config.ssh_connection(name) or (config.ssh_connection(keys[-1]) if keys else None)
    except credentials.CredentialsError as error:
        raise BadKey(str(error)) from error
    if entry is None:
        raise PathNotFound(f"Connection not found: {name}")
    return entry


def _from_saved(entry: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a saved connection with what is *given*, which never redirects it: its secrets go
    to its own host."""
    proofs = {name: given.get(name) or entry.get(name) for name in SECRETS}
    where = {name: entry[name] for name in ("host", "port", "username")}
    return {**proofs, **where, "use_agent": entry.get("auth_method") == "agent"}


def connect(holder: str, login: Login, *, client: str, by: Any) -> Session:
    answer = ask("connect", holder=holder, login=login.to_json(), client=client)
    return _connected(answer, by=by)[0]


def connect_or_ask(
    holder: str,
    login: Login,
    *,
    client: str,
    saved_as: dict[str, Any] | None = None,
    by: Any,
) -> tuple[Session, str | None]:
    """Log in, and save the connection; also return why it could not be saved.

    HostKeyUnconfirmed has the ``question`` that ``trust`` answers: the login waits for that.
    """
    answer = ask(
        "connect",
        holder=holder,
        login=login.to_json(),
        client=client,
        asker=_asker(by),
        saved_as=saved_as,
    )
    return _connected(answer, by=by)


def trust(question: str, *, by: Any) -> tuple[Session, str | None]:
    """Trust the key that was shown, and log in as was asked before."""
    return _connected(ask("answer_question", question=question, asker=_asker(by)), by=by)


def _asker(person: Any) -> str:
    return str(getattr(person, "pk", None))


def _connected(answer: dict[str, Any], *, by: Any) -> tuple[Session, str | None]:
    save_error = answer.pop("save_error")
    session = Session(**answer)
    record(by, "session.connect", session)
    return session, save_error


def disconnect(host: str, port: int, username: str, *, by: Any) -> bool:
    """Close a connection with all that runs over it, and return whether there was one."""
    identifier = f"{username}@{host}:{port}"
    was_lost, _ = Session.objects.filter(pk=identifier, lost_at__isnull=False).delete()
    was_open = ask("disconnect", host=host, port=port, username=username) or bool(was_lost)
    if was_open:
        record(by, "session.disconnect", identifier)
    return was_open


def disconnect_session(identifier: str, *, by: Any) -> None:
    """The same for a session that is listed, cut or lost ones too."""
    session = rows(Session).filter(pk=identifier).first()
    if session is None:
        raise NotConnected(f"Connection not found or inactive: {identifier}")
    disconnect(session.host, session.port, session.username, by=by)


def release_unified(*, by: Any) -> None:
    ask("release_unified")
    record(by, "session.disconnect", "the unified connection")


def open_legacy_session(login: Login, *, client: str, by: Any) -> str:
    identifier: str = ask("open_legacy_session", login=login.to_json(), client=client)
    record(by, "session.connect", identifier)
    return identifier


def close_legacy_session(identifier: str, *, by: Any) -> bool:
    was_open: bool = ask("close_legacy_session", session_id=identifier)
    if was_open:
        record(by, "session.disconnect", identifier)
    return was_open


# -- host keys -------------------------------------------------------------------------------------


def accept_host_key(host: str, port: int, public_key: str, *, by: Any) -> None:
    """Trust this key for this host from now on."""
    ask("accept_host_key", host=host, port=port, public_key=public_key)
    record(by, "host_key.accept", f"{host}:{port} {public_key}")


def remove_host_key(host: str, port: int, key_type: str, *, by: Any) -> bool:
    """Trust no key of this type for this host any more, and return whether one was trusted."""
    was_trusted: bool = ask("remove_host_key", host=host, port=port, key_type=key_type)
    if was_trusted:
        record(by, "host_key.remove", f"{host}:{port} {key_type}")
    return was_trusted


# -- saved hosts -----------------------------------------------------------------------------------


def save_host(entry: dict[str, Any], *, instead_of: str | None = None, by: Any) -> str:
    """Save a connection, and return its key. Raises ConfigError or CredentialsError."""
    key = config.save_ssh_connection(entry, instead_of=instead_of)
    record(by, "host.save", key)
    return key


def replace_hosts(entries: list[Any], *, by: Any) -> None:
    config.replace_ssh_connections(entries)
    record(by, "host.replace", f"all, by {len(entries)}")


def remove_host(key: str, *, by: Any) -> bool:
    was_saved = config.remove_ssh_connection(key)
    if was_saved:
        record(by, "host.remove", key)
    return was_saved


# -- viewers ---------------------------------------------------------------------------------------


def start_viewer(
    remote_root: str,
    *,
    connection_id: str | None = None,
    login: Login | None = None,
    client: str = "",
    environment: str | None = None,
    local_port: int | None = None,
    remote_port: int | None = None,
    by: Any,
) -> Viewer:
    """Start a viewer of *remote_root* on a host, and return it ready to be looked at."""
    fields = ask(
        "start_viewer",
        connection_id=connection_id,
        login=login.to_json() if login else None,
        client=client,
        remote_root=remote_root,
        environment=environment,
        local_port=local_port,
        remote_port=remote_port,
    )
    viewer = Viewer(**fields)
    record(by, "viewer.start", f"{viewer.connection_id}:{remote_root}")
    return viewer


def stop_viewer(identifier: str, *, by: Any) -> bool:
    was_known: bool = ask("stop_viewer", viewer_id=identifier)
    if was_known:
        record(by, "viewer.stop", identifier)
    return was_known


def restart_viewer(identifier: str, *, by: Any) -> bool:
    """Start a viewer again that ended, and return whether it is known."""
    is_known: bool = ask("restart_viewer", viewer_id=identifier)
    if is_known:
        record(by, "viewer.restart", identifier)
    return is_known


# -- syncs -----------------------------------------------------------------------------------------

INTERVALS = {MIRROR: 2.0, SMART: 300.0}
"""Seconds; the documented ones."""


def start_sync(
    mode: str,
    connection_id: str,
    remote_root: str,
    *,
    session_id: str | None = None,
    interval: float | None = None,
    by: Any,
    **options: Any,
) -> SyncJob:
    """Keep the runs below *remote_root* up to date here.

    Without a *session_id*, other folders of the host go on, and PathNotFound is raised if there is
    no such folder: a sync would wait for it in silence.
    """
    digest = hashlib.sha256(remote_root.encode(errors="replace")).hexdigest()[:16]
    fields = ask(
        "start_sync",
        mode=mode,
        session_id=session_id or f"{connection_id}:{digest}",
        connection_id=connection_id,
        remote_root=remote_root,
        interval=interval or INTERVALS[mode],
        must_exist=session_id is None,
        **options,
    )
    job = SyncJob(**fields)
    record(by, "sync.start", f"{mode} {connection_id}:{remote_root}")
    return job


def stop_sync(identifier: str, *, by: Any) -> bool:
    """Stop a sync, and return whether there was one. What was copied stays."""
    was_known: bool = ask("stop_sync", sync_id=identifier)
    if was_known:
        record(by, "sync.stop", identifier)
    return was_known


def stop_syncs(session_id: str, mode: str, *, by: Any) -> None:
    ask("stop_syncs", session_id=session_id, mode=mode)
    record(by, "sync.stop", f"{mode} of {session_id}")


def retry_sync(identifier: str, *, by: Any) -> bool:
    """Start a sync anew, logging in again if need be, and return whether it is known."""
    is_known: bool = ask("retry_sync", sync_id=identifier)
    if is_known:
        record(by, "sync.retry", identifier)
    return is_known


# -- the remote storage of 0.4 ---------------------------------------------------------------------


def connect_storage(
    login: Login, remote_root: str, interval: float, *, auto_sync: bool, client: str, by: Any
) -> dict[str, Any]:
    """Sync *remote_root* on demand, instead of an earlier one. Return what lies there, too."""
    answer: dict[str, Any] = ask(
        "connect_storage",
        login=login.to_json(),
        client=client,
        remote_root=remote_root,
        interval=interval,
        auto_sync=auto_sync,
    )
    record(by, "storage.connect", f"{answer['session']['id']}:{remote_root}")
    return answer


def disconnect_storage(*, by: Any) -> None:
    if not ask("disconnect_storage"):
        raise NotConnected("Not connected to remote server")
    record(by, "storage.disconnect", on_demand.SESSION)


def select_storage(mode: str, *, by: Any) -> None:
    """Tell clients to be in *mode*: ``local`` or ``remote``."""
    ask("select_storage", mode=mode)
    record(by, "storage.select", mode)


def sync_storage_now(*, by: Any) -> None:
    ask("sync_storage_now")
    record(by, "storage.sync", on_demand.SESSION)


def clear_storage_cache(*, by: Any) -> None:
    """Remove what came from there; the next sync brings it again."""
    ask("clear_storage_cache")
    record(by, "storage.clear", on_demand.SESSION)


def clean_storage_cache(*, by: Any) -> int:
    """Remove what exceeds the cache's limit, and return how many files that were."""
    count: int = ask("clean_storage_cache")
    record(by, "storage.clean", f"{count} files")
    return count


def start_download(
    name: str, number: int, kind: str | None, target: str | None, *, by: Any
) -> dict[str, Any]:
    """Fetch the contents of a version, into *target* (relative to the storage root) too."""
    download: dict[str, Any] = ask(
        "start_download", name=name, number=number, kind=kind, target=target
    )
    record(by, "download.start", f"{name}:v{number}")
    return download


def cancel_download(identifier: str, *, by: Any) -> None:
    ask("cancel_download", download_id=identifier)
    record(by, "download.cancel", identifier)


def set_alias(name: str, number: int, kind: str | None, alias: str, *, by: Any) -> None:
    """Let *alias* name the version, on the host; the next sync brings it here."""
    ask("set_alias", name=name, number=number, kind=kind, alias=alias)
    record(by, "storage.alias", f"{alias} of {name}:v{number}")


def add_tags(name: str, number: int, kind: str | None, tags: list[str], *, by: Any) -> None:
    """Add *tags* to the version, on the host; the next sync brings them here."""
    ask("add_tags", name=name, number=number, kind=kind, tags=tags)
    record(by, "storage.tag", f"{name}:v{number}")
