"""What a run logged, as tables and curves.

A run whose steps ascend (``Timeline.is_ascending``) is read block by block: a table of any length
takes as much memory as a few blocks, and a curve reads an outline of about as many points as it
shows. Other runs are merged by step first, which takes all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from django.db import models

from .columns import (
    BOOLEAN,
    NESTED,
    NO_STEP,
    Column,
    Floats,
    Integers,
    chain,
    json_cells,
    verify,
)
from .models import EventBlock, Outline, Series, SeriesBlock, Timeline
from .outlines import STRETCHES, Points, covered, join, read_outlines
from .sampling import thin, thin_rows
from .write import BLOCK, STEP_KEY, series_columns

NOT_SHOWN = {"step", "epoch"}
"""Keys that no V1 table shows, as in v0.4 (``contract/metrics.md`` §1)."""

NOT_NUMBERS = {"step", "time"}
"""Keys that no V2 table shows."""

PIECE = 16 * BLOCK
"""Events that are read at once where they can be read in pieces."""

Range = tuple[int | None, int | None]
"""Lowest and highest step, both included; None: no limit."""

EVERYTHING: Range = (None, None)


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
    thinned out); ``last`` is the place of the last.
    """

    columns: list[str]
    pieces: Iterator[Table]
    total: int
    last: int | float | None = None
    rows: int = -1

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
) -> Tables:
    """One row a step, ascending; of repeated values of a key at a step the last logged wins.

    Events without a step are not in it, nor are those before the event number *after*. With
    *numbers* (the V2 form) only numeric series are shown, ``epoch`` among them; otherwise all
    that have anything but lists and objects. *keys* limits the series, in its order.
    """
    series = _shown(run_pk, keys, numbers)
    timeline = Timeline.objects.filter(run=run_pk).first()
    if timeline is None or not timeline.is_ascending:
        return _merged_by_step(run_pk, series, steps, after, numbers)
    first, end, _, high = _events_between(timeline, steps)
    first = max(first, min(after, end))
    columns = [STEP_KEY, *(s.key for s in series)] if timeline.count else []

    def pieces() -> Iterator[Table]:
        for start in range(first // BLOCK * BLOCK, end, PIECE):
            stop = min(start + PIECE, end)
            at = _steps(run_pk, start, stop)
            cut = slice(max(first - start, 0), min(stop, end) - start)
            found = _columns(series, start, stop)
            cells = {
                s.key: _spread(found.get(s.pk), start + cut.start, start + cut.stop) for s in series
            }
            if numbers:
                cells = {key: column.as_numbers() for key, column in cells.items()}
            yield Table(STEP_KEY, at[cut], cells)

    return Tables(columns, pieces(), end - first, high if end > first else None)


def sampled_by_step(
    run_pk: int, points: int, *, keys: Sequence[str] | None = None, steps: Range = EVERYTHING
) -> Tables:
    """At most *points* rows of ``by_step`` with its numbers, thinned by the same rule.

    A long run is not read for this: outlines say which rows, and only their blocks are opened.
    """
    timeline = Timeline.objects.filter(run=run_pk).first()
    if timeline is not None and timeline.is_ascending:
        first, end, low, high = _events_between(timeline, steps)
        series = _shown(run_pk, keys, True)
        rows, budget = end - first, (points - 2) // max(1, len(series))
        is_long = rows > PIECE and (len(series) == 1 or rows * len(series) > LONG)
        if is_long and budget >= 4 and _level(first, end, budget):
            table = _sample(series, first, end, (low, high), points)  # type: ignore[arg-type]
            columns = [STEP_KEY, *(s.key for s in series)]
            return Tables(columns, iter([table]), end - first, high, len(table))
    return by_step(run_pk, keys=keys, steps=steps, numbers=True).thinned(points)


LONG = 2**19
"""Cells from which on reading all of them takes longer than going by the outlines."""


def _sample(
    series: list[Series], first: int, end: int, ends: tuple[int, int], points: int
) -> Table:
    budget = (points - 2) // len(series)
    shown = {}
    for one, whole in _points(series, _level(first, end, budget), first, end):
        kept = thin(whole.values, budget)
        shown[one.pk] = Points(whole.events[kept], whole.steps[kept], whole.values[kept])
    edges = Points(np.array([first, end - 1]), np.array(ends), np.full(2, np.nan))
    together = join([*shown.values(), edges])
    events, at = np.unique(together.events, return_index=True)
    cells = {}
    if len(series) == 1:
        values = np.full(len(events), np.nan)
        known = shown[series[0].pk]
        values[np.searchsorted(events, known.events)] = known.values
        cells[series[0].key] = Column(events, values, np.zeros(len(events), np.uint8), [])
    else:
        for one, values in _numbers_at(series, events):
            cells[one.key] = Column(events, values, np.zeros(len(events), np.uint8), [])
    return Table(STEP_KEY, together.steps[at], cells)


def _numbers_at(series: list[Series], events: Integers) -> Iterator[tuple[Series, Floats]]:
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
    for one in series:
        yield one, values[one.pk]


def _spread(column: Column | None, first: int, end: int) -> Column:
    """A cell for each of the events *first* to ``end - 1``."""
    if column is None:
        empty = np.empty(0, np.int64)
        return Column(empty, np.empty(0), np.empty(0, np.uint8), []).spread(empty, end - first)
    part = column.between(first, end)
    return part.spread(part.events - first, end - first)


def _merged_by_step(
    run_pk: int, series: list[Series], steps: Range, after: int, numbers: bool
) -> Tables:
    at, _ = _events(run_pk)
    placed = at != NO_STEP
    placed[:after] = False
    low, high = _in_64_bits(steps)
    if low is not None:
        placed &= at >= low
    if high is not None:
        placed &= at <= high
    columns = _columns(series, 0, len(at))
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
    steps, times = _events(run_pk)
    timed = np.isfinite(times)
    series = [s for s in _shown(run_pk, None, False) if s.key != "time"]
    found = _columns(series, 0, len(steps))
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


# -- curves ------------------------------------------------------------------------------------


@dataclass
class Curve:
    """Steps and values of one series, at most as many as asked for; ``total`` it has in range."""

    steps: Integers
    values: Floats
    total: int


def curve(run_pk: int, key: str, points: int = 300) -> tuple[list[float], list[float | None]]:
    """Steps and values of one series for a chart of at most *points* points.

    Thinned by the rule of ``metrics.sampling``; a value that is no finite number is a gap (None)
    where it is among the points. Events without a step are left out; a series that has no others
    (samples of the machine, say) is drawn over seconds since the run's first event instead.
    """
    found = curves([run_pk], [key], points=points).get((run_pk, key))
    if found is None:
        return [], []
    at, values = found.steps.tolist(), found.values
    if not at:
        seconds, values = _curve_over_time(run_pk, key, points)
        at = seconds.tolist()
    return at, [v if np.isfinite(v) else None for v in values.tolist()]


def _curve_over_time(run_pk: int, key: str, points: int) -> tuple[Floats, Floats]:
    _, times = _events(run_pk)
    series = Series.objects.filter(run=run_pk, key=key)
    column = next(iter(_columns(list(series), 0, len(times)).values()))
    shown = (column.kinds <= BOOLEAN) & np.isfinite(times[column.events])
    if not shown.any():
        return np.empty(0), np.empty(0)
    at = times[column.events][shown] - np.nanmin(times)
    values = column.numbers()[shown]
    kept = thin(values, points)
    return at[kept], values[kept]


def curves(
    runs: Sequence[int],
    keys: Sequence[str] | None = None,
    *,
    steps: Range = EVERYTHING,
    points: int | None = 300,
) -> dict[tuple[int, str], Curve]:
    """Curves of many series of many runs, in a few queries; None: every point.

    Of the values at a repeated step the last logged counts. Series that have no numbers have no
    curve.
    """
    wanted = Series.objects.filter(run__in=list(runs)).order_by("run", "key")
    if keys is not None:
        wanted = wanted.filter(key__in=list(keys))
    series = [s for s in wanted if s.number_count]
    timelines = {t.run_id: t for t in Timeline.objects.filter(run__in=list(runs))}
    found: dict[tuple[int, str], Curve] = {}
    together: dict[tuple[int, int, int], list[Series]] = {}
    ranges: dict[int, tuple[int, int]] = {}
    for one in series:
        timeline = timelines.get(one.run_id)
        if timeline is None or not timeline.is_ascending:
            found[one.run_id, one.key] = _merged_curve(one, steps, points)
        else:
            if one.run_id not in ranges:
                ranges[one.run_id] = (
                    (0, timeline.count)
                    if steps == EVERYTHING
                    else _events_between(timeline, steps)[:2]
                )
            first, end = ranges[one.run_id]
            level = _level(first, end, points) if one.number_count * 2 > timeline.count else 0
            together.setdefault((level, first, end), []).append(one)
    for (level, first, end), some in together.items():
        for one, whole in _points(some, level, first, end):
            kept = thin(whole.values, points) if points else slice(None)
            total = one.number_count if steps == EVERYTHING else len(whole.events)
            found[one.run_id, one.key] = Curve(whole.steps[kept], whole.values[kept], total)
    return found


def _level(first: int, end: int, points: int | None) -> int:
    """The coarsest level that still has as many points as asked for; 0: the blocks."""
    if points is None:
        return 0
    for level in sorted(STRETCHES, reverse=True):
        if (end - first) // STRETCHES[level] * 4 >= points:
            return level
    return 0


def _points(
    series: list[Series], level: int, first: int, end: int
) -> Iterator[tuple[Series, Points]]:
    """The points of each series in these events: an outline of the middle, all at its ends."""
    parts: dict[int, list[Points]] = {s.pk: [] for s in series}
    for at, start, stop in _cover(level, first, end):
        if at:
            rows = Outline.objects.filter(series__in=[s.pk for s in series])
            for pk, points in read_outlines(rows, at, start, stop):
                parts[pk].append(points)
        else:
            for pk, points in _all_points(series, start, stop):
                parts[pk].append(points)
    for one in series:
        yield one, join(parts[one.pk])


def _cover(level: int, first: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(level, first event, end) of stretches of *level*, and finer ones where they do not reach."""
    if first >= end:
        return
    if not level:
        yield 0, first, end
        return
    size = STRETCHES[level]
    start = -(-first // size) * size
    stop = covered(level, end)
    if start >= stop:
        yield from _cover(level - 1, first, end)
        return
    yield from _cover(level - 1, first, start)
    yield level, start, stop
    yield from _cover(level - 1, stop, end)


def _all_points(series: list[Series], first: int, end: int) -> Iterator[tuple[int, Points]]:
    """Every number of each series in these events, and NaN where one was logged."""
    block = first // BLOCK * BLOCK
    columns = _columns(series, block, end)
    of_run = _steps_of({one.run_id for one in series}, block, end)
    for one in series:
        column = columns.get(one.pk)
        if column is None:
            continue
        part = column.between(first, end)
        numbers = part.numbers()
        logged = part.kinds <= BOOLEAN
        if not logged.all():
            part, numbers = part.take(np.flatnonzero(logged)), numbers[logged]
        yield one.pk, Points(part.events, of_run[one.run_id][part.events - block], numbers)


def _merged_curve(series: Series, steps: Range, points: int | None) -> Curve:
    at, _ = _events(series.run_id)
    column = _columns([series], 0, len(at)).get(series.pk)
    if column is None:
        return Curve(np.empty(0, np.int64), np.empty(0), 0)
    at, values = at[column.events], column.numbers()
    low, high = _in_64_bits(steps)
    shown = (at != NO_STEP) & (column.kinds <= BOOLEAN)
    if low is not None:
        shown &= at >= low
    if high is not None:
        shown &= at <= high
    at, values = at[shown], values[shown]
    at, last = np.unique(at[::-1], return_index=True)  # the last logged of each step
    values = values[::-1][last]
    kept = thin(values, points) if points else slice(None)
    return Curve(at[kept], values[kept], len(values))


# -- what is there -----------------------------------------------------------------------------


@dataclass
class Overview:
    """How many steps a run has, from which to which, and the keys of its numbers."""

    steps: int
    low: int | None
    high: int | None
    keys: list[str]


def overview(run_pk: int) -> Overview:
    keys = [s.key for s in _shown(run_pk, None, True)]
    timeline = Timeline.objects.filter(run=run_pk).first()
    if timeline is not None and timeline.is_ascending:
        _, _, low, high = _events_between(timeline, EVERYTHING)
        return Overview(timeline.count, low, high, keys)
    steps, _ = _events(run_pk)
    steps = np.unique(steps[steps != NO_STEP])
    if not len(steps):
        return Overview(0, None, None, keys)
    return Overview(len(steps), int(steps[0]), int(steps[-1]), keys)


def _shown(run_pk: int, keys: Sequence[str] | None, numbers: bool) -> list[Series]:
    """The series that a table of the run has columns for, by key or in the order of *keys*."""
    hidden = NOT_NUMBERS if numbers else NOT_SHOWN
    series = Series.objects.filter(run=run_pk)
    if keys is not None:
        known = {s.key: s for s in series.filter(key__in=list(keys))}
        found = [known[key] for key in dict.fromkeys(keys) if key in known]
    else:
        found = sorted(series, key=lambda s: s.key)
    return [s for s in found if s.key not in hidden | {STEP_KEY} and _has(s, numbers)]


def _has(series: Series, numbers: bool) -> bool:
    """Whether any of its values is a number, or is at least not a list or object."""
    if series.number_count:
        return True
    for _, column in series_columns(series.blocks):
        if column.has_numbers() if numbers else (column.kinds != NESTED).any():
            return True
    return False


def _events_between(timeline: Timeline, steps: Range) -> tuple[int, int, int | None, int | None]:
    """Of an ascending run: first event and end of the range, lowest and highest step in it."""
    low, high = _in_64_bits(steps)
    blocks = EventBlock.objects.filter(run=timeline.run_id)
    # Blocks ascend by step as they do by event: either end comes out of an index.
    first = blocks.order_by("first").first()
    if low is not None:
        first = blocks.filter(high_step__gte=low).order_by("high_step").first()
    last = blocks.order_by("first").last()
    if high is not None:
        last = blocks.filter(low_step__lte=high).order_by("low_step").last()
    if first is None or last is None:
        return 0, 0, None, None
    at, at_last = _verified_steps(first), _verified_steps(last)
    start = 0 if low is None else int(np.searchsorted(at, low))
    stop = len(at_last) if high is None else int(np.searchsorted(at_last, high, "right"))
    if first.first + start >= last.first + stop:
        return 0, 0, None, None
    return first.first + start, last.first + stop, int(at[start]), int(at_last[stop - 1])


def _in_64_bits(steps: Range) -> Range:
    """The same range for what a column of steps can hold."""
    low, high = (b if b is None else max(-(2**63) + 1, min(b, 2**63 - 1)) for b in steps)
    return low, high


def _verified_steps(block: EventBlock) -> Integers:
    verify(f"metrics.EventBlock {block.pk}", block.checksum, block.steps, block.times)
    return np.frombuffer(block.steps, "<i8")


def _steps(run_pk: int, first: int, end: int) -> Integers:
    """The steps of the events from *first*, where a block begins, to *end* or a little beyond."""
    return _steps_of({run_pk}, first, end).get(run_pk, np.empty(0, np.int64))


def _steps_of(runs: set[int], first: int, end: int) -> dict[int, Integers]:
    """The same of many runs."""
    blocks = EventBlock.objects.filter(run__in=runs, first__gte=first, first__lt=end)
    parts: dict[Any, list[Integers]] = {}
    for pk, run, expected, *packed in blocks.order_by("first").values_list(
        "pk", "run", "checksum", "steps", "times"
    ):
        verify(f"metrics.EventBlock {pk}", expected, *packed)
        parts.setdefault(run, []).append(np.frombuffer(packed[0], "<i8"))
    return {run: np.concatenate(steps) for run, steps in parts.items()}


def _events(run_pk: int, first: int = 0, end: int | None = None) -> tuple[Integers, Floats]:
    """Step and time of the run's events from *first*, where a block begins."""
    blocks = EventBlock.objects.filter(run=run_pk, first__gte=first)
    if end is not None:
        blocks = blocks.filter(first__lt=end)
    steps, times = [], []
    for pk, expected, *packed in blocks.order_by("first").values_list(
        "pk", "checksum", "steps", "times"
    ):
        verify(f"metrics.EventBlock {pk}", expected, *packed)
        steps.append(np.frombuffer(packed[0], "<i8"))
        times.append(np.frombuffer(packed[1], "<f8"))
    if not steps:
        return np.empty(0, np.int64), np.empty(0)
    return np.concatenate(steps), np.concatenate(times)


def _columns(series: Sequence[Series], first: int, end: int) -> dict[int, Column]:
    """The values of each of *series* in the blocks from *first* up to *end*, by primary key."""
    parts: dict[int, list[Column]] = {}
    keys = [s.pk for s in series]
    for start in range(0, len(keys), 500):
        blocks = SeriesBlock.objects.filter(
            series__in=keys[start : start + 500], first__gte=first, first__lt=end
        )
        for pk, column in series_columns(blocks):
            parts.setdefault(pk, []).append(column)
    return {pk: chain(columns) for pk, columns in parts.items()}


def number_keys(run_pk: int, keys: Sequence[str] | None = None) -> list[str]:
    """The keys of the run's series that have a curve, by name; of *keys* only."""
    series = Series.objects.filter(run=run_pk, number_count__gt=0)
    if keys is not None:
        series = series.filter(key__in=list(keys))
    return sorted(series.values_list("key", flat=True))


def cursor(run_pk: int) -> str:
    """Where a client that has read everything so far goes on (``events_after``)."""
    timeline = Timeline.objects.filter(run=run_pk).first()
    return f"{timeline.pk}.{timeline.count}" if timeline else "0.0"


def events_after(run_pk: int, since: str) -> int:
    """How many events the *cursor* says are known; 0 if the run was read anew since then.

    ValueError if it is no cursor.
    """
    reading, count = map(int, since.split("."))
    timeline = Timeline.objects.filter(run=run_pk, pk=reading).first()
    return max(0, min(count, timeline.count)) if timeline else 0


# -- over many runs ------------------------------------------------------------------------------


@dataclass
class Spread:
    """Mean, standard deviation (of the whole population), lowest and highest; 0 of nothing."""

    mean: float = 0.0
    deviation: float = 0.0
    low: float = 0.0
    high: float = 0.0


def spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread()
    numbers = np.array(values, np.float64)
    return Spread(*(float(f(numbers)) for f in (np.mean, np.std, np.min, np.max)))


def last_values(key: str, runs: Any) -> list[tuple[int, float]]:
    """(run, last value) of the metric in each of *runs* (a queryset of keys) that has it."""
    series = Series.objects.filter(key=key, run__in=runs, last_value__isnull=False)
    return [
        (run, value)
        for run, value in series.values_list("run_id", "last_value")
        if value is not None
    ]


def count_values(runs: Any) -> int:
    """How many values *runs* (a queryset of keys) have logged."""
    series = Series.objects.filter(run__in=runs) if runs.query.where else Series.objects.all()
    return series.aggregate(total=models.Sum("count"))["total"] or 0


@dataclass
class Statistics:
    """Over runs, by step: how many logged a number there, and how those are spread."""

    runs: int
    steps: Integers
    count: Integers
    mean: Floats
    deviation: Floats
    low: Floats
    high: Floats


def statistics(
    runs: Any, key: str, *, steps: Range = EVERYTHING, points: int | None = None
) -> Statistics:
    """The metric *key* over all of *runs* (a queryset of keys), none left out.

    One run is in memory at a time. ``deviation`` is that of the whole population. With *points*,
    at most so many steps are shown, the extremes of mean, low and high among them; what is shown
    is exact.
    """
    at, count = np.empty(0, np.int64), np.empty(0, np.int64)
    mean, squares, low, high = (np.empty(0) for _ in range(4))
    number = 0
    series = Series.objects.filter(run__in=runs, key=key, number_count__gt=0)
    for run_pk in list(series.values_list("run_id", flat=True)):
        found = curves([run_pk], [key], steps=steps, points=None).get((run_pk, key))
        if found is None:
            continue
        finite = np.isfinite(found.values)
        new, values = found.steps[finite], found.values[finite]
        number += bool(len(new))
        if not np.array_equal(new, at):
            together = np.union1d(at, new)
            place = np.searchsorted(together, at)
            count, mean, squares, low, high = (
                _placed(column, place, len(together), fill)
                for column, fill in (
                    *((count, 0), (mean, 0), (squares, 0), (low, np.inf), (high, -np.inf)),
                )
            )
            at = together
        where = np.searchsorted(at, new)
        # Welford: exact where a sum of squares would lose everything to rounding.
        count[where] += 1
        delta = values - mean[where]
        mean[where] += delta / count[where]
        squares[where] += delta * (values - mean[where])
        low[where] = np.minimum(low[where], values)
        high[where] = np.maximum(high[where], values)
    kept = thin_rows([mean, low, high], len(at), points) if points else slice(None)
    deviation = np.sqrt(squares / np.maximum(count, 1))
    return Statistics(
        number, at[kept], count[kept], mean[kept], deviation[kept], low[kept], high[kept]
    )


def _placed(column: Any, place: Integers, length: int, fill: float) -> Any:
    placed = np.full(length, fill, column.dtype)
    placed[place] = column
    return placed
