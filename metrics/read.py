"""What a run logged, as tables and curves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .columns import NESTED, NO_STEP, Column, Floats, Integers, concatenate, unpack
from .models import EventBlock, SeriesBlock
from .write import STEP_KEY

NOT_SHOWN = {"step", "epoch"}
"""Keys that no V1 table shows, as in v0.4 (``contract/metrics.md`` §1)."""


@dataclass
class Table:
    """Columns in order, and rows that have a cell (null if nothing was logged) for each."""

    columns: list[str]
    rows: list[dict[str, Any]]


def by_step(run_pk: int) -> Table:
    """One row a step, ascending; of repeated values of a key at a step the last logged wins.

    Events without a step are not in it.
    """
    steps, _ = _events(run_pk)
    return _table(STEP_KEY, steps, steps != NO_STEP, _columns(run_pk))


def by_time(run_pk: int) -> Table:
    """One row a moment, ascending, in seconds since the run's first event.

    Events without a time are not in it; those without a step are, with no ``global_step``.
    """
    steps, times = _events(run_pk)
    timed = np.isfinite(times)
    columns = _columns(run_pk)
    columns.pop("time", None)
    stepped = np.flatnonzero(steps != NO_STEP)
    if len(stepped):
        columns[STEP_KEY] = Column(
            stepped, steps[stepped].astype(np.float64), np.ones(len(stepped), np.uint8), []
        )
    origin = times[timed].min() if timed.any() else 0.0
    return _table("time", times - origin, timed, columns)


def curve(run_pk: int, key: str, points: int = 300) -> tuple[list[int], list[float | None]]:
    """Steps and values of one series for a chart of at most *points* points.

    In every stretch of the series its lowest and highest value are kept, and the first and last
    point of all; a value that is no finite number is a gap (None). Events without a step are
    left out.
    """
    steps, _ = _events(run_pk)
    column = _columns(run_pk, key).get(key)
    if column is None:
        return [], []
    at = steps[column.events]
    values = np.where(column.finite(), column.values, np.nan)[at != NO_STEP]
    at = at[at != NO_STEP]
    order = np.argsort(at, kind="stable")
    at, values = at[order], values[order]
    if len(at) > points:
        kept = _extremes(values, points)
        at, values = at[kept], values[kept]
    return at.tolist(), [value if np.isfinite(value) else None for value in values.tolist()]


def _extremes(values: Floats, points: int) -> Integers:
    """Indexes of first, last, and the lowest and highest value of each stretch, ascending."""
    edges = np.linspace(0, len(values), max(2, (points - 2) // 2) + 1).astype(np.int64)
    kept = {0, len(values) - 1}
    for low, high in pairwise(edges.tolist()):
        stretch = values[low:high]
        if np.isfinite(stretch).any():
            kept |= {int(low + np.nanargmin(stretch)), int(low + np.nanargmax(stretch))}
        elif len(stretch):
            kept.add(int(low))
    return np.array(sorted(kept), np.int64)


def _events(run_pk: int) -> tuple[Integers, Floats]:
    """Step and time of every event of the run."""
    blocks = EventBlock.objects.filter(run=run_pk).order_by("first").values_list("steps", "times")
    packed = list(blocks)
    return (
        np.frombuffer(b"".join(bytes(steps) for steps, _ in packed), "<i8"),
        np.frombuffer(b"".join(bytes(times) for _, times in packed), "<f8"),
    )


def _columns(run_pk: int, key: str | None = None) -> dict[str, Column]:
    blocks = SeriesBlock.objects.filter(series__run=run_pk)
    if key is not None:
        blocks = blocks.filter(series__key=key)
    parts: dict[str, list[Column]] = {}
    fields = ("series__key", "first", "positions", "values", "kinds", "extras")
    for name, *block in blocks.order_by("first").values_list(*fields):
        parts.setdefault(name, []).append(unpack(*block))
    return {name: concatenate(columns) for name, columns in parts.items()}


def _table(
    axis: str, positions: Any, placed: np.ndarray[Any, Any], columns: dict[str, Column]
) -> Table:
    """Merge all columns into rows along *axis*; *placed* says which events have a place on it."""
    if not placed.any():
        return Table([], [])
    places, row = np.unique(positions[placed], return_inverse=True)
    row_of_event = np.full(len(positions), -1, np.int64)
    row_of_event[placed] = row

    cells: dict[str, list[Any]] = {axis: places.tolist()}
    for key in sorted(columns):
        if key not in NOT_SHOWN and key != axis:
            shown = _cells(columns[key], row_of_event, len(places))
            if shown is not None:
                cells[key] = shown
    names = list(cells)
    return Table(
        names, [dict(zip(names, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    )


def _cells(column: Column, row_of_event: Integers, rows: int) -> list[Any] | None:
    """The column's cells by row; None if it has nothing that a table shows."""
    row = row_of_event[column.events]
    shown = (row >= 0) & (column.kinds != NESTED)
    if not shown.any():
        return None
    values = column.to_json()
    if len(values) == rows and shown.all() and (np.diff(row) > 0).all():
        return values
    cells: list[Any] = [None] * rows
    for index, value, show in zip(row.tolist(), values, shown.tolist(), strict=True):
        if show:
            cells[index] = value
    return cells
