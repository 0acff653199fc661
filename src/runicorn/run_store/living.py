"""Whether a run still lives, as far as its files and the processes of this host tell."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Any

from .. import heartbeats, layout, processes
from ..files import read_json_inside, scan_inside


class State(Enum):
    LIVING = "living"
    GONE = "gone"
    """All its processes were of this host, and have vanished."""
    LOST = "lost"
    """Nothing was heard of it for a minute from the other hosts whose processes write it."""
    UNKNOWN = "unknown"
    """It may live: a run without heartbeats, of another host, is never ended by its age."""


def is_living(folder: Path) -> bool:
    """Whether the run is running: whoever moves or removes it would tear it from its process."""
    status = read_json_inside(folder, layout.STATUS)
    if status.get("status") != "running":
        return status.get("exit_reason") == heartbeats.LOST and _has_come_back(folder)
    return _state(folder, status) in (State.LIVING, State.UNKNOWN)


def judged(folder: Path) -> dict[str, Any] | None:
    """Return what ``status.json`` should hold, if that is not what it holds: of a running run
    whose processes are gone or lost, and of a lost one that was heard of again.

    To be asked again under the lock of the document, by whoever writes the answer.
    """
    status = read_json_inside(folder, layout.STATUS)
    if status.get("status") == "running":
        state = _state(folder, status)
        if state not in (State.GONE, State.LOST):
            return None
        reason = heartbeats.LOST if state is State.LOST else "process_not_found"
        return {**status, "status": "failed", "ended_at": time.time(), "exit_reason": reason}
    was_lost = (status.get("status"), status.get("exit_reason")) == ("failed", heartbeats.LOST)
    if not (was_lost and _has_come_back(folder)):
        return None
    return heartbeats.found_again(status)


def silent_since(folder: Path) -> float | None:
    """Return when a running run without heartbeats was last written to, if that is a while ago."""
    status = read_json_inside(folder, layout.STATUS)
    if status.get("status") != "running" or next(heartbeats.in_folder(folder), None) is not None:
        return None
    written = processes.last_seen(folder, status)
    return written if time.time() - written > heartbeats.LOST_S else None


def _state(folder: Path, status: dict[str, Any]) -> State:
    meta = read_json_inside(folder, layout.META)
    alive = None
    if meta.get("hostname") in (None, "", processes.hostname()):
        seen = processes.last_seen(folder, status)
        alive = processes.is_alive(meta.get("pid"), meta.get("process"), seen)
    beats = list(heartbeats.in_folder(folder))
    by_process = [beat.is_alive() for beat in beats]
    if alive or any(by_process):
        return State.LIVING
    if None not in by_process:
        return State.GONE if beats or alive is False else State.UNKNOWN
    now = heartbeats.time_of_storage(folder)
    if now is None:
        return State.UNKNOWN
    return State.LIVING if now - _last_sign(folder) < heartbeats.LOST_S else State.LOST


def _has_come_back(folder: Path) -> bool:
    """Whether a lost run was touched, or written to, after it was found lost."""
    try:
        found_lost = (folder / layout.STATUS).lstat().st_mtime
    except OSError:
        return False
    return _last_sign(folder) > found_lost


def _last_sign(folder: Path) -> float:
    """Return when a process of the run last touched its heartbeat, or logged something."""
    beats = (beat.touched for beat in heartbeats.in_folder(folder))
    try:
        files = scan_inside(folder)
    except OSError:
        files = []
    streams = (info.st_mtime for name, info in files if layout.stream_of(name))
    return max((*beats, *streams), default=0.0)


def is_mirrored(root: Path, directory: str) -> bool:
    """Whether the run is a copy of one on another host, which a sync brings: it lives there."""
    claim = layout.read_json(root / layout.SERVER_DIR / layout.MIRRORS).get(directory)
    return isinstance(claim, str) or (isinstance(claim, dict) and claim.get("here") is True)
