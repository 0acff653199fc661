"""What the owner can be asked: each function takes and returns what JSON can say.

They run in a thread of the owner's, wait for the host there, and raise RemoteError. Who may ask,
and who did, is decided and recorded by whoever asks (``actions``).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncssh
from django.conf import settings
from django.db.models import Q

from runicorn import config, credentials

from ..compat import artifact_downloads, on_demand
from ..exceptions import HostKeyUnconfirmed, NotConnected, PathNotFound, QuestionTooOld, Unreachable
from ..models import SyncJob, Viewer
from ..ssh import attempts, browse, environments, known_hosts, transport
from ..ssh.connections import UNIFIED, Connection, pool
from ..ssh.listing_cache import list_recently
from ..ssh.loop import run
from ..sync import registry
from ..viewer import viewers
from . import questions, state

CONNECT_SECONDS = 2 * transport.CONNECT_SECONDS
BROWSE_SECONDS = browse.SECONDS + 5
START_SECONDS = CONNECT_SECONDS + environments.SECONDS + viewers.START_SECONDS

Function = TypeVar("Function", bound=Callable[..., Any])


class Call(NamedTuple):
    function: Callable[..., Any]
    seconds: float
    """How long another process waits for the answer."""


CALLS: dict[str, Call] = {}


def call(seconds: float = 15) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        CALLS[function.__name__] = Call(function, seconds)
        return function

    return register


def end() -> None:
    """Let go of everything: the process ends."""
    run(_end())


async def _end() -> None:
    await asyncio.gather(*(viewers.stop(one.id) for one in viewers.active()))
    await asyncio.gather(*(registry.stop(one.id) for one in registry.syncs()))
    for connection in pool.all():
        connection.channel.close()


# -- connections -----------------------------------------------------------------------------------


@call(CONNECT_SECONDS)
def connect(
    holder: str,
    login: dict[str, Any],
    client: str,
    asker: str | None = None,
    saved_as: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Log in, and return the session with ``save_error``: why *saved_as* could not be saved.

    With an *asker*, a login that a host's unknown key stops is kept here until that person has
    answered: the error has the ``question`` to answer with ``answer_question``.
    """
    known = transport.Login.from_json(login)
    try:
        connection = _log_in(holder, known, client)
    except HostKeyUnconfirmed as error:
        if asker is not None:
            waiting = questions.Waiting(asker, holder, login, client, saved_as, error.host_key)
            error.question = questions.ask(waiting)
        raise
    return {**state.session_fields(connection), "save_error": _save(saved_as, connection)}


def _log_in(holder: str, login: transport.Login, client: str) -> Connection:
    address = login.address()
    with attempts.limited(address, client=client):
        return run(pool.connect(holder, address, login.credentials))


def _save(entry: dict[str, Any] | None, connection: Connection) -> str | None:
    if entry is None:
        return None
    address = connection.address
    where = {"host": address.host, "port": address.port, "username": address.username}
    try:
        config.save_ssh_connection({**entry, **where})
    except (config.ConfigError, credentials.CredentialsError, OSError) as error:
        return str(error)
    return None


@call(CONNECT_SECONDS)
def answer_question(question: str, asker: str) -> dict[str, Any]:
    """Trust the key that was shown, and log in as was asked before."""
    waiting = questions.answered(question, asker)
    if waiting is None:
        raise QuestionTooOld("This question is too old: connect again")
    key = waiting.host_key
    known_hosts.accept_text(key["host"], key["port"], key["public_key"])
    return connect(waiting.holder, waiting.login, waiting.client, asker, waiting.saved_as)


@call()
def disconnect(host: str, port: int, username: str) -> bool:
    """Close a connection with all that runs over it, and return whether there was one."""
    try:
        address = transport.find_address(host, port, username)  # as connecting to it did
    except Unreachable:
        return False
    run(registry.stop_on(str(address)))
    run(viewers.stop_on(str(address)))
    return run(pool.close(address.host, address.port, address.username))


@call()
def release_unified() -> None:
    """Give the unified API's connection up; it closes unless somebody else holds it."""
    run(registry.stop_all(UNIFIED))
    if pool.current is not None:
        run(pool.release(UNIFIED, pool.current))


@call(CONNECT_SECONDS)
def open_legacy_session(login: dict[str, Any], client: str) -> str:
    known = transport.Login.from_json(login)
    address = known.address()
    with attempts.limited(address, client=client):
        return run(pool.open_session(address, known.credentials))


@call()
def close_legacy_session(session_id: str) -> bool:
    """End a session and what it mirrors, and return whether there was one."""
    run(registry.stop_all(session_id))
    return run(pool.close_session(session_id))


def _open(connection_id: str) -> Connection:
    connection = pool.get(connection_id)
    if connection is None:
        raise NotConnected(f"Connection not found or inactive: {connection_id}")
    return connection


@contextmanager
def _for_a_moment(
    connection_id: str | None, login: dict[str, Any] | None, client: str
) -> Iterator[Connection]:
    """A connection that is open, or one for *login* that closes unless something holds it then."""
    if login is None:
        yield _open(str(connection_id))
        return
    holder = f"start:{secrets.token_hex(4)}"
    connection = _log_in(holder, transport.Login.from_json(login), client)
    try:
        yield connection
    finally:
        run(pool.release(holder, connection))


# -- folders and programs there --------------------------------------------------------------------


@call(BROWSE_SECONDS)
def list_folder(connection_id: str, path: str, recent: bool = False) -> dict[str, Any]:
    """List a folder; *recent*: one that was listed just now is not asked for again."""
    connection = _open(connection_id)
    folder = run((list_recently if recent else browse.list_folder)(connection, path))
    return {"path": folder.path, "items": [one._asdict() for one in folder.items]}


@call(BROWSE_SECONDS)
def is_folder(connection_id: str, path: str) -> bool | None:
    """Return whether *path* is a folder; None if there is nothing."""
    return run(browse.look_up(_open(connection_id), path))


@call(environments.SECONDS + 5)
def list_environments(connection_id: str) -> list[dict[str, Any]]:
    """Return the Pythons of the host; ``is_default`` is the one a viewer would be started with."""
    there = run(environments.survey(_open(connection_id)))
    chosen = environments.find(there, None) if there else None
    return [{**one._asdict(), "is_default": one is chosen} for one in there]


@call(2 * environments.SECONDS + 5)
def describe_environment(connection_id: str, name: str | None) -> dict[str, Any]:
    """Return a Python of the host, and what a viewer there would be started with."""
    connection = _open(connection_id)
    one = environments.find(run(environments.survey(connection)), name)
    return {**one._asdict(), "configuration": run(environments.configuration(connection, one))}


@call(2 * environments.SECONDS + 5)
def find_storage_folders(
    connection_id: str, environment: str | None, scan_root: str | None, max_depth: int
) -> list[dict[str, Any]]:
    """Return folders of the host that look like storage folders, the likeliest first."""
    connection = _open(connection_id)
    one = environments.find(run(environments.survey(connection)), environment)
    return run(environments.storage_folders(connection, one, scan_root, max_depth))


@call()
def list_host_keys() -> list[dict[str, Any]]:
    return known_hosts.entries()


@call()
def accept_host_key(host: str, port: int, public_key: str) -> None:
    known_hosts.accept(host, port, asyncssh.import_public_key(public_key))


@call()
def remove_host_key(host: str, port: int, key_type: str) -> bool:
    return known_hosts.remove(host, port, key_type)


@call()
def list_aliases() -> list[str]:
    return transport.aliases()


# -- viewers ---------------------------------------------------------------------------------------


@call(START_SECONDS)
def start_viewer(
    connection_id: str | None,
    login: dict[str, Any] | None,
    client: str,
    remote_root: str,
    environment: str | None,
    local_port: int | None,
    remote_port: int | None,
) -> dict[str, Any]:
    with _for_a_moment(connection_id, login, client) as connection:
        return state.viewer_fields(
            run(
                viewers.start(
                    connection,
                    remote_root,
                    environment=environment,
                    local_port=local_port,
                    remote_port=remote_port,
                )
            )
        )


@call()
def stop_viewer(viewer_id: str) -> bool:
    was_lost = _remove_lost(Viewer, pk=viewer_id)
    return run(viewers.stop(viewer_id)) or was_lost


@call(START_SECONDS)
def restart_viewer(viewer_id: str) -> bool:
    """Start a viewer again that ended, and return whether it is known."""
    if viewer := viewers.get(viewer_id):
        run(viewers.restart(viewer))
        return True
    row = Viewer.objects.filter(pk=viewer_id).first()
    if row is None:
        return False
    connection = _reconnected(row.connection_id)
    run(viewers.start(connection, row.remote_root, environment=row.environment))
    row.delete()
    return True


@call()
def is_viewer_healthy(viewer_id: str) -> bool:
    viewer = viewers.get(viewer_id)
    return viewer is not None and run(viewer.is_healthy())


def _reconnected(connection_id: str) -> Connection:
    """The connection that something lost ran over, if somebody has opened it again."""
    connection = pool.get(connection_id)
    if connection is None:
        raise NotConnected(f"Connect to {connection_id} first: no password outlives the server")
    return connection


def _remove_lost(model: Any, *conditions: Q, **values: Any) -> bool:
    removed, _ = model.objects.filter(*conditions, lost_at__isnull=False, **values).delete()
    return bool(removed)


# -- syncs -----------------------------------------------------------------------------------------


@call(BROWSE_SECONDS)
def start_sync(
    mode: str,
    session_id: str,
    connection_id: str,
    remote_root: str,
    interval: float,
    must_exist: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Keep the runs below *remote_root* up to date here; other folders of the host go on.

    *must_exist*: PathNotFound if there is no such folder. Else a sync waits for it to appear.
    """
    connection = _open(connection_id)
    if must_exist and not run(browse.look_up(connection, remote_root)):
        raise PathNotFound(f"There is no folder {remote_root} on the host")
    return _start_sync(mode, session_id, connection, remote_root, interval, **options)


def _start_sync(
    mode: str,
    session_id: str,
    connection: Connection,
    remote_root: str,
    interval: float,
    **options: Any,
) -> dict[str, Any]:
    root = settings.RUNICORN_STORAGE_ROOT
    sync = run(registry.start(mode, session_id, connection, remote_root, root, interval, **options))
    same = Q(session_id=session_id) | Q(source=sync.claims.source)
    _remove_lost(SyncJob, same, mode=mode)
    return state.sync_fields(sync)


@call()
def stop_sync(sync_id: str) -> bool:
    was_lost = _remove_lost(SyncJob, pk=sync_id)
    return run(registry.stop(sync_id)) or was_lost


@call()
def stop_syncs(session_id: str, mode: str) -> None:
    run(registry.stop_all(session_id, mode))
    _remove_lost(SyncJob, session_id=session_id, mode=mode)


@call(CONNECT_SECONDS + BROWSE_SECONDS)
def retry_sync(sync_id: str) -> bool:
    """Start a sync anew, logging in again if need be, and return whether it is known."""
    if sync := registry.get(sync_id):
        run(registry.restart(sync))
        return True
    row = SyncJob.objects.filter(pk=sync_id).first()
    if row is None:
        return False
    options = {"auto_sync": row.auto_sync, "cache_bytes": row.cache_bytes}
    connection = _reconnected(row.connection_id)
    _start_sync(row.mode, row.session_id, connection, row.remote_root, row.interval, **options)
    row.delete()
    return True


@call(registry.WAIT_SECONDS + 1)
def bring_run(directory: str) -> None:
    """Fetch the files of the run in *directory* if they are on a host."""
    registry.bring(directory)


@call(registry.WAIT_FOR_FILES_SECONDS + 1)
def bring_version(directory: str, number: int) -> None:
    """Fetch the files of an artifact's version if they are on a host."""
    registry.bring_files(directory, number)


# -- the remote storage of 0.4 ---------------------------------------------------------------------


@call(CONNECT_SECONDS + BROWSE_SECONDS)
def connect_storage(
    login: dict[str, Any], client: str, remote_root: str, interval: float, auto_sync: bool
) -> dict[str, Any]:
    """Sync *remote_root* from now on, instead of an earlier one; with what lies there."""
    local_root: Path = settings.RUNICORN_STORAGE_ROOT
    with _for_a_moment(None, login, client) as connection:
        sync, structure = run(
            on_demand.connect(connection, remote_root, local_root, interval, auto_sync=auto_sync)
        )
        _remove_lost(SyncJob, session_id=on_demand.SESSION)
        return {
            "session": state.session_fields(connection),
            "sync": state.sync_fields(sync),
            "structure": structure,
        }


@call()
def disconnect_storage() -> bool:
    was_lost = _remove_lost(SyncJob, session_id=on_demand.SESSION)
    return run(on_demand.disconnect()) or was_lost


@call()
def select_storage(mode: str) -> None:
    on_demand.select(mode)


@call()
def sync_storage_now() -> None:
    run(on_demand.sync_now())


@call(60)
def clear_storage_cache() -> None:
    run(on_demand.needed().clear())


@call(60)
def clean_storage_cache() -> int:
    return on_demand.needed().clean_up()


@call(CONNECT_SECONDS + BROWSE_SECONDS)
def verify_storage() -> dict[str, Any]:
    return run(on_demand.verify())


@call()
def start_download(name: str, number: int, kind: str | None, target: str | None) -> dict[str, Any]:
    return run(artifact_downloads.start(name, number, kind, target)).describe()


@call()
def describe_download(download_id: str) -> dict[str, Any]:
    return artifact_downloads.get(download_id).describe()


@call()
def list_downloads() -> list[dict[str, Any]] | None:
    """Return the downloads, those that ended too; None without a host."""
    if on_demand.current() is None:
        return None
    return [one.describe() for one in artifact_downloads.downloads()]


@call()
def cancel_download(download_id: str) -> None:
    run(artifact_downloads.cancel(download_id))


@call(2 * environments.SECONDS + 5)
def set_alias(name: str, number: int, kind: str | None, alias: str) -> None:
    run(artifact_downloads.set_alias(name, number, kind, alias))


@call(2 * environments.SECONDS + 5)
def add_tags(name: str, number: int, kind: str | None, tags: list[str]) -> None:
    run(artifact_downloads.add_tags(name, number, kind, tags))
