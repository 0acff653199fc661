"""Bring the databases up to date, and set aside an index that cannot be used.

The index is made from the files: if it is damaged, or made by another version, it is renamed and
made again. ``server.sqlite3`` cannot be made again, so it is never set aside. A copy of it is kept
for each of the last days.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from core.databases import INDEX, SERVER_APPS, is_server_alias

COPIES = 7
"""The number of daily copies of the server database that are kept."""


damaged: dict[str, str] = {}
"""The indexes that were found damaged when they were opened: the name of each now, and why."""


class ServerDatabaseDamaged(RuntimeError):
    """The database of users and settings cannot be read; the text says which copy is newest."""


def file_of(alias: str) -> Path:
    """Return the file of an SQLite database."""
    return Path(str(connections.settings[alias]["NAME"]))


def prepare(alias: str) -> None:
    """Bring the schema of *alias* up to date.

    Prints a sentence where the index had to be made again. Raises ServerDatabaseDamaged.
    """
    is_file = connections[alias].vendor == "sqlite"
    if is_server_alias(alias):
        _prepare_server(alias)
        return
    try:
        if is_file and (strangers := foreign_migrations(alias)):
            name = set_aside(alias, "other")
            print(
                f"The index was made by another version ({strangers[0]}); it is now {name} and is "
                "built anew from the run folders.",
                flush=True,
            )
        _migrate(alias)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        if not is_file or "locked" in str(error) or not file_of(alias).exists():
            raise
        name = set_aside(alias, "damaged")
        damaged[name] = str(error)
        print(f"The index was damaged ({error}); it is now {name} and is built anew.", flush=True)
        _migrate(alias)


def _migrate(alias: str) -> None:
    call_command("migrate", database=alias, verbosity=0, interactive=False)


def foreign_migrations(alias: str = INDEX) -> list[str]:
    """Return the migrations that the index records as applied and this version does not have.

    Such an index was made by another version, and its tables may be anything.
    """
    connection = connections[alias]
    own_migrations = MigrationLoader(None).disk_migrations.keys()
    recorded = MigrationRecorder(connection).applied_migrations()
    return sorted(f"{app}.{name}" for app, name in recorded if (app, name) not in own_migrations)


def set_aside(alias: str, why: str, *, successor: Path | None = None) -> str:
    """Rename the file of an SQLite database; return its new name.

    A *successor* takes its place in the same step: the file exists at any time.
    """
    connections[alias].close()
    path = file_of(alias)
    renamed = path.with_name(f"{path.name}.{why}-{int(time.time())}")
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if successor is None:
        path.rename(renamed)
    else:
        renamed.hardlink_to(path)
        successor.replace(path)
    return renamed.name


@contextmanager
def prepared(alias: str, file: Path) -> Iterator[str]:
    """Bring the schema of *file*, the coming database *alias*, up to date; yield its alias."""
    coming = f"next_{alias}"
    connections.settings[coming] = {**connections.settings[alias], "NAME": file}
    try:
        prepare(coming)
        yield coming
    finally:
        connections[coming].close()
        del connections[coming]
        del connections.settings[coming]


def replace_index() -> str:
    """Set the index aside and put an empty one in its place; return the name of the old one."""
    new = file_of(INDEX).with_name(f"{file_of(INDEX).name}.new")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    with prepared(INDEX, new) as coming, connections[coming].cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    return set_aside(INDEX, "damaged", successor=new)


def rebuild_index() -> None:
    """Empty the index, so that the worker makes it again from the files. Other tables stay.

    Nothing else may be working on the index meanwhile.
    """
    connection = connections[INDEX]
    if connection.vendor == "sqlite":
        set_aside(INDEX, "replaced")
        _migrate(INDEX)
        return
    labels = {config.label for config in apps.get_app_configs() if config.models_module}
    labels -= SERVER_APPS
    with transaction.atomic(), connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        for table in tables:
            if table.partition("_")[0] in labels:
                cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)} CASCADE")
        MigrationRecorder(connection).migration_qs.filter(app__in=labels).delete()
    _migrate(INDEX)


# -- the server database -------------------------------------------------------------------------


def _prepare_server(alias: str) -> None:
    path = file_of(alias)
    try:
        _migrate(alias)
        _check(path)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        if "locked" in str(error):
            raise
        copies = _copies(path)
        newest = f"The newest copy is {copies[-1].name}" if copies else "There is no copy of it"
        raise ServerDatabaseDamaged(
            f"{path} is damaged ({error}): it holds the users, sessions and settings of this "
            f"server. {newest}; put it in its place, or move the damaged file away to begin "
            "without."
        ) from error
    _copy_once_a_day(path)


def _check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise sqlite3.DatabaseError(problem)


def _copies(path: Path) -> list[Path]:
    """Return the copies of the server database, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.copy-*"))


def _copy_once_a_day(path: Path) -> None:
    copy = path.with_name(f"{path.name}.copy-{datetime.now(UTC):%Y-%m-%d}")
    if copy.exists():
        return
    half = copy.with_name(f"{copy.name.replace('.copy-', '.half-')}")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(half)) as target:
        source.backup(target)
    half.rename(copy)
    for old in _copies(path)[:-COPIES]:
        old.unlink(missing_ok=True)
