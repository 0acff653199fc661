from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict


def postgresql(connection: str) -> dict[str, Any]:
    """Return Django's form of a PostgreSQL connection string, in either of its formats."""
    options = conninfo_to_dict(connection)
    names = {name: options.pop(name.lower(), "") for name in ("USER", "PASSWORD", "HOST", "PORT")}
    name = options.pop("dbname", "")
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **names, "OPTIONS": options}
