"""What a run logged, as tables of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson
from django.db import models

from .blocks import (
    BLOCK,
    EVERYTHING,
    PIECE,
    STEP_KEY,
    Range,
    events_between,
    in_64_bits,
    read_columns,
    read_events,
    read_numbers,
    read_steps,
    series_columns,
    shown_series,
    timeline,
)
from .columns import (
    BOOLEAN,
    INTEGER,
    NESTED,
    NO_STEP,
    Column,
    Floats,
    Integers,
    chain,
    json_cells,
    json_text,
)
from .curves import level_for, points_of
from .models import Series, SeriesBlock, Timeline
from .outlines import Points, join
from .sampling import thin, thin_rows


@dataclass
class Table:
    """Rows along an axis, ascending; each column has a cell for every row."""

    axis: str
    places: Any
    cells: dict[str, Column]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, at: Integers) -> Table:
        cells = {key: column.take(at) for key, column in self.cells.items()}
        return Table(self.axis, self.places[at], cells)

    def json_rows(self) -> bytes:
        """The rows as JSON objects, with commas between them.

        Written column by column and then put together as text: five times as fast as a
        dictionary for each row.
        """
        names = [orjson.dumps(name).replace(b"%", b"%%") for name in (self.axis, *self.cells)]
        row = b"{" + b",".join(b"%b:%%b" % name for name in names) + b"}"
        cells = [json_cells(self.places), *(column.to_json() for column in self.cells.values())]
        return b",".join(map(row.__mod__, zip(*cells, strict=True)))


@dataclass
class Tables:
    """A table in pieces, one after the other; ``columns`` are those of each piece.

    ``total`` counts the rows that there are, ``rows`` those in the pieces (fewer, if they were
    thinned out); ``last`` is the place of the last. ``streams`` writes each column by itself, where
    that takes no more memory than a piece.
    """

    columns: list[str]
    pieces: Iterator[Table]
    total: int
    last: int | float | None = None
    rows: int = -1
    streams: dict[str, Callable[[], Iterator[bytes]]] | None = None

    def __post_init__(self) -> None:
        if self.rows < 0:
            self.rows = self.total

    def whole(self) -> Table | None:
        """All pieces as one; None if there is no row."""
        pieces = list(self.pieces)
        if len(pieces) <= 1:
            return pieces[0] if pieces else None
        return Table(
            pieces[0].axis,
            np.concatenate([piece.places for piece in pieces]),
            {key: _stack([piece.cells[key] for piece in pieces]) for key in pieces[0].cells},
        )

    def by_column(self) -> list[tuple[str, Iterator[bytes]]]:
        """Each column's name and its cells as JSON, with commas between them, in pieces."""
        if self.streams is not None:
            return [(name, cells()) for name, cells in self.streams.items()]
        table = self.whole()
        if table is None:
            return []
        columns = {key: column.json_text() for key, column in table.cells.items()}
        return [
            (name, iter([text]))
            for name, text in ((table.axis, json_text(table.places)), *columns.items())
        ]

    def thinned(self, points: int) -> Tables:
        """At most *points* of the rows (``metrics.sampling.thin_rows``)."""
        if self.total <= points:
            return self
        table = self.whole()
        assert table is not None
        numeric = [c.numbers() for c in table.cells.values() if (c.kinds <= BOOLEAN).any()]
        kept = table.take(thin_rows(numeric, len(table), points))
        return Tables(self.columns, iter([kept]), self.total, self.last, len(kept))


def _stack(parts: list[Column]) -> Column:
    """Columns of consecutive pieces as one."""
    start, moved = 0, []
    for part in parts:
        moved.append(part.moved(start))
        start += len(part)
    return chain(moved)


def by_step(
    run_pk: int,
    *,
    keys: Sequence[str] | None = None,
    steps: Range = EVERYTHING,
    after: int = 0,
    numbers: bool = False,
    known: Timeline | None = None,
) -> Tables:
    """One row a step, ascending; of repeated values of a key at a step the last logged wins.

    Events without a step are not in it, nor are those before the event number *after*. With
    *numbers* (the V2 form) only numeric series are shown, ``epoch`` among them; otherwise all
    that have anything but lists and objects. *keys* limits the series, in its order. *known* is
    the run's timeline, where the caller has it: nothing logged later is shown then.
    """
    series = shown_series(run_pk, keys, numbers)
    known = known or timeline(run_pk)
    if known is None or not known.is_ascending:
        return _merged_by_step(run_pk, series, steps, after, numbers)
    first, end, _, high = events_between(known, steps)
    end = min(end, known.count)
    first = max(first, min(after, end))
    columns = [STEP_KEY, *(s.key for s in series)] if known.count else []

    shown = {one.key: one for one in series}
    rows = _Rows(run_pk, first, end, STEP_KEY, partial(read_steps, run_pk), shown, numbers)
    last = high if end > first else None
    return Tables(columns, rows.pieces(), end - first, last, streams=rows.streams())


@dataclass
class _Rows:
    """Rows that are events, *first* to *end*, read a piece of them at a time.

    ``places(start, stop)`` says where the events from *start* on, where a block begins, lie on
    the axis; a column without a series is that of the steps.
    """

    run_pk: int
    first: int
    end: int
    axis: str
    places: Callable[[int, int], Any]
    columns: Mapping[str, Series | None]
    numbers: bool = False

    def pieces(self) -> Iterator[Table]:
        series = [one for one in self.columns.values() if one is not None]
        for start, low, stop in self._stretches():
            found = read_columns(series, start, stop)
            cells = {
                key: self._cells(found.get(one.pk) if one else None, one is None, low, stop)
                for key, one in self.columns.items()
            }
            yield Table(self.axis, self.places(start, stop)[low - start : stop - start], cells)

    def streams(self) -> dict[str, Callable[[], Iterator[bytes]]]:
        if self.first >= self.end:
            return {}
        return {self.axis: self._axis, **{key: partial(self._alone, key) for key in self.columns}}

    def _axis(self) -> Iterator[bytes]:
        for start, low, stop in self._stretches():
            yield json_text(self.places(start, stop)[low - start : stop - start])

    def _alone(self, key: str) -> Iterator[bytes]:
        one = self.columns[key]
        for start, low, stop in self._stretches():
            found = read_columns([one], start, stop).get(one.pk) if one else None
            yield self._cells(found, one is None, low, stop).json_text()

    def _stretches(self) -> Iterator[tuple[int, int, int]]:
        for start in range(self.first // BLOCK * BLOCK, self.end, PIECE):
            yield start, max(self.first, start), min(start + PIECE, self.end)

    def _cells(self, column: Column | None, is_step: bool, low: int, stop: int) -> Column:
        """A cell for each of the events *low* to *stop*."""
        if is_step:
            start = low // BLOCK * BLOCK
            steps = read_steps(self.run_pk, start, stop)[low - start : stop - start]
            kinds = np.full(len(steps), INTEGER, np.uint8)
            return Column(np.arange(len(steps)), steps.astype(np.float64), kinds, [])
        if column is None:
            empty = Column(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8), [])
            spread = empty.spread(empty.events, stop - low)
        else:
            part = column.between(low, stop)
            spread = part.spread(part.events - low, stop - low)
        return spread.as_numbers() if self.numbers else spread


LONG = 2**16
"""Rows from which on a series is shown by its outlines; shorter ones get as many as asked for."""


def sampled_by_step(
    run_pk: int,
    points: int,
    *,
    keys: Sequence[str] | None = None,
    steps: Range = EVERYTHING,
    after: int = 0,
    known: Timeline | None = None,
) -> Tables:
    """At most *points* rows of ``by_step`` with its numbers, thinned by the same rule.

    A long run is not read for this: outlines say which rows, and only their blocks are opened.
    """
    known = known or timeline(run_pk)
    if known is None or not known.is_ascending or after:
        rows = by_step(run_pk, keys=keys, steps=steps, after=after, numbers=True, known=known)
        return rows.thinned(points)
    first, end, low, high = events_between(known, steps)
    series = shown_series(run_pk, keys, True)
    columns = [STEP_KEY, *(s.key for s in series)]
    count, budget = end - first, (points - 2) // max(1, len(series))
    is_long = count > LONG if len(series) == 1 else count * len(series) > 8 * LONG
    level = level_for(first, end, budget) if is_long and budget >= 4 else 0
    if count <= points or not series:
        rows = by_step(run_pk, keys=keys, steps=steps, numbers=True, known=known)
        return rows.thinned(points)
    if level:
        table = _sample(series, level, known.outlined, (first, end), (low, high), points)
    else:
        table = _thinned(series, first, end, points)
    return Tables(columns, iter([table]), count, high, len(table))


def _thinned(series: list[Series], first: int, end: int, points: int) -> Table:
    """At most *points* of the rows *first* to *end*, by reading all their numbers."""
    values = {one.pk: np.full(end - first, np.nan) for one in series}
    for pk, events, numbers in read_numbers(list(values), first, end):
        if len(numbers) == end - first:
            values[pk] = numbers
        else:
            values[pk][events - first] = numbers
    shown = [numbers for numbers in values.values() if np.isfinite(numbers).any()]
    kept = thin_rows(shown, end - first, points)
    block = first // BLOCK * BLOCK
    places = read_steps(series[0].run_id, block, end)[kept + (first - block)]
    kinds = np.zeros(len(kept), np.uint8)
    cells = {one.key: Column(kept, values[one.pk][kept], kinds, []) for one in series}
    return Table(STEP_KEY, places, cells)


def _sample(
    series: list[Series],
    level: int,
    outlined: int,
    events: tuple[int, int],
    ends: tuple[int | None, int | None],
    points: int,
) -> Table:
    """At most *points* of the rows of these *events*, by the outlines of *level*."""
    first, end = events
    budget = (points - 2) // len(series)
    shown = {}
    parts = [(one.pk, one.run_id, one.key, one.count, one.number_count) for one in series]
    for part, whole in points_of(parts, level, first, end, outlined):
        shown[part[0]] = whole.take(thin(whole.values, budget))
    edges = Points(np.array([first, end - 1]), np.array(ends, np.int64), np.full(2, np.nan))
    together = join([*shown.values(), edges])
    chosen, at = np.unique(together.events, return_index=True)
    kinds = np.zeros(len(chosen), np.uint8)
    if len(series) == 1:
        values = np.full(len(chosen), np.nan)
        known = shown[series[0].pk]
        values[np.searchsorted(chosen, known.events)] = known.values
        found = {series[0].key: values}
    else:
        found = _numbers_at(series, chosen)
    cells = {key: Column(chosen, values, kinds, []) for key, values in found.items()}
    return Table(STEP_KEY, together.steps[at], cells)


def _numbers_at(series: list[Series], events: Integers) -> dict[str, Floats]:
    """What each of *series* logged at these events; NaN where it logged no number."""
    values = {one.pk: np.full(len(events), np.nan) for one in series}
    blocks = np.unique(events // BLOCK * BLOCK)
    for start in range(0, len(blocks), 32):
        some = blocks[start : start + 32].tolist()
        found = SeriesBlock.objects.filter(series__in=list(values))
        # The blocks of the growing end begin in between.
        at = models.Q(first__in=some) | models.Q(first__gt=some[-1], first__lt=some[-1] + BLOCK)
        for pk, column in series_columns(found.filter(at)):
            if not len(column):
                continue
            low, high = np.searchsorted(events, (column.events[0], column.events[-1] + 1))
            wanted = events[low:high]
            index = np.minimum(np.searchsorted(column.events, wanted), len(column) - 1)
            logged = column.events[index] == wanted
            values[pk][low:high][logged] = column.take(index[logged]).numbers()
    return {one.key: values[one.pk] for one in series}


def _merged_by_step(
    run_pk: int, series: list[Series], steps: Range, after: int, numbers: bool
) -> Tables:
    at, _ = read_events(run_pk)
    placed = at != NO_STEP
    placed[:after] = False
    low, high = in_64_bits(steps)
    if low is not None:
        placed &= at >= low
    if high is not None:
        placed &= at <= high
    columns = read_columns(series, 0, len(at))
    table = _merge(STEP_KEY, at, placed, {s.key: columns.get(s.pk) for s in series}, numbers)
    if numbers:
        table.cells = {key: column.as_numbers() for key, column in table.cells.items()}
    names = [STEP_KEY, *table.cells] if (at != NO_STEP).any() else []
    last = int(table.places[-1]) if len(table) else None
    return Tables(names, iter([table]), len(table), last)


def by_time(run_pk: int) -> Tables:
    """One row a moment, ascending, in seconds since the run's first event.

    Events without a time are not in it; those without a step are, with no ``global_step``.
    """
    known = timeline(run_pk)
    if known is not None and known.is_ascending and (ends := _ascending_times(known)):
        series = [s for s in shown_series(run_pk, None, False) if s.key != "time"]
        by_key = {s.key: s for s in series}
        shown = {key: by_key.get(key) for key in sorted([STEP_KEY, *by_key])}
        rows = _Rows(run_pk, 0, known.count, "time", partial(_seconds, run_pk, ends[0]), shown)
        names, last = ["time", *shown], ends[1] - ends[0]
        return Tables(names, rows.pieces(), known.count, last, streams=rows.streams())
    steps, times = read_events(run_pk)
    timed = np.isfinite(times)
    series = [s for s in shown_series(run_pk, None, False) if s.key != "time"]
    found = read_columns(series, 0, len(steps))
    columns = {s.key: found.get(s.pk) for s in series}
    stepped = np.flatnonzero(steps != NO_STEP)
    if len(stepped):
        columns[STEP_KEY] = Column(
            stepped, steps[stepped].astype(np.float64), np.ones(len(stepped), np.uint8), []
        )
    origin = times[timed].min() if timed.any() else 0.0
    table = _merge("time", times - origin, timed, dict(sorted(columns.items())), False)
    names = ["time", *table.cells] if len(table) else []
    return Tables(names, iter([table]), len(table), table.places[-1] if len(table) else None)


def _ascending_times(known: Timeline) -> tuple[float, float] | None:
    """First and last time of a run in which no two events have the same and none goes back."""
    first = last = -math.inf
    for start in range(0, known.count, PIECE):
        _, times = read_events(known.run_id, start, min(start + PIECE, known.count))
        times = times[: known.count - start]
        if not (len(times) and np.isfinite(times).all() and times[0] > last):
            return None
        if not (times[1:] > times[:-1]).all():
            return None
        first, last = (float(times[0]) if start == 0 else first), float(times[-1])
    return first, last


def _seconds(run_pk: int, origin: float, start: int, stop: int) -> Floats:
    return read_events(run_pk, start, stop)[1] - origin


def _merge(
    axis: str,
    positions: Any,
    placed: np.ndarray[Any, Any],
    columns: dict[str, Column | None],
    keep_empty: bool,
) -> Table:
    """All columns as rows along *axis*; *placed* says which events have a place on it."""
    places, row = np.unique(positions[placed], return_inverse=True)
    row_of_event = np.full(len(positions), -1, np.int64)
    row_of_event[placed] = row
    cells = {}
    for key, column in columns.items():
        if column is None:
            continue
        rows = row_of_event[column.events]
        shown = (rows >= 0) & (column.kinds != NESTED)
        if shown.any() or keep_empty:
            at = np.flatnonzero(shown)
            cells[key] = column.take(at).spread(rows[at], len(places))
    return Table(axis, places, cells)
