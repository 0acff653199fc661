"""What changes connections, viewers and syncs; the API, the admin and the pages all call it.

Each waits for the host, in the calling thread, and raises RemoteError.
"""

from __future__ import annotations

from django.conf import settings

from .exceptions import NotConnected, PathNotFound, Unreachable
from .ssh import browse, transport
from .ssh.connections import Connection, pool
from .ssh.loop import run
from .sync import registry
from .viewer import viewers


def disconnect(host: str, port: int, username: str) -> bool:
    """Close a connection with all that runs over it; whether there was one."""
    try:
        address = transport.find_address(host, port, username)  # as connecting to it did
    except Unreachable:
        return False
    run(registry.stop_on(str(address)))
    run(viewers.stop_on(str(address)))
    return run(pool.close(address.host, address.port, address.username))


def open_connection(identifier: str, *, even_if_cut: bool = False) -> Connection:
    """The open connection of that ``user@host:port``."""
    for connection in pool.all():
        if connection.id == identifier and (even_if_cut or connection.is_open):
            return connection
    raise NotConnected(f"Connection not found or inactive: {identifier}")


# -- viewers -------------------------------------------------------------------------------------


def start_viewer(
    connection: Connection,
    remote_root: str,
    *,
    environment: str | None = None,
    local_port: int | None = None,
    remote_port: int | None = None,
) -> viewers.Session:
    """A viewer of *remote_root* on the host, ready to be looked at."""
    return run(
        viewers.start(
            connection,
            remote_root,
            environment=environment,
            local_port=local_port,
            remote_port=remote_port,
        )
    )


def stop_viewer(identifier: str) -> bool:
    return run(viewers.stop(identifier))


def restart_viewer(identifier: str) -> viewers.Session | None:
    """Start a viewer again that ended; None if it is not known any more."""
    session = viewers.get(identifier)
    return run(viewers.restart(session)) if session else None


# -- syncs ---------------------------------------------------------------------------------------

INTERVALS = {registry.MIRROR: 2.0, registry.SMART: 300.0}
"""Seconds; the documented ones."""


def start_sync(mode: str, connection: Connection, remote_root: str) -> registry.Sync:
    """Keep the runs below *remote_root* up to date here; other folders of the host go on.

    PathNotFound if there is no such folder: a sync would wait for it in silence.
    """
    if not run(browse.look_up(connection, remote_root)):
        raise PathNotFound(f"There is no folder {remote_root} on the host")
    session, root = f"{connection.id}:{remote_root}", settings.RUNICORN_STORAGE_ROOT
    return run(registry.start(mode, session, connection, remote_root, root, INTERVALS[mode]))


def stop_sync(identifier: str) -> bool:
    """What was copied stays."""
    return run(registry.stop(identifier))


def retry_sync(identifier: str) -> registry.Sync | None:
    """Start a sync anew, logging in again if need be; None if it is not known any more."""
    return run(_retry_sync(identifier))


async def _retry_sync(identifier: str) -> registry.Sync | None:
    old = next((one for one in registry.syncs() if one.id == identifier), None)
    if old is None:
        return None
    holder = f"again:{identifier}"
    address, login = old.connection.address, old.connection.credentials
    connection = await pool.connect(holder, address, login)
    try:
        await registry.stop(identifier)
        return await registry.start(
            old.mode,
            old.session_id,
            connection,
            old.remote_root,
            old.local_root,
            old.interval,
            auto_sync=old.auto_sync,
            cache_bytes=old.cache_bytes,
        )
    finally:
        await pool.release(holder, connection)
