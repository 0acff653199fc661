"""Metrics as columns of Arrow memory, for pandas and polars."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Literal

from . import _requests as http
from ._calls import JSON, Client, metric_names_in, path
from ._steps import Request, Steps

Library = Literal["pandas", "polars"]

ARROW = "application/vnd.apache.arrow.stream"
_NAMES = {"global_step": "step", "time": "timestamp"}


def metrics(
    self: Client,
    run_id: str,
    library: Library,
    metric_names: Iterable[str] | None = None,
    limit: int | None = None,
) -> Steps[Any]:
    """Columns ``step``, ``timestamp`` (Unix seconds), then the metrics as float64; a row a step.

    Without a number at a step: null. *limit*: the last so many steps. Asks for Arrow, which is
    taken over as it is; a server of version 0.4 answers with JSON all the same.
    """
    build = _Polars() if library == "polars" else _Pandas()
    accept = f"{ARROW}, application/json" if build.reads_arrow else "application/json"
    address = path("runs", run_id, "metrics_step")
    response = yield from http.send(self, Request("GET", address, headers={"Accept": accept}))
    if response.headers.get("Content-Type", "").startswith(ARROW):
        return build.from_arrow(response.content, metric_names, limit)
    return build.from_columns(_columns(http.json_of(response), metric_names, limit))


def _columns(table: JSON, metric_names: Iterable[str] | None, limit: int | None) -> JSON:
    rows = table["rows"][_first(len(table["rows"]), limit) :]
    columns = {
        "step": [row["global_step"] for row in rows],
        "timestamp": [row.get("time") for row in rows],
    }
    for name in metric_names_in(table, metric_names):
        values = [_number(row.get(name)) for row in rows]
        if any(value is not None for value in values):
            columns[name] = values
    return columns


def _first(rows: int, limit: int | None) -> int:
    return 0 if limit is None else max(0, rows - limit)


def _number(cell: Any) -> float | None:
    try:
        return float(cell) if isinstance(cell, int | float) else None
    except OverflowError:  # an integer beyond every float
        return None


def _wanted(names: list[str], metric_names: Iterable[str] | None) -> list[str]:
    first = [name for name in _NAMES if name in names]
    return [*first, *metric_names_in({"columns": names}, metric_names)]


def load_pandas() -> Any:
    """Return the module. Raises ImportError with a sentence that says how to install it."""
    try:
        import pandas
    except ImportError:
        raise ImportError(
            "pandas is required for this function. Install: pip install pandas"
        ) from None
    return pandas


class _Pandas:
    def __init__(self) -> None:
        self.pd = load_pandas()
        self.reads_arrow = find_spec("pyarrow") is not None  # pandas alone will do

    def from_arrow(self, data: bytes, metric_names: Iterable[str] | None, limit: int | None) -> Any:
        import pyarrow as pa

        table = pa.ipc.open_stream(data).read_all()
        table = table.select(_wanted(table.column_names, metric_names))
        table = table.slice(_first(table.num_rows, limit))
        kept = [
            name
            for name, column in zip(table.column_names, table.columns, strict=True)
            if name in _NAMES
            or (not pa.types.is_string(column.type) and column.null_count < len(column))
        ]
        table = table.select(kept).rename_columns([_NAMES.get(name, name) for name in kept])
        return table.to_pandas(types_mapper=self.pd.ArrowDtype)

    def from_columns(self, columns: JSON) -> Any:
        if not self.reads_arrow:
            return self.pd.DataFrame(columns)
        import pyarrow as pa

        return pa.table(columns).to_pandas(types_mapper=self.pd.ArrowDtype)


class _Polars:
    reads_arrow = True

    def __init__(self) -> None:
        try:
            import polars
        except ImportError:
            raise ImportError("polars is required for this. Install: pip install polars") from None
        self.pl = polars

    def from_arrow(self, data: bytes, metric_names: Iterable[str] | None, limit: int | None) -> Any:
        frame = self.pl.read_ipc_stream(data)
        frame = frame.select(_wanted(frame.columns, metric_names))
        frame = frame.slice(_first(frame.height, limit))
        kept = [
            column
            for column in frame
            if column.name in _NAMES
            or (column.dtype != self.pl.String and column.null_count() < len(column))
        ]
        return frame.select(column.name for column in kept).rename(
            {old: new for old, new in _NAMES.items() if old in frame.columns}
        )

    def from_columns(self, columns: JSON) -> Any:
        return self.pl.DataFrame(columns)
