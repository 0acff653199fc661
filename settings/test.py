"""The suite's settings: the embedded default on a storage root of its own.

``RUNICORN_TEST_DATABASE_URL`` names a PostgreSQL to use in place of SQLite.
"""

from __future__ import annotations

import os
import tempfile

os.environ["RUNICORN_DIR"] = tempfile.mkdtemp(prefix="runicorn-test-")
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="runicorn-test-config-")

from . import local
from .local import *

DATABASES = dict(local.DATABASES)

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
for _alias, _database in DATABASES.items():
    _database["TEST"] = {"NAME": RUNICORN_STORAGE_ROOT / f".runicorn/test-{_alias}.sqlite3"}

if _connection := os.environ.get("RUNICORN_TEST_DATABASE_URL"):
    from .postgresql import postgresql

    DATABASES = {"default": postgresql(_connection)}
