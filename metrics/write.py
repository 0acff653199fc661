"""Append events to a run, inside the transaction that notes how far its file was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .columns import NO_STEP, Column, column, concatenate, pack, unpack
from .models import EventBlock, Series, SeriesBlock

BLOCK = 4096
"""Events in a full block."""

TAIL = 256
"""Events in a block at the growing end, so that appending a line rewrites little."""

STEP_KEY = "global_step"
"""Kept with the event, not as a series of its own."""

MAX_KEY_LENGTH = 500


class Event(NamedTuple):
    """One metrics line: integer step and Unix time (None where it has none) and what it logged.

    ``data`` is what a fast JSON parser made of it; ``exact()`` tells what it says exactly, and
    is asked only about integers too large for a float64.
    """

    step: int | None
    time: float | None
    data: dict[str, Any]
    exact: Any = None


Addition = tuple[int, int, Sequence[Event]]
"""A run's primary key, how many events it holds so far, and those that follow."""


def append_many(additions: Iterable[Addition]) -> None:
    """Append events to several runs (each named once) in few statements.

    Keys longer than ``MAX_KEY_LENGTH`` characters, or that no database can store, are left out.
    """
    counted = [(*a, *_count_in(*a)) for a in additions if a[2]]
    fresh = [s for _, first, _, _, series in counted if not first for s in series.values()]
    grown = [s for _, first, _, _, series in counted if first for s in series.values()]
    Series.objects.bulk_create(fresh)
    Series.objects.bulk_create(
        grown, update_conflicts=True, unique_fields=["run", "key"], update_fields=_STATISTICS
    )
    event_blocks: list[EventBlock] = []
    series_blocks: list[SeriesBlock] = []
    for run_pk, first, events, new, series in counted:
        # At the growing end only the last small block is rewritten; when a full block's worth
        # is together, its small blocks become one.
        end = first + len(events)
        completes_block = end // BLOCK > first // BLOCK
        unit = BLOCK if completes_block else TAIL
        start = first // unit * unit
        bounds = list(_bounds(start, end))
        event_blocks += _event_blocks(run_pk, start, first, events, bounds)

        parts: dict[int, list[Column]] = {}
        if start < first:
            rewritten = SeriesBlock.objects.filter(series__run=run_pk, first__gte=start)
            if not completes_block:
                rewritten = rewritten.filter(series__in=[s.pk for s in series.values()])
            fields = ("series_id", "first", "positions", "values", "kinds", "extras")
            for pk, *block in rewritten.order_by("first").values_list(*fields):
                parts.setdefault(pk, []).append(unpack(*block))
            rewritten.delete()
        for key, part in new.items():
            parts.setdefault(series[key].pk, []).append(part)
        for pk, columns in parts.items():
            series_blocks += _series_blocks(pk, concatenate(columns), bounds)
    EventBlock.objects.bulk_create(event_blocks)
    SeriesBlock.objects.bulk_create(series_blocks)


def _series_blocks(
    series_pk: int, whole: Column, bounds: list[tuple[int, int]]
) -> Iterator[SeriesBlock]:
    for low, high in bounds:
        part = whole.between(low, high)
        if len(part):
            yield SeriesBlock(series_id=series_pk, first=low, **pack(part, low, high - low))


def clear(run_pk: int) -> None:
    """Forget everything the run logged (its file is to be read anew)."""
    SeriesBlock.objects.filter(series__run=run_pk).delete()
    Series.objects.filter(run=run_pk).delete()
    EventBlock.objects.filter(run=run_pk).delete()


def _bounds(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The blocks that cover the events from *start* (a multiple of TAIL) up to *end*."""
    while start < end:
        full = start % BLOCK == 0 and start + BLOCK <= end
        stop = start + BLOCK if full else min(start + TAIL, end)
        yield start, stop
        start = stop


def _columns(first: int, events: Sequence[Event]) -> dict[str, Column]:
    """The new values of every key. Events of the same shape are turned into columns together."""
    shapes: dict[tuple[str, ...], tuple[list[int], list[Any]]] = {}
    for i, event in enumerate(events):
        numbers, rows = shapes.setdefault(tuple(event.data), ([], []))
        numbers.append(i)
        rows.append(event.data.values())

    parts: dict[str, list[Column]] = {}
    for keys, (numbers, rows) in shapes.items():
        at = np.array(numbers, np.int64)
        for key, cells in zip(keys, zip(*rows, strict=True), strict=True):
            if key != STEP_KEY and _is_storable(key):
                part = column(at + first, cells)
                huge = np.abs(part.values) >= 2.0**63
                if huge.any():  # perhaps an integer that the parser could only round
                    exact = [
                        events[i].exact()[key] if big and events[i].exact else cell
                        for i, cell, big in zip(numbers, cells, huge, strict=True)
                    ]
                    part = column(at + first, exact)
                parts.setdefault(key, []).append(part)
    return {key: concatenate(columns) for key, columns in parts.items()}


def _is_storable(key: str) -> bool:
    if len(key) > MAX_KEY_LENGTH or "\x00" in key:
        return False
    return key.isascii() or not any("\ud800" <= char <= "\udfff" for char in key)


_STATISTICS = [
    *("count", "number_count", "first_value", "first_step", "last_value", "last_step"),
    *("min_value", "min_step", "max_value", "max_step"),
]


def _count_in(
    run_pk: int, first: int, events: Sequence[Event]
) -> tuple[dict[str, Column], dict[str, Series]]:
    """The new values by key, and their series with statistics up to date, not saved yet."""
    new = _columns(first, events)
    steps = [event.step for event in events]
    known = {}
    if first:
        known = {s.key: s for s in Series.objects.filter(run=run_pk, key__in=list(new))}
    for key, part in new.items():
        series = known.setdefault(key, Series(run_id=run_pk, key=key))
        series.count += len(part)
        where = np.flatnonzero(part.finite())
        if not len(where):
            continue
        values = part.values[where]
        low, high = int(values.argmin()), int(values.argmax())

        def at(i: int, part: Column = part, where: Any = where) -> tuple[float, int | None]:
            return float(part.values[where[i]]), steps[int(part.events[where[i]]) - first]

        if not series.number_count:
            series.first_value, series.first_step = at(0)
        if series.min_value is None or values[low] < series.min_value:
            series.min_value, series.min_step = at(low)
        if series.max_value is None or values[high] > series.max_value:
            series.max_value, series.max_step = at(high)
        series.last_value, series.last_step = at(-1)
        series.number_count += len(where)
    return new, known


def _event_blocks(
    run_pk: int, start: int, first: int, events: Sequence[Event], bounds: list[tuple[int, int]]
) -> Iterator[EventBlock]:
    steps = np.array([NO_STEP if e.step is None else e.step for e in events], np.int64)
    times = np.array([np.nan if e.time is None else e.time for e in events], np.float64)
    if start < first:
        rewritten = EventBlock.objects.filter(run=run_pk, first__gte=start)
        old = list(rewritten.order_by("first").values_list("steps", "times"))
        steps = np.concatenate([*(np.frombuffer(s, "<i8") for s, _ in old), steps])
        times = np.concatenate([*(np.frombuffer(t, "<f8") for _, t in old), times])
        rewritten.delete()
    for low, high in bounds:
        yield EventBlock(
            run_id=run_pk,
            first=low,
            count=high - low,
            steps=steps[low - start : high - start].astype("<i8").tobytes(),
            times=times[low - start : high - start].astype("<f8").tobytes(),
        )
