"""The two databases, and the router that assigns each table to one of them.

*default* is the index: it is made from the files and can be made again. *server* holds data that
is in no file: users, sessions, and the operation of the server. In the embedded default they are
two SQLite files, so that a damaged index takes nothing with it; no foreign key crosses between
them. On PostgreSQL both are one database, and there is no alias *server*.
"""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

INDEX = DEFAULT_DB_ALIAS
SERVER = "server"

SERVER_APPS = frozenset(
    {"accounts", "admin", "auth", "contenttypes", "operation", "remote", "sessions"}
)


def is_server_alias(alias: str) -> bool:
    """Return whether *alias* is a server database (``next_server`` is that of the coming root)."""
    return alias.endswith(SERVER)


class Router:
    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return SERVER if has_server_database() and model._meta.app_label in SERVER_APPS else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        if not has_server_database():
            return None
        return is_server_alias(db) == (app_label in SERVER_APPS)


def has_server_database() -> bool:
    return SERVER in connections.settings
