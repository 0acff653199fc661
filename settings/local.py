"""The embedded default: one person, one machine, no services."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import psutil
from django.core.management.utils import get_random_secret_key

from runicorn import layout

from .base import *
from .env import env_bool, env_list

RUNICORN_STORAGE_ROOT = layout.storage_root()
_server_dir = RUNICORN_STORAGE_ROOT / layout.SERVER_DIR


def _secret_key(path: Path) -> str:
    """Return the key that signs sessions; create it, readable by its owner only, if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text()
    with os.fdopen(handle, "w") as file:
        key = get_random_secret_key()
        file.write(key)
    return key


SECRET_KEY = _secret_key(_server_dir / "secret_key")

# Loopback names only: a foreign page could let a name of its own point at this server.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env_list("RUNICORN_ALLOWED_HOSTS")]
if env_bool("RUNICORN_ALLOW_REMOTE", False):
    # The names of this machine, which foreign DNS entries cannot use.
    ALLOWED_HOSTS += [
        socket.gethostname(),
        *(
            f"[{a.address}]" if a.family == socket.AF_INET6 else a.address
            for addresses in psutil.net_if_addrs().values()
            for a in addresses
            if a.family in (socket.AF_INET, socket.AF_INET6)
        ),
    ]
CORS_ALLOWED_ORIGIN_REGEXES = [r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?\Z"]
RUNICORN_LOCAL_USER = True
RUNICORN_ROOT_CAN_MOVE = True


def _sqlite(name: str, pragmas: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _server_dir / name,
        "CONN_MAX_AGE": None,  # the threads are kept, see core.http.threads
        "OPTIONS": {
            "timeout": 30,
            # Writers queue at BEGIN instead of failing when a read turns into a write.
            "transaction_mode": "IMMEDIATE",
            "init_command": f"PRAGMA journal_mode=WAL; PRAGMA temp_store=MEMORY; {pragmas}",
        },
    }


# The index can be made again from the files, the server's own database cannot.
DATABASES = {
    "default": _sqlite(
        "index.sqlite3",
        "PRAGMA synchronous=NORMAL; PRAGMA mmap_size=67108864; PRAGMA cache_size=-16000;",
    ),
    "server": _sqlite("server.sqlite3", "PRAGMA synchronous=FULL;"),
}

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
