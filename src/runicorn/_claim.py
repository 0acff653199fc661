"""Whose run is it? Create it, continue it, or join the process that is writing it."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from . import layout, processes

logger = logging.getLogger("runicorn")

_BLOCK_BYTES = 1 << 16


def claim(run_dir: Path, meta: dict[str, Any], *, resume: bool | None) -> bool:
    """Make this process the owner of the run in *run_dir*, whose ``meta.json`` shall be *meta*.

    A run that exists is continued if nobody writes it, and joined (returns False) if its owner is
    alive: a joined run keeps its owner, who alone says when it ends. ``resume=True`` takes it over
    in any case; ``resume=False`` raises FileExistsError if it exists.
    """
    with layout.locked(run_dir / layout.STATUS):  # the server judges owners under this lock too
        old = layout.load_for_change(run_dir / layout.META) or {}
        status = layout.load_for_change(run_dir / layout.STATUS) or {}
        if old or status or (run_dir / layout.EVENTS).exists():
            if resume is False:
                raise FileExistsError(
                    f"Run {run_dir.name!r} already exists in {run_dir.parent}: leave run_id out to "
                    "start a new one, or pass resume=True to continue it."
                )
            if not resume and _is_owned(run_dir, old, status):
                return False
        meta = {**old, **meta, "created_at": old.get("created_at", meta["created_at"])}
        layout.write_json(run_dir / layout.META, meta)
        status = {**status, "status": "running", "started_at": time.time()}
        for key in ("ended_at", "exit_reason"):
            status.pop(key, None)
        layout.write_json(run_dir / layout.STATUS, status)
    return True


def signature() -> dict[str, Any]:
    """The members of ``meta.json`` that tell this process from every other."""
    return {
        "hostname": _hostname(),
        "pid": os.getpid(),
        "process": processes.identity(),
    }


def _hostname() -> str:
    import socket

    return socket.gethostname()


def owns(run_dir: Path) -> bool:
    """Whether this process is the owner: not one that joined, was forked, or was replaced."""
    meta = layout.read_json(run_dir / layout.META)
    return all(meta.get(key) == value for key, value in signature().items())


def _is_owned(run_dir: Path, meta: dict[str, Any], status: dict[str, Any]) -> bool:
    if status.get("status") != "running" or not meta.get("pid"):
        return False
    host = meta.get("hostname")
    alive = None
    if not host or host == _hostname():
        alive = processes.is_alive(
            meta["pid"], meta.get("process"), processes.last_seen(run_dir, status)
        )
    if alive is None:
        logger.warning(
            "Run %s is marked as running in process %s on %s, which cannot be looked at from here: "
            "joining it. Pass resume=True to take it over.",
            *(run_dir.name, meta["pid"], host or "an unknown host"),
        )
    return alive is not False


def last_step(events: Path) -> int:
    """The ``global_step`` of the last metrics event; 0 if there is none. Reads from the end."""
    try:
        with open(events, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            size = _BLOCK_BYTES
            while True:
                start = max(0, end - size)
                file.seek(start)
                for line in reversed(file.read(end - start).split(b"\n")):
                    step = _step(line)
                    if step is not None:
                        return step
                if start == 0:
                    return 0
                size *= 4
    except OSError:
        return 0


def _step(line: bytes) -> int | None:
    event = layout.parse_json(line) if b'"global_step"' in line else None
    data = event.get("data") if event else None
    step = data.get("global_step") if isinstance(data, dict) else None
    return step if isinstance(step, int) else None
