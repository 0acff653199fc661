"""Signs of life: each process of a run has a file ``heartbeat.<process>`` in the run's folder.

The file says who the process is and is touched every ten seconds. A process of this host is looked
at; any other is lost after a minute without a touch, by the clock that dates the run's files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import layout, processes
from .files import open_inside

LOST_S = 60.0
"""A process that cannot be looked at from here is lost after so long without a heartbeat."""

LOST = "lost"
"""The ``exit_reason`` of a run that has failed because no process of it showed a sign of life."""

_LARGEST = 64 * 1024
_TOUCH: int = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Heartbeat(NamedTuple):
    path: Path
    process: dict[str, Any]
    """``hostname``, ``pid`` and ``process``, as ``meta.json`` has them."""
    touched: float

    def is_alive(self) -> bool | None:
        """Whether its process lives; None: that cannot be known from here."""
        if self.process.get("hostname") != processes.hostname():
            return None
        pid, identity = self.process.get("pid"), self.process.get("process")
        return processes.is_alive(pid, identity, self.touched)

    def is_beating(self, now: float) -> bool:
        """Whether its process lives, or may: *now* is what :func:`time_of_storage` says."""
        alive = self.is_alive()
        return now - self.touched < LOST_S if alive is None else alive


def name_of(process: dict[str, Any]) -> str:
    """Return the name of the file of the process that these members of ``meta.json`` tell."""
    known = json.dumps([process.get(key) for key in ("hostname", "pid", "process")], sort_keys=True)
    digest = hashlib.sha256(known.encode()).hexdigest()[:12]
    return f"{layout.HEARTBEAT}{process.get('pid')}-{digest}"


def in_folder(run_dir: Path) -> Iterator[Heartbeat]:
    """Yield the heartbeats in a run's folder."""
    try:
        names = sorted(os.listdir(run_dir))
    except OSError:
        return
    for name in names:
        if not layout.is_heartbeat(name):
            continue
        try:
            # Opened before its date is asked for: a network file system tells the newest date then.
            with open_inside(run_dir, name) as file:
                process = layout.parse_json(file.read(_LARGEST)) or {}
                touched = os.fstat(file.fileno()).st_mtime
        except OSError:
            continue  # it has ended just now
        yield Heartbeat(run_dir / name, process, touched)


def found_again(status: dict[str, Any]) -> dict[str, Any]:
    """Return ``status.json`` of a run that was taken for lost and lives."""
    rest = {key: value for key, value in status.items() if key not in ("ended_at", "exit_reason")}
    return {**rest, "status": "running"}


def time_of_storage(run_dir: Path) -> float | None:
    """Return the time on the clock that dates the run's files: that of a file server, maybe.

    None if nothing may be written there.
    """
    lock = run_dir / f"{layout.STATUS}.lock"
    try:
        descriptor = os.open(lock, _TOUCH, layout.new_file_mode())
        try:
            os.utime(descriptor if os.utime in os.supports_fd else lock)
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    except OSError:
        return None
