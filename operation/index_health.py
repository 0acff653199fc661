"""Notice a damaged index, set it aside, and make it again while the server keeps running.

SQLite checks little by itself: a damaged page is noticed only when it is read. So the whole index
is checked in the background if the last process did not end properly, and any error that reports
damage is believed. The index is then renamed, and a new one filled from the run folders, the newest
first; readers see the runs that it has so far. PostgreSQL looks after itself.
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.db import DatabaseError, connections
from rest_framework.exceptions import APIException

from core.databases import INDEX
from runicorn import layout

from . import databases

logger = logging.getLogger("runicorn.index")

RETRY_SECONDS = 5


@dataclass
class State:
    state: str = "ok"
    """``ok``, ``checking`` or ``rebuilt``: a damaged index was set aside since the start."""

    set_aside: str = ""
    reason: str = ""


current = State()

renewing: list[Callable[[], str]] = []
"""Set the index aside, fill a new one, return the old one's name: ``storage_root`` knows how."""

_renewing = threading.Lock()


class IndexDamaged(APIException):
    status_code = 503
    default_detail = (
        "The index was damaged and is made again from the run folders: ask again in a moment."
    )
    wait = RETRY_SECONDS  # becomes Retry-After


def is_damage(error: BaseException | None) -> bool:
    """Return whether *error*, or a cause of it, is SQLite's report of a damaged file."""
    while error is not None:
        if isinstance(error, sqlite3.DatabaseError):
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        error = error.__cause__
    return False


def notice(error: BaseException) -> bool:
    """Start to make the index again if *error* says that it is damaged; return whether it does."""
    if not is_damage(error) or connections[INDEX].vendor != "sqlite":
        return False
    threading.Thread(target=_renew, args=[str(error)], name="renew-index").start()
    return True


def answer(error: DatabaseError) -> APIException | None:
    """Return the API error for a request that met *error*; None if it is not about damage."""
    return IndexDamaged() if notice(error) else None


def note_rebuilt(name: str, reason: str) -> None:
    """Let health and the pages say that a damaged index, now called *name*, was replaced."""
    current.state, current.set_aside, current.reason = "rebuilt", name, reason


def check() -> None:
    """Check every page of the index; make it again if one is damaged."""
    before = current.state
    current.state = "checking"
    try:
        with closing(sqlite3.connect(databases.file_of(INDEX))) as connection:
            problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        problem = str(error) if is_damage(error) else "ok"
    if problem != "ok":
        _renew(problem)
    elif current.state == "checking":
        current.state = before


def check_if_unclean() -> None:
    """Check the index in the background if an earlier process did not end properly."""
    if _note_start():
        logger.info("The server did not end in order the last time: checking the index.")
        threading.Thread(target=check, name="check-index", daemon=True).start()


def _renew(reason: str) -> None:
    if not _renewing.acquire(blocking=False):
        return  # another thread is at it
    try:
        file = databases.file_of(INDEX)
        (name,) = [renew() for renew in renewing]
        note_rebuilt(name, reason)
        logger.error(
            "The index %s was damaged (%s). It is now %s, and is made again from the run folders.",
            *(file, reason, name),
        )
    except Exception:
        logger.exception("The damaged index could not be made again")
    finally:
        _renewing.release()


# -- whether the last process ended properly -----------------------------------------------------


def _marker(pid: int) -> Path:
    folder = settings.RUNICORN_STORAGE_ROOT / layout.SERVER_DIR / "running"
    return folder / f"{socket.gethostname()}-{pid}"


def _note_start() -> bool:
    """Write a marker of this process; return whether a process that is gone left one."""
    marker = _marker(os.getpid())
    marker.parent.mkdir(parents=True, exist_ok=True)
    stale_markers = [path for path in marker.parent.iterdir() if _is_stale(path)]
    for path in stale_markers:
        path.unlink(missing_ok=True)
    marker.touch()
    return bool(stale_markers)


def _is_stale(path: Path) -> bool:
    host, _, pid = path.name.rpartition("-")
    if host != socket.gethostname() or not pid.isdecimal():
        return False  # of another machine, whose process may be running
    try:
        return psutil.Process(int(pid)).create_time() > path.stat().st_mtime + 1
    except (psutil.Error, OSError):
        return True


def note_end() -> None:
    _marker(os.getpid()).unlink(missing_ok=True)


def describe() -> dict[str, Any]:
    """Return the state of the index for ``/api/health`` and the pages."""
    return {"state": current.state, "set_aside": current.set_aside, "reason": current.reason}
