"""Inserting many small rows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, models, router


def insert(model: type[models.Model], fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert *rows*, each with a value for every one of *fields*, without returning keys.

    For tables that get several rows for each of thousands of runs: the driver repeats one
    prepared statement, where ``bulk_create`` makes an object of each row and a statement for every
    few. *fields* must include all without a default in the database. The driver gets the values
    unchanged: numbers, text, bytes and None, a related row as its key.
    """
    if not (values := [tuple(row) for row in rows]):
        return
    connection = connections[router.db_for_write(model)]
    quote = connection.ops.quote_name
    columns = [quote(str(model._meta.get_field(name).column)) for name in fields]  # type: ignore[union-attr]
    placeholders = ", ".join(["%s"] * len(columns))
    table = quote(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({placeholders})", values
        )
