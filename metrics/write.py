"""Append events to a run, inside the transaction that notes how far its file was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import attrgetter, itemgetter, or_
from typing import Any, NamedTuple

import numpy as np
from django.db.models import Q

from .blocks import BLOCK, STEP_KEY, series_columns
from .columns import (
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
from .models import EventBlock, Outline, Series, SeriesBlock, Timeline
from .outlines import extend_outlines, forget_outlines, rebuild_outlines
from .rows import insert

TAIL = 256
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

    def __len__(self) -> int:
        return len(self.steps)


def columns(
    data: Sequence[dict[str, Any]], exact: Callable[[int], dict[str, Any]]
) -> dict[str, Column]:
    """What lines logged under each key. *data* is what a fast JSON parser made of each.

    ``exact(i)`` tells what the *i*-th says exactly, and is asked only about integers too large
    for a float64. Keys longer than ``MAX_KEY_LENGTH`` characters, or that no database can store,
    are left out.
    """
    parts: dict[str, list[Column]] = {}
    for numbers, cells_of in _shapes(data):
        for key, cells in cells_of.items():
            if key != STEP_KEY and _is_storable(key):
                part = column(numbers, cells)
                huge = np.abs(part.values) >= 2.0**63
                if huge.any():  # perhaps an integer that the parser could only round
                    cells = [
                        exact(i)[key] if big else cell
                        for i, cell, big in zip(numbers.tolist(), cells, huge, strict=True)
                    ]
                    part = column(numbers, cells)
                parts.setdefault(key, []).append(part)
    return {key: concatenate(several) for key, several in parts.items()}


def join(parts: Sequence[Events]) -> Events:
    """Events that follow on each other as one."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, list[Column]] = {}
    start = 0
    for part in parts:
        for key, values in part.columns.items():
            columns.setdefault(key, []).append(values.moved(start))
        start += len(part)
    return Events(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        {key: chain(several) for key, several in columns.items()},
    )


Addition = tuple[int, int, Events]
"""A run's primary key, how many events it holds so far, and those that follow."""


def append_many(additions: Iterable[Addition]) -> None:
    """Append events to several runs (each named once) in few statements."""
    additions = [addition for addition in additions if len(addition[2])]
    known = _known_series(additions)
    counted = [(*a, *_count_in(*a, known.get(a[0], {}))) for a in additions]
    fresh = [s for _, first, _, _, series in counted if not first for s in series.values()]
    grown = [s for _, first, _, _, series in counted if first for s in series.values()]
    _insert_series(fresh)
    Series.objects.bulk_create(
        grown, update_conflicts=True, unique_fields=["run", "key"], update_fields=_STATISTICS
    )
    outlined = _write_timelines([(run_pk, first, events) for run_pk, first, events, *_ in counted])
    event_blocks: list[tuple] = []
    series_blocks: list[tuple] = []
    ends = {run_pk: _end(first, events) for run_pk, first, events, *_ in counted}
    rewritten = [one for one in counted if ends[one[0]].start < one[1]]
    old_events = _take_events((run_pk, ends[run_pk].start) for run_pk, *_ in rewritten)
    parts = _take_series(
        (ends[run_pk], run_pk, [one.pk for one in series.values()])
        for run_pk, _, _, _, series in rewritten
    )
    for run_pk, _, events, new, series in counted:
        start, end, completes_block = ends[run_pk]
        bounds = list(_bounds(start, end))
        steps, times = _joined(old_events.get(run_pk, []), events)
        event_blocks += _event_blocks(run_pk, start, steps, times, bounds)
        for key, part in new.items():
            parts.setdefault(run_pk, {}).setdefault(series[key].pk, []).append(part)
        wholes = {pk: chain(columns) for pk, columns in parts.get(run_pk, {}).items()}
        for pk, whole in wholes.items():
            series_blocks += _series_blocks(pk, whole, bounds)
        if completes_block and run_pk in outlined:
            if outlined[run_pk] < start:  # begun before there were these outlines
                rebuild_outlines(run_pk, start)
            rows = Outline.objects.filter(series__run=run_pk)
            extend_outlines(rows, wholes, steps, start, end // BLOCK * BLOCK)
    insert(EventBlock, _EVENT_BLOCK, event_blocks)
    insert(SeriesBlock, _SERIES_BLOCK, series_blocks)


class _End(NamedTuple):
    """The growing end of a run: its events from *start* to *end* are in blocks to write."""

    start: int
    end: int
    completes_block: bool


def _end(first: int, events: Events) -> _End:
    """Only the last small block is rewritten; when a full block's worth is together, its small
    blocks become one."""
    end = first + len(events)
    completes_block = end // BLOCK > first // BLOCK
    unit = BLOCK if completes_block else TAIL
    return _End(first // unit * unit, end, completes_block)


def _known_series(additions: Sequence[Addition]) -> dict[int, dict[str, Series]]:
    """Of each run that grows, by key, those that it logs to now."""
    known: dict[int, dict[str, Series]] = {}
    grown = [(run_pk, events) for run_pk, first, events in additions if first]
    if grown:
        keys = {key for _, events in grown for key in events.columns}
        runs = [run_pk for run_pk, _ in grown]
        for series in Series.objects.filter(run__in=runs, key__in=list(keys)):
            known.setdefault(series.run_id, {})[series.key] = series
    return known


def _insert_series(fresh: Sequence[Series]) -> None:
    """Write them and give them their keys."""
    insert(Series, _SERIES, map(attrgetter("run_id", *_SERIES[1:]), fresh))
    runs = {series.run_id for series in fresh}
    found = Series.objects.filter(run__in=runs).values_list("run_id", "key", "pk")
    keys = {(run_pk, key): pk for run_pk, key, pk in found}
    for series in fresh:
        series.pk = keys[series.run_id, series.key]


def _write_timelines(additions: Sequence[Addition]) -> dict[int, int]:
    """Bring the timelines up to date; return how far each run whose steps ascend is outlined."""
    outlined = {}
    grown = [run_pk for run_pk, first, _ in additions if first]
    known = {t.run_id: t for t in Timeline.objects.filter(run__in=grown)} if grown else {}
    fresh = []
    for run_pk, first, events in additions:
        if not first:
            timeline = known[run_pk] = Timeline(run_id=run_pk)
            fresh.append(timeline)
        elif run_pk in known:
            timeline = known[run_pk]
        else:
            continue  # begun before there were timelines: read in one piece until taken in anew
        was_ascending = timeline.is_ascending
        steps = events.steps
        timeline.count = first + len(events)
        if was_ascending:
            follows = timeline.last_step is None or steps[0] > timeline.last_step
            timeline.is_ascending = bool(
                follows and steps[0] != NO_STEP and (steps[1:] > steps[:-1]).all()
            )
        if timeline.is_ascending:
            timeline.last_step = int(steps[-1])
            outlined[run_pk] = timeline.outlined
            timeline.outlined = timeline.count // BLOCK * BLOCK
        elif was_ascending and first:
            timeline.outlined = 0
            forget_outlines(run_pk)
    insert(Timeline, _TIMELINE, map(attrgetter("run_id", *_TIMELINE[1:]), fresh))
    if old := [known[run_pk] for run_pk in grown if run_pk in known]:
        Timeline.objects.bulk_create(
            old, update_conflicts=True, unique_fields=["run"], update_fields=_TIMELINE[1:]
        )
    return outlined


def _series_blocks(series_pk: int, whole: Column, bounds: list[tuple[int, int]]) -> Iterator[tuple]:
    """Rows of ``_SERIES_BLOCK``."""
    for low, high in bounds:
        part = whole.between(low, high)
        if len(part):
            packed = pack(part, low, high - low)
            yield series_pk, low, *(packed[name] for name in _SERIES_BLOCK[2:])


def clear(run_pk: int) -> None:
    """Forget everything the run logged (its file is to be read anew)."""
    forget_outlines(run_pk)
    SeriesBlock.objects.filter(series__run=run_pk).delete()
    Series.objects.filter(run=run_pk).delete()
    EventBlock.objects.filter(run=run_pk).delete()
    Timeline.objects.filter(run=run_pk).delete()


def _bounds(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The blocks that cover the events from *start* (a multiple of TAIL) up to *end*.

    What follows the last full block is one block up to a multiple of TAIL, and a last small one.
    """
    while start < end:
        stop = start + BLOCK if start % BLOCK == 0 else end
        if stop > end or start % BLOCK:
            stop = end // TAIL * TAIL if end - start >= TAIL else end
        yield start, stop
        start = stop


def _shapes(
    data: Sequence[dict[str, Any]],
) -> Iterator[tuple[Integers, dict[str, list[Any]]]]:
    """The numbers of the rows with the same keys, and their values. Most runs log one shape."""
    if set(map(len, data)) == {len(data[0])}:
        try:
            yield np.arange(len(data)), {key: list(map(itemgetter(key), data)) for key in data[0]}
            return
        except KeyError:
            pass  # as many keys, but others
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
    *("count", "number_count", "first_value", "first_step", "last_value", "last_step"),
    *("min_value", "min_step", "max_value", "max_step"),
]
_SERIES = ("run", "key", *_STATISTICS)
_TIMELINE = ("run", "count", "is_ascending", "last_step", "outlined")
_EVENT_BLOCK = (
    *("run", "first", "count", "steps", "times"),
    *("low_step", "high_step", "checksum"),
)
_SERIES_BLOCK = ("series", "first", "positions", "values", "kinds", "extras", "checksum")


def _count_in(
    run_pk: int, first: int, events: Events, series_of: dict[str, Series]
) -> tuple[dict[str, Column], dict[str, Series]]:
    """The new values by key, and their series with statistics up to date, not saved yet."""
    new = {key: part.moved(first) for key, part in events.columns.items()}
    known = {key: series for key, series in series_of.items() if key in new}
    for key, part in new.items():
        series = known.setdefault(key, Series(run_id=run_pk, key=key))
        series.count += len(part)
        where = np.flatnonzero(part.finite())
        if not len(where):
            continue
        values = part.values[where]
        low, high = int(values.argmin()), int(values.argmax())

        def at(i: int, part: Column = part, where: Any = where) -> tuple[float, int | None]:
            step = int(events.steps[part.events[where[i]] - first])
            return float(part.values[where[i]]), None if step == NO_STEP else step

        if not series.number_count:
            series.first_value, series.first_step = at(0)
        if series.min_value is None or values[low] < series.min_value:
            series.min_value, series.min_step = at(low)
        if series.max_value is None or values[high] > series.max_value:
            series.max_value, series.max_step = at(high)
        series.last_value, series.last_step = at(-1)
        series.number_count += len(where)
    return new, known


def _take_events(ends: Iterable[tuple[int, int]]) -> dict[int, list[list[Any]]]:
    """By run, steps and times of the blocks from an event on; the blocks are removed."""
    which = [Q(run=run_pk, first__gte=start) for run_pk, start in ends]
    found: dict[int, list[list[Any]]] = {}
    if which:
        blocks = EventBlock.objects.filter(reduce(or_, which))
        pks = []
        for pk, run_pk, expected, *packed in blocks.order_by("first").values_list(
            "pk", "run_id", "checksum", "steps", "times"
        ):
            verify(f"metrics.EventBlock {pk}", expected, *packed)
            found.setdefault(run_pk, []).append(packed)
            pks.append(pk)
        EventBlock.objects.filter(pk__in=pks).delete()
    return found


def _take_series(
    ends: Iterable[tuple[_End, int, list[int]]],
) -> dict[int, dict[int, list[Column]]]:
    """By run and series, the values in the blocks of the end; the blocks are removed."""
    which: list[Q] = []
    run_of: dict[int, int] = {}
    for end, run_pk, series in ends:
        if end.completes_block:  # also of what is not logged just now
            series = list(Series.objects.filter(run=run_pk).values_list("pk", flat=True))
        which.append(Q(series__in=series, first__gte=end.start))
        run_of |= dict.fromkeys(series, run_pk)
    found: dict[int, dict[int, list[Column]]] = {}
    if which:
        blocks = SeriesBlock.objects.filter(reduce(or_, which))
        for pk, part in series_columns(blocks):
            found.setdefault(run_of[pk], {}).setdefault(pk, []).append(part)
        blocks.delete()
    return found


def _joined(old: list[list[Any]], events: Events) -> tuple[Integers, Floats]:
    """Steps and times of the blocks *old* and of the events that follow."""
    if not old:
        return events.steps, events.times
    return (
        np.concatenate([*(np.frombuffer(s, "<i8") for s, _ in old), events.steps]),
        np.concatenate([*(np.frombuffer(t, "<f8") for _, t in old), events.times]),
    )


def _event_blocks(
    run_pk: int, start: int, steps: Integers, times: Floats, bounds: list[tuple[int, int]]
) -> Iterator[tuple]:
    """Rows of ``_EVENT_BLOCK``."""
    for low, high in bounds:
        part = steps[low - start : high - start]
        packed = (
            part.astype("<i8").tobytes(),
            times[low - start : high - start].astype("<f8").tobytes(),
        )
        stepped = part[part != NO_STEP]
        low_step, high_step = None, None
        if len(stepped):
            low_step, high_step = int(stepped.min()), int(stepped.max())
        yield run_pk, low, high - low, *packed, low_step, high_step, checksum(*packed)
