"""Remote storage of Runicorn 0.4: one host's root, synced on demand (``sync``), and its state.

0.4 then read from that host only. Here its runs stand among the others, so the mode is remembered
and told, and changes nothing that is read.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncssh

from ..exceptions import NotConnected, PathNotFound
from ..ssh.browse import absolute
from ..ssh.connections import Connection, pool
from ..sync import registry

SESSION = "storage"
"""The holder, and the session of the sync."""

_mode = "local"


def current() -> registry.Sync | None:
    return next(iter(registry.syncs(SESSION, registry.SMART)), None)


def needed() -> registry.Sync:
    one = current()
    if one is None:
        raise NotConnected("Not connected to remote server")
    return one


async def connect(
    connection: Connection, remote_root: str, local_root: Path, interval: float, *, auto_sync: bool
) -> tuple[registry.Sync, dict[str, Any]]:
    """Sync *remote_root* from now on, instead of an earlier one; with what lies there."""
    global _mode
    await disconnect()
    structure = await look(connection, remote_root)
    one = await registry.start(
        registry.SMART, SESSION, connection, remote_root, local_root, interval, auto_sync=auto_sync
    )
    _mode = "remote"
    return one, structure


async def disconnect() -> bool:
    """Stop it; whether there was one. What was copied stays."""
    global _mode
    _mode = "local"
    one = current()
    if one:
        await registry.stop(one.id)
    return one is not None


async def look(connection: Connection, remote_root: str) -> dict[str, Any]:
    """What lies in the root: ``{"artifacts_exists", "has_experiments", "has_<type>"}``."""
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


def mode() -> str:
    return _mode


def switch(wanted: str) -> None:
    """To ``local`` or ``remote``, which needs a connection."""
    global _mode
    if wanted == "remote" and current() is None:
        raise NotConnected("Cannot switch to remote mode: not connected. Please connect first.")
    _mode = wanted


def status() -> dict[str, Any]:
    """As ``GET /remote/status`` tells it."""
    one = current()
    if one is None:
        return {
            "mode": _mode,
            "connected": False,
            "status": "disconnected",
            "sync_progress": None,
            "stats": None,
        }
    described = one.describe()
    is_open = one.is_alive and one.connection.is_open
    if not one.is_alive:
        state = "error"
    elif not is_open:
        state = "connecting"
    else:
        state = "syncing" if described["progress"]["status"] == "running" else "connected"
    errors = [one.last_error] if one.last_error else []
    kept = one.describe_cache()
    return {
        "mode": _mode,
        "connected": is_open,
        "status": state,
        "sync_progress": {**described["progress"], "errors": errors},
        "stats": {
            "total_artifacts": one.cached_artifacts,
            **_statistics(one),
            "max_cache_size_bytes": kept["max_bytes"],
            "cached_experiments": kept["cached_runs"],
        },
    }


def artifact_statistics() -> dict[str, Any]:
    """What ``GET /artifacts/stats`` adds in remote mode."""
    one = current()
    return _statistics(one) if one and _mode == "remote" else {}


def _statistics(one: registry.Sync) -> dict[str, Any]:
    from artifacts.models import Blob, Version

    theirs = Version.objects.filter(artifact__directory__in=one.claims.artifacts())
    here = Blob.objects.filter(files__version__in=theirs.local()).distinct()
    return {
        "connected": one.is_alive and one.connection.is_open,
        "last_sync": one.last_sync_at,
        "cached_artifacts": one.cached_artifacts,
        "cache_size_bytes": one.describe_cache()["cached_bytes"] + here.stored_bytes(),
        "remote_size_bytes": theirs.totals()["size_bytes"],
        "sync_count": one.scans,
        "error_count": int(one.last_error is not None),
    }


async def clear_cache() -> None:
    """Remove what came from there; the next sync brings it again."""
    one = needed()
    await one.clear()


async def clean_cache() -> int:
    """Let go of what is over the limit; how many files went."""
    one = needed()
    return await asyncio.to_thread(one.clean_up)


async def verify() -> dict[str, Any]:
    one = needed()
    await pool.reopen(one.connection)
    return await look(one.connection, one.remote_root)
