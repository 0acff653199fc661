"""The storage root that this process serves, which can change while it runs.

Everything reads ``settings.RUNICORN_STORAGE_ROOT`` when it needs it, and every database connection
shares one dictionary that says which file to open: pointing both elsewhere moves all readers with
their next request. The indexer, which watches a root, is restarted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

from django.conf import settings
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from core.access import record
from core.databases import INDEX, SERVER
from core.http import conditional
from runicorn import config, layout
from runs.ingest import progress
from runs.ingest.indexer import Indexer
from runs.logs import live

from . import databases, index_health

logger = logging.getLogger("runicorn.storage")

_lock = threading.Lock()
_indexer: Indexer | None = None


class CannotMove(RuntimeError):
    """The server cannot move to another storage root; the text says why."""


_open: WeakSet[BaseDatabaseWrapper] = WeakSet()
_open_lock = threading.Lock()


@receiver(connection_created)
def _note(connection: BaseDatabaseWrapper, **_: Any) -> None:
    with _open_lock:
        _open.add(connection)


def start_indexer(report: Callable[[progress.Progress], None] | None = None) -> None:
    global _indexer
    indexer = Indexer(settings.RUNICORN_STORAGE_ROOT, report=report, on_error=index_health.notice)
    indexer.start()
    _indexer = indexer


def stop_indexer(*, wait: bool = False) -> None:
    """Stop the indexer; with *wait*, return only once it indexes nothing more."""
    global _indexer
    if _indexer is not None:
        _indexer.stop()
        if wait:
            _indexer.join()
        _indexer = None


def prepare_databases() -> None:
    """Bring the databases up to date. Raises ServerDatabaseDamaged."""
    for alias in connections.settings:
        databases.prepare(alias)
    for name, reason in databases.damaged.items():
        index_health.note_rebuilt(name, reason)


def use_root(path: Path, *, by: Any) -> None:
    """Serve the storage root *path* from now on, and after a restart.

    Creates it if it does not exist. Raises OSError for a folder that cannot be used, CannotMove if
    this process may not choose its root or the index there cannot be opened; nothing has changed
    then.
    """
    if not settings.RUNICORN_ROOT_CAN_MOVE:
        raise CannotMove("the environment of this server says which storage folder it serves")
    with _lock:
        _check_writable(path)
        files = {
            alias: path / layout.SERVER_DIR / databases.file_of(alias).name
            for alias in (INDEX, SERVER)
        }
        _prepare_next(files)
        config.set_user_root_dir(path)
        if path == settings.RUNICORN_STORAGE_ROOT:
            return
        stop_indexer(wait=True)
        live.end_all()
        for alias, file in files.items():
            connections.settings[alias]["NAME"] = file
            connections[alias].close()
        settings.RUNICORN_STORAGE_ROOT = path
        _leave_files()
        progress.current = progress.Progress()
        start_indexer()
    record(by, "storage.move", path)


def renew_index() -> str:
    """Set the index aside and fill a new one; return the new name of the old one."""
    with _lock:
        report = _indexer.report if _indexer else None
        stop_indexer(wait=True)
        live.end_all()
        name = databases.replace_index()
        connections.close_all()
        _leave_files()
        progress.current = progress.Progress()
        start_indexer(report)
    return name


def _leave_files() -> None:
    """Let the other threads finish their requests on the old files; then they open the new ones."""
    conditional.forget()
    with _open_lock:
        for connection in _open:
            connection.close_at = 0


def _check_writable(path: Path) -> None:
    (path / layout.RUNS).mkdir(parents=True, exist_ok=True)
    (path / layout.SERVER_DIR).mkdir(exist_ok=True)
    for folder in (path, path / layout.SERVER_DIR):
        handle, name = tempfile.mkstemp(prefix=".writable-", dir=folder)
        os.close(handle)
        Path(name).unlink()


def _prepare_next(files: dict[str, Path]) -> None:
    """Migrate the databases of the coming root, so that no request finds one without tables."""
    for alias, file in files.items():
        try:
            with databases.prepared(alias, file):
                pass
        except (DatabaseError, sqlite3.DatabaseError) as error:
            raise CannotMove(f"its index cannot be opened: {error}") from error
        except databases.ServerDatabaseDamaged as error:
            raise CannotMove(str(error)) from error
