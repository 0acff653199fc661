"""The storage root that this process serves, and how it moves to another while running.

Everything reads ``settings.RUNICORN_STORAGE_ROOT`` when it needs it, and every database connection
shares one dictionary that says which file to open: pointing both elsewhere moves all readers with
their next request. The intake, which watches a root, is started anew.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from runicorn import config, layout
from runs.ingest import progress
from runs.ingest.indexer import Intake
from runs.logs import live

logger = logging.getLogger("runicorn.storage")

_NEXT = "next"
"""The alias under which the database of the coming root is prepared."""

_lock = threading.Lock()
_intake: Intake | None = None


class CannotMove(RuntimeError):
    """The server stays where it is; says why."""


_open: WeakSet[BaseDatabaseWrapper] = WeakSet()
_open_lock = threading.Lock()


@receiver(connection_created)
def _note(connection: BaseDatabaseWrapper, **_: Any) -> None:
    with _open_lock:
        _open.add(connection)


def start_intake(report: Callable[[progress.Progress], None] | None = None) -> None:
    global _intake
    _intake = Intake(settings.RUNICORN_STORAGE_ROOT, report=report)
    _intake.start()


def stop_intake(*, patiently: bool = False) -> None:
    """*patiently*: return only when nothing more will be taken in, however long a scan takes."""
    global _intake
    if _intake is not None:
        _intake.stop()
        if patiently:
            _intake.join()
        _intake = None


def prepare_database(alias: str = "default") -> None:
    """Bring the schema up to date. A damaged index is put aside: the run folders hold the truth."""
    try:
        call_command("migrate", database=alias, verbosity=0, interactive=False)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        connection = connections[alias]
        path = Path(str(connection.settings_dict["NAME"]))
        if connection.vendor != "sqlite" or "locked" in str(error) or not path.exists():
            raise
        connection.close()
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        print(f"The index was damaged ({error}); it is now {aside.name} and is built anew.")
        call_command("migrate", database=alias, verbosity=0, interactive=False)


def use_root(path: Path, *, by: Any) -> None:
    """Serve the storage root *path* from now on, and after a restart.

    Creates it if need be. Raises OSError for a folder that cannot be used, CannotMove where the
    root is not this process's to choose or its index cannot be opened; nothing has changed then.
    """
    if not settings.RUNICORN_ROOT_CAN_MOVE:
        raise CannotMove("the environment of this server says which storage folder it serves")
    with _lock:
        _check_writable(path)
        database = (
            path / layout.SERVER_DIR / Path(str(connections.settings["default"]["NAME"])).name
        )
        _prepare_next(database)
        config.set_user_root_dir(path)
        if path == settings.RUNICORN_STORAGE_ROOT:
            return
        stop_intake(patiently=True)
        live.end_all()
        connections.settings["default"]["NAME"] = database
        settings.RUNICORN_STORAGE_ROOT = path
        connections["default"].close()
        with _open_lock:
            # The others finish their requests on the old file and are closed then.
            for connection in _open:
                connection.close_at = 0
        progress.current.found = progress.current.taken_in = progress.current.failed = 0
        start_intake()
    logger.info("The storage folder is now %s, by %s", path, by or "the owner")


def _check_writable(path: Path) -> None:
    (path / layout.RUNS).mkdir(parents=True, exist_ok=True)
    (path / layout.SERVER_DIR).mkdir(exist_ok=True)
    for folder in (path, path / layout.SERVER_DIR):
        handle, name = tempfile.mkstemp(prefix=".writable-", dir=folder)
        os.close(handle)
        Path(name).unlink()


def _prepare_next(database: Path) -> None:
    """Open and migrate the coming root's index, so that no request meets one without tables."""
    connections.settings[_NEXT] = {**connections.settings["default"], "NAME": database}
    try:
        prepare_database(_NEXT)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        raise CannotMove(f"its index cannot be opened: {error}") from error
    finally:
        connections[_NEXT].close()
        del connections[_NEXT]
        del connections.settings[_NEXT]
