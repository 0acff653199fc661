"""Real errors of systems and databases, each made the way that it comes about."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from django.db import DatabaseError, connection
from psycopg_pool import PoolTimeout

from runicorn import layout


def of_system(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "a file")

    return fail


def sqlite(prepare: str = "", *, opened: str = "file:{}/db?mode=rwc", then: str) -> None:
    with TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/db")) as other:
        other.executescript("CREATE TABLE t(x)")
        other.execute(prepare or "SELECT 1")
        with (
            connection.wrap_database_errors,
            closing(sqlite3.connect(opened.format(folder), timeout=0, uri=True)) as mine,
        ):
            for statement in then.split(";"):
                mine.execute(statement)


def locked() -> None:
    sqlite("BEGIN IMMEDIATE", then="INSERT INTO t VALUES (1)")


def full() -> None:
    insert = "INSERT INTO t VALUES (zeroblob(100000))"
    sqlite(then=f"PRAGMA max_page_count=3;{insert}")


def read_only() -> None:
    sqlite(opened="file:{}/db?mode=ro", then="INSERT INTO t VALUES (1)")


def not_opened() -> None:
    sqlite(opened="file:{}/nothing/db", then="SELECT 1")


def wrong_query() -> None:
    sqlite(then="SELECT nothing FROM t")


class _PostgreSQL:
    """Django's errors for those of psycopg, whatever database the tests use."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            raise DatabaseError(str(error)) from error


def not_reached() -> None:
    with _PostgreSQL():
        psycopg.connect("host=127.0.0.1 port=1 dbname=x", connect_timeout=2)


def of_postgresql(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        with _PostgreSQL():
            raise error

    return fail


def lock_held() -> None:
    with TemporaryDirectory() as folder, layout.locked(Path(folder) / "file"):
        raise TimeoutError("not had within 10 s")


LASTING = {"EROFS": 503, "EACCES": 503, "EIO": 503, "ESTALE": 503, "ENOSPC": 507, "EDQUOT": 507}
PASSING = {"EMFILE": 503, "ENFILE": 503, "ENOMEM": 503}

troubles: dict[str, tuple[Callable[[], None], int, bool]] = {
    **{
        name: (of_system(getattr(errno, name)), status, name in PASSING)
        for name, status in (LASTING | PASSING).items()
    },
    "lock held": (lock_held, 503, True),
    "locked": (locked, 503, True),
    "full": (full, 507, False),
    "read-only": (read_only, 503, True),
    "not opened": (not_opened, 503, True),
    "not reached": (not_reached, 503, True),
    "pool": (of_postgresql(PoolTimeout("none within 5 s")), 503, True),
    "shut down": (of_postgresql(psycopg.errors.AdminShutdown("bye")), 503, True),
    "deadlock": (of_postgresql(psycopg.errors.DeadlockDetected("!")), 503, True),
    "disk of the database": (of_postgresql(psycopg.errors.DiskFull("!")), 507, False),
}
"""By name: what fails, the status of the response, and whether waiting may help."""

bugs: dict[str, Callable[[], None]] = {
    "wrong query": wrong_query,
    "wrong query of PostgreSQL": of_postgresql(psycopg.errors.UndefinedColumn("nothing")),
    "a missing file": of_system(errno.ENOENT),
    "a wrong argument": of_system(errno.EINVAL),
}
