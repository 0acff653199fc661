"""Trouble of the machine: a full disk, a missing folder, a database that does not answer.

It is not a bug, and most of it is temporary: the response is 503, or 507 for a full disk, and says
what to do. Only errors that the system itself reports count, by their numbers; others remain bugs.
"""

from __future__ import annotations

import encodings.unicode_escape  # noqa: F401  (Django logs with it; later no file may be opened)
import errno
import logging
import sqlite3
from typing import Any

from django.utils.translation import gettext_noop as _
from rest_framework.exceptions import APIException

from ..storage import StorageAway, check_storage

logger = logging.getLogger("runicorn.trouble")

WAIT_SECONDS = 5


class Trouble(APIException):
    """503: *detail* names the trouble. ``wait`` becomes Retry-After if waiting may help."""

    status_code = 503

    def __init__(self, detail: str, wait: int | None = WAIT_SECONDS) -> None:
        super().__init__(detail)
        self.wait = wait


class DiskFull(Trouble):
    status_code = 507

    def __init__(self) -> None:
        super().__init__(DISK_FULL, wait=None)


AWAY = _(
    "The storage folder of this server is not there: it was moved or is not mounted. Put it back, "
    "or start the server on its new place."
)
DISK_FULL = _("The disk of the server is full: free some space, then try again.")
READ_ONLY = _(
    "The storage of the server is read-only: nothing can be changed until it is writable."
)
DENIED = _("The server may not use a file of its storage: its log says which one.")
DISK_FAILS = _(
    "The storage of the server does not answer: its disk or network share is in trouble."
)
TOO_MANY_FILES = _("The server has too many files open: try again, or raise its limit (ulimit -n).")
OUT_OF_MEMORY = _("The server has no memory left for this: try again, or ask for less at once.")
LOCKED = _("Another request or program works on this: ask again in a moment.")
DATABASE_AWAY = _("The database does not answer: try again in a moment.")
DATABASE_CLOSED = _("The database cannot be opened: the log of the server says why.")
TOO_LONG = _("The database took too long and gave up: try again, or ask for less at once.")
ALL_IN_USE = _("All connections to the database are in use: try again in a moment.")

_OF_THE_DISK = {
    errno.EROFS: READ_ONLY,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EIO: DISK_FAILS,
    errno.ENODEV: DISK_FAILS,
    errno.ENXIO: DISK_FAILS,
    errno.ENOTCONN: DISK_FAILS,
    errno.ESTALE: DISK_FAILS,
}
_PASSING = {
    errno.EMFILE: TOO_MANY_FILES,
    errno.ENFILE: TOO_MANY_FILES,
    errno.ENOMEM: OUT_OF_MEMORY,
    errno.EAGAIN: LOCKED,
    errno.EDEADLK: LOCKED,
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_SQLITE = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_NOMEM: OUT_OF_MEMORY,
    sqlite3.SQLITE_CANTOPEN: DATABASE_CLOSED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_IOERR: DISK_FAILS,
}
_POSTGRESQL = {
    "08": DATABASE_AWAY,  # connection exception
    "57P": DATABASE_AWAY,  # shutdown, crash, not yet started
    "53": OUT_OF_MEMORY,  # insufficient resources
    "40": LOCKED,  # deadlock, serialization failure
    "55P03": LOCKED,
    "57014": TOO_LONG,
    "25006": READ_ONLY,
}


def of_system(error: OSError) -> Trouble | None:
    """Return the response to what the operating system refused; None if it may be a bug."""
    trouble = _of_system(error)
    if trouble is not None:
        logger.warning("%s (%s: %s)", trouble.detail, type(error).__name__, error)
    return trouble


def of_database(error: Exception) -> Trouble | None:
    """Return the response to an error of a database, Django's or a driver's; None for a bug."""
    cause: Any = error
    while cause.__cause__ is not None and not hasattr(cause, "sqlite_errorcode"):
        cause = cause.__cause__
    if isinstance(cause, sqlite3.Error):
        trouble = _of_sqlite(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
    else:
        trouble = _of_postgresql(cause)
    if trouble is not None:
        logger.warning("%s (%s: %s)", trouble.detail, type(error).__name__, error)
    return trouble


def _of_system(error: OSError) -> Trouble | None:
    if isinstance(error, StorageAway):
        return Trouble(AWAY)
    if isinstance(error, TimeoutError):
        return Trouble(LOCKED)
    if error.errno in _FULL:
        return DiskFull()
    if error.errno in _PASSING:
        return Trouble(_PASSING[error.errno])
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _of_storage()
    if error.errno in _OF_THE_DISK:
        return Trouble(_OF_THE_DISK[error.errno], wait=None)
    return None


def _of_storage() -> Trouble | None:
    """Return the trouble that the storage root is in, if any."""
    try:
        check_storage()
    except OSError as error:
        return _of_system(error)
    return None


def _of_sqlite(code: int) -> Trouble | None:
    if code == sqlite3.SQLITE_FULL:
        return DiskFull()
    if code not in _SQLITE:
        return None
    if _SQLITE[code] is not LOCKED and (trouble := _of_storage()) is not None:
        return trouble
    return Trouble(_SQLITE[code])


def _of_postgresql(cause: Any) -> Trouble | None:
    if type(cause).__name__ in ("PoolTimeout", "TooManyRequests"):
        return Trouble(ALL_IN_USE)
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # The driver's own errors: it lost the connection, or has none.
        has_no_connection = type(cause).__name__ in ("OperationalError", "InterfaceError")
        return Trouble(DATABASE_AWAY) if has_no_connection else None
    if state == "53100":
        return DiskFull()
    for length in (5, 3, 2):
        if (detail := _POSTGRESQL.get(state[:length])) is not None:
            return Trouble(detail)
    return None
