"""Many small rows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, models, router


def insert(model: type[models.Model], fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert *rows*, each with a value for every one of *fields*; no keys come back.

    For tables that get several rows for each of thousands of runs: the driver repeats one
    prepared statement, where ``bulk_create`` makes an object of each row and a statement of each
    few. *fields* must name all that have no default in the database. Values are handed to the
    driver as they are: numbers, text, bytes and None, a related row as its key.
    """
    if not (values := [tuple(row) for row in rows]):
        return
    connection = connections[router.db_for_write(model)]
    quote = connection.ops.quote_name
    columns = [quote(str(model._meta.get_field(name).column)) for name in fields]  # type: ignore[union-attr]
    places = ", ".join(["%s"] * len(columns))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(columns)}) VALUES ({places})",
            values,
        )
