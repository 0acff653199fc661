from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict


def postgresql(connection: str) -> dict[str, Any]:
    """A connection string of PostgreSQL, in either of its forms, as Django has it."""
    said = conninfo_to_dict(connection)
    names = {name: said.pop(name.lower(), "") for name in ("USER", "PASSWORD", "HOST", "PORT")}
    name = said.pop("dbname", "")
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **names, "OPTIONS": said}
