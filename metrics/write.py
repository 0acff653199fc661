"""Append events to a run, inside the transaction that records how far its file was read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import attrgetter, itemgetter, or_
from typing import Any, NamedTuple

import numpy as np
from django.db.models import Q

from .blocks import BLOCK_SIZE, STEP_KEY, series_columns
from .columns import (
    NESTED,
    NO_STEP,
    Column,
    Floats,
    Integers,
    chain,
    checksum,
    column,
    concatenate,
    pack,
    verify,
)
from .levels import extend_levels
from .models import EventBlock, EventLog, Series, SeriesBlock, SeriesLevel
from .rows import insert

TAIL_SIZE = 256
"""Events in a block at the growing end, so that appending a line rewrites little."""

MAX_KEY_LENGTH = 500


@dataclass
class Events:
    """Consecutive metrics lines: when they happened and what they logged.

    ``steps`` has NO_STEP and ``times`` (Unix seconds) NaN where a line has none. The columns
    number the lines from 0.
    """

    steps: Integers
    times: Floats
    columns: dict[str, Column]
    hidden: Counter[str] = field(default_factory=Counter)
    """By key, how many values no answer shows: lists, objects, and those of unstorable keys."""

    def __len__(self) -> int:
        return len(self.steps)


def columns(
    data: Sequence[dict[str, Any]], exact: Callable[[int], dict[str, Any]]
) -> tuple[dict[str, Column], Counter[str]]:
    """Return the values that lines logged, by key, and how many of each are hidden.

    *data* has each line as a fast parser read it.

    ``exact(i)`` returns the *i*-th line exactly; it is called only for integers too large for a
    float64. Keys longer than ``MAX_KEY_LENGTH`` characters, or that no database can store, are left
    out.
    """
    parts: dict[str, list[Column]] = {}
    hidden: Counter[str] = Counter()
    for lines, values_by_key in _shapes(data):
        for key, values in values_by_key.items():
            if key == STEP_KEY:
                continue
            if not _is_storable(key):
                hidden[key] += len(values)
            else:
                part = column(lines, values)
                is_huge = np.abs(part.values) >= 2.0**63
                if is_huge.any():  # perhaps an integer that the parser could only round
                    values = [
                        exact(i)[key] if huge else value
                        for i, value, huge in zip(lines.tolist(), values, is_huge, strict=True)
                    ]
                    part = column(lines, values)
                if part.extras and (nested := np.count_nonzero(part.kinds == NESTED)):
                    hidden[key] += int(nested)
                parts.setdefault(key, []).append(part)
    return {key: concatenate(columns) for key, columns in parts.items()}, hidden


def join(parts: Sequence[Events]) -> Events:
    """Return consecutive events as one."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, list[Column]] = {}
    hidden: Counter[str] = Counter()
    start = 0
    for part in parts:
        hidden += part.hidden
        for key, values in part.columns.items():
            columns.setdefault(key, []).append(values.moved(start))
        start += len(part)
    return Events(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        {key: chain(parts_of_key) for key, parts_of_key in columns.items()},
        hidden,
    )


Addition = tuple[int, int, Events]
"""A run's primary key, the number of its events so far, and the events that follow."""


def append_many(additions: Iterable[Addition]) -> None:
    """Append events to several runs (each named once) in few statements."""
    additions = [addition for addition in additions if len(addition[2])]
    indexed = _indexed_series(additions)
    counted = [(*a, *_count_in(*a, indexed.get(a[0], {}))) for a in additions]
    fresh = [s for _, first, _, _, series in counted if not first for s in series.values()]
    grown = [s for _, first, _, _, series in counted if first for s in series.values()]
    _insert_series(fresh)
    Series.objects.bulk_create(
        grown, update_conflicts=True, unique_fields=["run", "key"], update_fields=_STATISTICS
    )
    rows_before = _write_event_logs(additions)
    event_blocks: list[tuple] = []
    series_blocks: list[tuple] = []
    ends = {run_pk: _end(first, events) for run_pk, first, events, *_ in counted}
    rewritten = [addition for addition in counted if ends[addition[0]].start < addition[1]]
    old_events = _take_events((run_pk, ends[run_pk].start) for run_pk, *_ in rewritten)
    parts = _take_series(
        (ends[run_pk], run_pk, [s.pk for s in series.values()])
        for run_pk, _, _, _, series in rewritten
    )
    no_levels = _drop_levels([run_pk for run_pk, end in ends.items() if end.completes_block])
    for run_pk, _, events, new, series in counted:
        start, end, completes_block = ends[run_pk]
        bounds = list(_bounds(start, end))
        old = old_events.get(run_pk, [])
        steps, times = _joined(old, events)
        row = next((row for row, low_step, *_ in old if low_step is not None), rows_before[run_pk])
        event_blocks += _event_blocks(run_pk, start, row, steps, times, bounds)
        for key, part in new.items():
            parts.setdefault(run_pk, {}).setdefault(series[key].pk, []).append(part)
        joined_columns = {pk: chain(columns) for pk, columns in parts.get(run_pk, {}).items()}
        for pk, joined in joined_columns.items():
            series_blocks += _series_blocks(pk, joined, bounds)
        if completes_block:
            levels = SeriesLevel.objects.filter(series__run=run_pk)
            ascending = {pk: joined for pk, joined in joined_columns.items() if pk not in no_levels}
            extend_levels(levels, ascending, steps, start, end // BLOCK_SIZE * BLOCK_SIZE)
    insert(EventBlock, _EVENT_BLOCK, event_blocks)
    insert(SeriesBlock, _SERIES_BLOCK, series_blocks)


class _End(NamedTuple):
    """The growing end of a run: its events from *start* to *end* are in blocks to write."""

    start: int
    end: int
    completes_block: bool


def _end(first: int, events: Events) -> _End:
    """Return the growing end: the last small block, or all small blocks once they fill a full one,
    which then replaces them."""
    end = first + len(events)
    completes_block = end // BLOCK_SIZE > first // BLOCK_SIZE
    unit = BLOCK_SIZE if completes_block else TAIL_SIZE
    return _End(first // unit * unit, end, completes_block)


def _indexed_series(additions: Sequence[Addition]) -> dict[int, dict[str, Series]]:
    """Return the existing series of each growing run to which *additions* log, by key."""
    by_run: dict[int, dict[str, Series]] = {}
    grown = [(run_pk, events) for run_pk, first, events in additions if first]
    if grown:
        keys = {key for _, events in grown for key in events.columns}
        runs = [run_pk for run_pk, _ in grown]
        for series in Series.objects.filter(run__in=runs, key__in=list(keys)):
            by_run.setdefault(series.run_id, {})[series.key] = series
    return by_run


def _insert_series(fresh: Sequence[Series]) -> None:
    """Insert *fresh* and set the primary keys."""
    insert(Series, _SERIES, map(attrgetter("run_id", *_SERIES[1:]), fresh))
    runs = {series.run_id for series in fresh}
    rows = Series.objects.filter(run__in=runs).values_list("run_id", "key", "pk")
    keys = {(run_pk, key): pk for run_pk, key, pk in rows}
    for series in fresh:
        series.pk = keys[series.run_id, series.key]


def _write_event_logs(additions: Sequence[Addition]) -> dict[int, int]:
    """Bring the event logs up to date; return the row of each run's first event with a step."""
    grown = [run_pk for run_pk, first, _ in additions if first]
    logs = {log.run_id: log for log in EventLog.objects.filter(run__in=grown)} if grown else {}
    rows = {}
    for run_pk, first, events in additions:
        log = logs.setdefault(run_pk, EventLog(run_id=run_pk))
        log.count = first + len(events)
        log.covered_events = log.count // BLOCK_SIZE * BLOCK_SIZE
        steps = _placed(events.steps)
        log.unplaced_count += len(events) - len(steps)
        rows[run_pk] = log.row_count
        if not len(steps):
            continue
        rows[run_pk] -= log.last_step is not None and int(steps[0]) == log.last_step
        is_behind = log.last_step is not None and steps[0] < log.last_step
        if is_behind or (steps[1:] < steps[:-1]).any():
            log.is_ascending = False
        log.row_count = rows[run_pk] + 1 + int(np.count_nonzero(steps[1:] != steps[:-1]))
        log.last_step = int(steps[-1])
    fresh = [logs[run_pk] for run_pk, first, _ in additions if not first]
    insert(EventLog, _EVENT_LOG, map(attrgetter("run_id", *_EVENT_LOG[1:]), fresh))
    if grown:
        EventLog.objects.bulk_create(
            [logs[run_pk] for run_pk in grown],
            update_conflicts=True,
            unique_fields=["run"],
            update_fields=_EVENT_LOG[1:],
        )
    return rows


def _drop_levels(runs: Sequence[int]) -> set[int]:
    """Return the series of *runs* that have no levels, because their steps went back.

    Levels that they had before are deleted: nothing reads them any more.
    """
    if not runs:
        return set()
    series = Series.objects.filter(run__in=runs, is_ascending=False)
    SeriesLevel.objects.filter(series__in=series).delete()
    return set(series.values_list("pk", flat=True))


def _placed(steps: Integers) -> Integers:
    """Return *steps* without the events that have none."""
    return steps if steps.min() != NO_STEP else steps[steps != NO_STEP]


def _series_blocks(
    series_pk: int, joined: Column, bounds: list[tuple[int, int]]
) -> Iterator[tuple]:
    """Yield rows of ``_SERIES_BLOCK``."""
    for low, high in bounds:
        part = joined.between(low, high)
        if len(part):
            packed = pack(part, low, high - low)
            yield series_pk, low, *(packed[name] for name in _SERIES_BLOCK[2:])


def clear(run_pk: int) -> None:
    """Delete all that the run logged, because its file will be read again."""
    SeriesLevel.objects.filter(series__run=run_pk).delete()
    SeriesBlock.objects.filter(series__run=run_pk).delete()
    Series.objects.filter(run=run_pk).delete()
    EventBlock.objects.filter(run=run_pk).delete()
    EventLog.objects.filter(run=run_pk).delete()


def _bounds(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the blocks that cover the events from *start* (a multiple of TAIL_SIZE) to *end*.

    The last full block is followed by one up to a multiple of TAIL_SIZE, and by a last small one.
    """
    while start < end:
        stop = start + BLOCK_SIZE if start % BLOCK_SIZE == 0 else end
        if stop > end or start % BLOCK_SIZE:
            stop = end // TAIL_SIZE * TAIL_SIZE if end - start >= TAIL_SIZE else end
        yield start, stop
        start = stop


def _shapes(
    data: Sequence[dict[str, Any]],
) -> Iterator[tuple[Integers, dict[str, list[Any]]]]:
    """Yield lines with the same keys, and their values by key. Most runs log only one shape."""
    if set(map(len, data)) == {len(data[0])}:
        try:
            yield np.arange(len(data)), {key: list(map(itemgetter(key), data)) for key in data[0]}
            return
        except KeyError:
            pass  # the same number of keys, but different ones
    numbers: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(data):
        numbers.setdefault(tuple(row), []).append(i)
    for keys, at in numbers.items():
        yield np.array(at, np.int64), {key: [data[i][key] for i in at] for key in keys}


def _is_storable(key: str) -> bool:
    if len(key) > MAX_KEY_LENGTH or "\x00" in key:
        return False
    return key.isascii() or not any("\ud800" <= char <= "\udfff" for char in key)


_STATISTICS = [
    *("count", "number_count", "finite_count", "point_count", "is_ascending"),
    *("first_value", "first_step", "last_value", "last_step", "last_time"),
    *("min_value", "min_step", "max_value", "max_step"),
]
_SERIES = ("run", "key", *_STATISTICS)
_EVENT_LOG = (
    *("run", "count", "unplaced_count", "is_ascending"),
    *("row_count", "last_step", "covered_events"),
)
_EVENT_BLOCK = (
    *("run", "first", "first_row", "count", "low_step", "high_step"),
    *("steps_checksum", "times_checksum", "steps", "times"),
)
_SERIES_BLOCK = ("series", "first", "positions", "values", "kinds", "extras", "checksum")


def _count_in(
    run_pk: int, first: int, events: Events, series_by_key: dict[str, Series]
) -> tuple[dict[str, Column], dict[str, Series]]:
    """Return the new values by key, and their series with statistics up to date, not saved yet."""
    steps = events.steps
    is_sorted = steps[0] != NO_STEP and bool((steps[1:] > steps[:-1]).all())
    new, series = {}, {}
    for key, part in events.columns.items():
        row = series[key] = series_by_key.get(key) or Series(run_id=run_pk, key=key)
        row.count += len(part)
        numbers = part.only_numbers()
        if len(numbers):
            _add_numbers(row, numbers.values, numbers.events, events, is_sorted)
        new[key] = part.moved(first)
    return new, series


def _add_numbers(
    series: Series, values: Floats, at: Integers, events: Events, is_sorted: bool
) -> None:
    """Add *values*, logged by the *events* with these indexes, to the statistics of *series*."""
    steps = events.steps if len(at) == len(events) else events.steps[at]

    def step(i: int) -> int | None:
        return None if steps[i] == NO_STEP else int(steps[i])

    if is_sorted:
        placed, lowest, greatest = steps, 0, len(steps) - 1
        is_ascending, repeated = True, 0
    else:
        placed = _placed(steps)
        lowest = int(np.where(steps == NO_STEP, 2**63 - 1, steps).argmin())
        times = np.nan_to_num(events.times[at], nan=-np.inf)
        at_greatest = np.flatnonzero(steps == steps.max())
        latest = times[at_greatest]
        greatest = int(at_greatest[np.flatnonzero(latest == latest.max())[-1]])
        is_ascending = bool((placed[1:] >= placed[:-1]).all())
        repeated = int(np.count_nonzero(placed[1:] == placed[:-1]))
    reached = series.last_step
    if len(placed):
        if reached is not None:
            is_ascending = is_ascending and bool(placed[0] >= reached)
            repeated += int(placed[0] == reached)
        series.is_ascending = series.is_ascending and is_ascending
        series.point_count += len(placed) - repeated
    if not series.number_count or (
        steps[lowest] != NO_STEP
        and (series.first_step is None or steps[lowest] < series.first_step)
    ):
        series.first_value, series.first_step = _storable_number(values[lowest]), step(lowest)
    time = float(events.times[at[greatest]])
    if not series.number_count or _order(step(greatest), time) >= _order(reached, series.last_time):
        series.last_value, series.last_step = _storable_number(values[greatest]), step(greatest)
        series.last_time = _storable_number(time)
    series.number_count += len(values)

    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return
    series.finite_count += len(finite)
    if len(finite) < len(values):
        values, steps = values[finite], steps[finite]
    low, high = int(values.argmin()), int(values.argmax())
    if series.min_value is None or values[low] < series.min_value:
        series.min_value, series.min_step = float(values[low]), step(low)
    if series.max_value is None or values[high] > series.max_value:
        series.max_value, series.max_step = float(values[high]), step(high)


def _order(step: int | None, time: float | None) -> tuple[int, float]:
    """Return the sort key of a series' values: the step, then the time."""
    has_time = time is not None and not math.isnan(time)
    return NO_STEP if step is None else step, time if time is not None and has_time else -math.inf


def _storable_number(value: float) -> float | None:
    """Return None for NaN, which SQLite would store as null."""
    return None if math.isnan(value) else float(value)


_OldBlock = tuple[int, int | None, Any, Any]
"""A block of events: row of the first event with a step, lowest step, steps, times."""


def _take_events(ends: Iterable[tuple[int, int]]) -> dict[int, list[_OldBlock]]:
    """Remove each run's blocks from an event on, and return their content by run."""
    conditions = [Q(run=run_pk, first__gte=start) for run_pk, start in ends]
    by_run: dict[int, list[_OldBlock]] = {}
    if conditions:
        blocks = EventBlock.objects.filter(reduce(or_, conditions))
        pks = []
        fields = ("steps_checksum", "times_checksum", "first_row", "low_step", "steps", "times")
        for pk, run_pk, *expected, row, low_step, steps, times in blocks.order_by(
            "first"
        ).values_list("pk", "run_id", *fields):
            verify(f"metrics.EventBlock {pk}", expected[0], steps)
            verify(f"metrics.EventBlock {pk}", expected[1], times)
            by_run.setdefault(run_pk, []).append((row, low_step, steps, times))
            pks.append(pk)
        EventBlock.objects.filter(pk__in=pks).delete()
    return by_run


def _take_series(
    ends: Iterable[tuple[_End, int, list[int]]],
) -> dict[int, dict[int, list[Column]]]:
    """Remove the blocks of each run's end, and return their values by run and series."""
    conditions: list[Q] = []
    run_of: dict[int, int] = {}
    for end, run_pk, series in ends:
        if end.completes_block:  # including series that are not logged now
            series = list(Series.objects.filter(run=run_pk).values_list("pk", flat=True))
        conditions.append(Q(series__in=series, first__gte=end.start))
        run_of |= dict.fromkeys(series, run_pk)
    by_run: dict[int, dict[int, list[Column]]] = {}
    if conditions:
        blocks = SeriesBlock.objects.filter(reduce(or_, conditions))
        for pk, part in series_columns(blocks):
            by_run.setdefault(run_of[pk], {}).setdefault(pk, []).append(part)
        blocks.delete()
    return by_run


def _joined(old: list[_OldBlock], events: Events) -> tuple[Integers, Floats]:
    """Return steps and times of the blocks *old* and of the events that follow."""
    if not old:
        return events.steps, events.times
    return (
        np.concatenate([*(np.frombuffer(steps, "<i8") for _, _, steps, _ in old), events.steps]),
        np.concatenate([*(np.frombuffer(times, "<f8") for *_, times in old), events.times]),
    )


def _event_blocks(
    run_pk: int,
    start: int,
    row: int,
    steps: Integers,
    times: Floats,
    bounds: list[tuple[int, int]],
) -> Iterator[tuple]:
    """Yield rows of ``_EVENT_BLOCK``; *row* is that of the first event with a step."""
    last_step = None
    for low, high in bounds:
        part = steps[low - start : high - start]
        packed = (
            part.astype("<i8").tobytes(),
            times[low - start : high - start].astype("<f8").tobytes(),
        )
        placed = _placed(part)
        low_step, high_step = None, None
        if len(placed):
            low_step, high_step = int(placed.min()), int(placed.max())
            row += last_step is not None and int(placed[0]) != last_step
        checksums = map(checksum, packed)
        yield run_pk, low, row, high - low, low_step, high_step, *checksums, *packed
        if len(placed):
            row += int(np.count_nonzero(placed[1:] != placed[:-1]))
            last_step = int(placed[-1])
