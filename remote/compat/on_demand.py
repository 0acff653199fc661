"""Remote storage of Runicorn 0.4: one host's root, synced on demand. In the owner's process.

0.4 then read from that host only. Here its runs stand among the others, so the mode is remembered
and told (``storage_status``), and changes nothing that is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh

from ..exceptions import NotConnected, PathNotFound
from ..ssh.browse import absolute
from ..ssh.connections import Connection, pool
from ..sync import registry

SESSION = "storage"
"""The holder, and the session of the sync."""


def current() -> registry.Sync | None:
    return next(iter(registry.syncs(SESSION, registry.SMART)), None)


def needed() -> registry.Sync:
    """Return the sync of the remote storage. Raises NotConnected."""
    sync = current()
    if sync is None:
        raise NotConnected("Not connected to remote server")
    return sync


async def connect(
    connection: Connection, remote_root: str, local_root: Path, interval: float, *, auto_sync: bool
) -> tuple[registry.Sync, dict[str, Any]]:
    """Sync *remote_root* from now on, instead of an earlier one. Return what lies there, too."""
    await disconnect()
    structure = await look(connection, remote_root)
    sync = await registry.start(
        registry.SMART, SESSION, connection, remote_root, local_root, interval, auto_sync=auto_sync
    )
    sync.is_selected = True
    return sync, structure


async def disconnect() -> bool:
    """Stop it, and return whether there was one. What was copied stays."""
    sync = current()
    if sync:
        await registry.stop(sync.id)
    return sync is not None


async def look(connection: Connection, remote_root: str) -> dict[str, Any]:
    """Say what lies in the root: ``{"artifacts_exists", "has_experiments", "has_<type>"}``."""
    try:
        async with connection.sftp() as sftp:
            root = (await absolute(sftp, remote_root)).rstrip(b"/")
            names = await _names(sftp, root or b"/")
            types = await _names(sftp, root + b"/artifacts") if "artifacts" in names else []
    except asyncssh.SFTPError as error:
        raise PathNotFound(f"{remote_root}: {error.reason}") from error
    return {
        "artifacts_exists": "artifacts" in names,
        "has_experiments": any(name not in ("artifacts", "runs") for name in names),
        **{f"has_{name}": True for name in types if name in ("model", "dataset", "config", "code")},
    }


async def _names(sftp: asyncssh.SFTPClient, folder: bytes) -> list[str]:
    names = []
    async for entry in sftp.scandir(folder):
        name = entry.filename
        text = name.decode(errors="replace") if isinstance(name, bytes) else name
        if not text.startswith("."):
            names.append(text)
        if len(names) >= 10_000:
            break
    return names


def select(mode: str) -> None:
    """Tell clients to be in *mode*: ``local``, or ``remote``, which needs a connection."""
    sync = current()
    if sync is not None:
        sync.is_selected = mode == "remote"
    elif mode == "remote":
        raise NotConnected("Cannot switch to remote mode: not connected. Please connect first.")


async def sync_now() -> None:
    """Look for what is new at once, in the background."""
    sync = needed()
    if not sync.is_alive:
        raise NotConnected("Remote connection is not active")
    sync.sync_now()


async def verify() -> dict[str, Any]:
    """Say what lies in the root now, logging in again if need be."""
    sync = needed()
    await pool.reopen(sync.connection)
    return await look(sync.connection, sync.remote_root)
