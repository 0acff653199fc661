"""The syncs that run in this process, by session and mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..ssh import browse, loop
from ..ssh.connections import Connection, pool
from .session import MIRROR, SMART, Sync, source_of

__all__ = ["MIRROR", "SMART", "Sync"]

WAIT_SECONDS = 10
"""How long a reader waits for a run's files, before those that are here are shown."""

WAIT_FOR_FILES_SECONDS = 60
"""The same for the files of an artifact; the download goes on."""

_syncs: dict[str, Sync] = {}


def syncs(session_id: str | None = None, mode: str | None = None) -> list[Sync]:
    return [
        one
        for one in _syncs.values()
        if session_id in (None, one.session_id) and mode in (None, one.mode)
    ]


async def start(
    mode: str,
    session_id: str,
    connection: Connection,
    remote_root: str,
    local_root: Path,
    interval: float,
    **options: Any,
) -> Sync:
    """Sync *remote_root* (``SMART`` or ``MIRROR``), instead of what this session synced before in
    the same mode, and instead of another sync of the same folder. Raises RemoteError."""
    root = await browse.real_root(connection, remote_root)
    source = source_of(connection, root)
    for earlier in syncs(mode=mode):
        if earlier.session_id == session_id or earlier.claims.source == source:
            await stop(earlier.id)
    identifier = f"{mode}:{session_id}:{time.time_ns() // 10**6}"
    one = Sync(
        identifier, mode, session_id, connection, remote_root, root, local_root, interval, **options
    )
    connection.holders.add(identifier)
    _syncs[identifier] = one
    return one


def get(identifier: str) -> Sync | None:
    return _syncs.get(identifier)


async def restart(sync: Sync) -> Sync:
    """Start *sync* anew, logging in again if the connection is gone. Raises RemoteError."""
    holder, old = f"again:{sync.id}", sync.connection
    connection = await pool.connect(holder, old.address, old.credentials)
    try:
        await stop(sync.id)
        return await start(
            sync.mode,
            sync.session_id,
            connection,
            sync.remote_root,
            sync.local_root,
            sync.interval,
            auto_sync=sync.auto_sync,
            cache_bytes=sync.cache_bytes,
        )
    finally:
        await pool.release(holder, connection)


async def stop(identifier: str) -> bool:
    """Stop a sync, and return whether there was one. What it copied stays."""
    one = _syncs.pop(identifier, None)
    if one is None:
        return False
    await one.stop()
    await pool.release(identifier, one.connection)
    return True


async def stop_on(connection_id: str) -> None:
    """Stop whatever is synced over this connection."""
    for one in syncs():
        if one.connection.id == connection_id:
            await stop(one.id)


async def stop_all(session_id: str, mode: str | None = None) -> None:
    for one in syncs(session_id, mode):
        await stop(one.id)


def bring(directory: str) -> None:
    """Fetch the files of the run in *directory* (relative to the storage root) if they are on a
    host. For a thread beside the event loop."""
    for one in syncs(mode=SMART):
        if one.claims.owns(directory):
            with suppress(TimeoutError):
                loop.run(_in_time(one.bring(directory)))


def bring_files(directory: str, number: int) -> None:
    """Fetch the files of a version of the artifact in *directory* if they are on a host."""
    for one in syncs(mode=SMART):
        if one.claims.owns(directory):
            with suppress(TimeoutError):
                loop.run(_in_time(one.complete(directory, number), WAIT_FOR_FILES_SECONDS))


async def _in_time(coroutine: Coroutine[Any, Any, None], seconds: float = WAIT_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        await coroutine
