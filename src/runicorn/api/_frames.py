"""Metrics as columns of Arrow memory, for pandas and polars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from ._calls import JSON, metric_names_in

Library = Literal["pandas", "polars"]


def frame(
    table: JSON, library: Library, metric_names: Iterable[str] | None, limit: int | None
) -> Any:
    """Columns ``step``, ``timestamp`` (Unix seconds), then the metrics; one row a step.

    Without a value at a step: null. *limit*: the last so many steps.
    """
    rows = table["rows"]
    if limit is not None:
        rows = rows[len(rows) - min(limit, len(rows)) :]
    columns = {
        "step": [row["global_step"] for row in rows],
        "timestamp": [row.get("time") for row in rows],
    }
    for name in metric_names_in(table, metric_names):
        values = _numbers([row.get(name) for row in rows])
        if values is not None:
            columns[name] = values
    return _polars(columns) if library == "polars" else _pandas(columns)


def _numbers(cells: list[Any]) -> list[Any] | None:
    """*cells* without what is no number; None if nothing is left."""
    kinds = set(map(type, cells))
    if not kinds <= {int, float, bool, type(None)}:
        cells = [cell if isinstance(cell, int | float) else None for cell in cells]
        kinds = set(map(type, cells))
    if kinds <= {type(None)}:
        return None
    if kinds <= {float, type(None)}:  # nearly always
        return cells
    if kinds & {float} or any(isinstance(c, int) and abs(c) >= 2**63 for c in cells):
        return [None if cell is None else float(cell) for cell in cells]
    if bool in kinds and int in kinds:
        return [None if cell is None else int(cell) for cell in cells]
    return cells


def _pandas(columns: dict[str, list[Any]]) -> Any:
    from .utils import _pandas as pandas

    pd = pandas()
    try:
        import pyarrow as pa
    except ImportError:  # pandas alone will do
        return pd.DataFrame(columns)
    return pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)


def _polars(columns: dict[str, list[Any]]) -> Any:
    try:
        import polars as pl
    except ImportError:
        raise ImportError("polars is required for this. Install: pip install polars") from None
    return pl.DataFrame(columns)
