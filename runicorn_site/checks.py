"""Checks for mistakes of a deployment, before the first request (``manage.py check``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from core.databases import INDEX
from operation.databases import foreign_migrations

_IN_PROCESS_CACHES = ("locmem.LocMemCache", "dummy.DummyCache")


@register
def storage_root_is_there(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    root = settings.RUNICORN_STORAGE_ROOT
    if root.is_dir() and os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return []
    return [
        Error(
            f"The storage folder {root} is missing, or this user may not write to it.",
            hint="Create or mount it, or name another with RUNICORN_DIR.",
            id="runicorn.E001",
        )
    ]


@register
def processes_share_what_they_must(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that processes which share a database server share everything else, too."""
    if str(settings.DATABASES["default"]["ENGINE"]).endswith("sqlite3"):
        return []
    messages: list[CheckMessage] = []
    if "InMemory" in settings.CHANNEL_LAYERS["default"]["BACKEND"]:
        messages.append(
            Error(
                "Live log lines would not leave the process that took them in.",
                hint="Set CHANNEL_LAYERS to channels_redis.core.RedisChannelLayer.",
                id="runicorn.E002",
            )
        )
    if str(settings.CACHES["default"]["BACKEND"]).endswith(_IN_PROCESS_CACHES):
        messages.append(
            Error(
                "Each process would have a cache of its own.",
                hint="Set CACHES to django.core.cache.backends.redis.RedisCache.",
                id="runicorn.E003",
            )
        )
    if "memory" in settings.RUNICORN_RATE_LIMIT_STORAGE_URI:
        messages.append(
            Error(
                "Each process would count requests for itself: the limits would multiply.",
                hint="Set RUNICORN_RATE_LIMIT_STORAGE_URI to a redis:// address.",
                id="runicorn.E004",
            )
        )
    if settings.RUNICORN_LOCAL_USER:
        messages.append(
            Error(
                "Whoever reaches the server from its own machine would be a superuser.",
                hint="RUNICORN_LOCAL_USER is for the embedded default only.",
                id="runicorn.E005",
            )
        )
    return messages


@register(Tags.database)
def index_is_ours(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that this version made the index: another one has other tables.

    The viewer sets such an SQLite index aside by itself.
    """
    if INDEX not in (databases or ()) or not (strangers := foreign_migrations()):
        return []
    return [
        Error(
            f"The index was made by another version ({strangers[0]}).",
            hint="Let it be made again from the files: runicorn manage --action reindex",
            id="runicorn.E006",
        )
    ]
