"""Blocks of events and of values, as arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from .columns import BOOLEAN, NESTED, Column, Floats, Integers, chain, unpack, verify
from .models import EventBlock, Series, SeriesBlock, Timeline

BLOCK = 4096
"""Events in a full block."""

STEP_KEY = "global_step"
"""Kept with the event, not as a series of its own."""

NOT_SHOWN = {"step", "epoch"}
"""Keys that no V1 table shows, as in v0.4 (``contract/metrics.md`` §1)."""

NOT_NUMBERS = {"step", "time"}
"""Keys that no V2 table shows."""

PIECE = 4 * BLOCK
"""Events that are read at once where they can be read in pieces."""

Range = tuple[int | None, int | None]
"""Lowest and highest step, both included; None: no limit."""

EVERYTHING: Range = (None, None)


AT_ONCE = 64
"""Rows with columns in them that are fetched at once: a few MiB."""


def series_columns(blocks: Any) -> Iterator[tuple[int, Column]]:
    """The series and the values of each of *blocks*, in the order of their events."""
    fields = ("pk", "series_id", "checksum", "first", "positions", "values", "kinds", "extras")
    for pk, series, expected, *block in (
        blocks.order_by("first").values_list(*fields).iterator(AT_ONCE)
    ):
        yield series, unpack(f"metrics.SeriesBlock {pk}", expected, *block)


def timeline(run_pk: int) -> Timeline | None:
    """What is known of the run's events now; None if it has logged none."""
    return Timeline.objects.filter(run=run_pk).first()


def shown_series(run_pk: int, keys: Sequence[str] | None, numbers: bool) -> list[Series]:
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


def events_between(timeline: Timeline, steps: Range) -> tuple[int, int, int | None, int | None]:
    """Of an ascending run: first event and end of the range, lowest and highest step in it."""
    blocks = EventBlock.objects.filter(run=timeline.run_id)
    if steps == EVERYTHING:
        lowest = blocks.filter(first=0).values_list("low_step", flat=True).first()
        return 0, timeline.count, lowest, timeline.last_step
    low, high = in_64_bits(steps)
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


def in_64_bits(steps: Range) -> Range:
    """The same range for what a column of steps can hold."""
    low, high = (b if b is None else max(-(2**63) + 1, min(b, 2**63 - 1)) for b in steps)
    return low, high


def _verified_steps(block: EventBlock) -> Integers:
    verify(f"metrics.EventBlock {block.pk}", block.checksum, block.steps, block.times)
    return np.frombuffer(block.steps, "<i8")


def read_steps(run_pk: int, first: int, end: int) -> Integers:
    """The steps of the events from *first*, where a block begins, to *end* or a little beyond."""
    return steps_of({run_pk}, first, end).get(run_pk, np.empty(0, np.int64))


def steps_of(runs: Collection[int], first: int, end: int) -> dict[int, Integers]:
    """The same of many runs."""
    blocks = EventBlock.objects.filter(run__in=runs, first__gte=first, first__lt=end)
    parts: dict[Any, list[Integers]] = {}
    for pk, run, expected, *packed in blocks.order_by("run", "first").values_list(
        "pk", "run", "checksum", "steps", "times"
    ):
        verify(f"metrics.EventBlock {pk}", expected, *packed)
        parts.setdefault(run, []).append(np.frombuffer(packed[0], "<i8"))
    return {run: np.concatenate(steps) for run, steps in parts.items()}


def read_events(run_pk: int, first: int = 0, end: int | None = None) -> tuple[Integers, Floats]:
    """Step and time of the run's events from *first*, where a block begins."""
    blocks = EventBlock.objects.filter(run=run_pk, first__gte=first).order_by("first")
    if end is not None:
        blocks = blocks.filter(first__lt=end)
    steps, times = [], []
    for pk, expected, *packed in blocks.values_list("pk", "checksum", "steps", "times").iterator(
        AT_ONCE
    ):
        verify(f"metrics.EventBlock {pk}", expected, *packed)
        steps.append(np.frombuffer(packed[0], "<i8"))
        times.append(np.frombuffer(packed[1], "<f8"))
    if not steps:
        return np.empty(0, np.int64), np.empty(0)
    return np.concatenate(steps), np.concatenate(times)


def read_columns(series: Sequence[Series], first: int, end: int) -> dict[int, Column]:
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


def read_numbers(
    series: Sequence[int], first: int, end: int
) -> Iterator[tuple[int, Integers, Floats]]:
    """(series, events, values) of every number that *series* logged as events *first* to *end*.

    NaN where NaN was logged; one series is in memory at a time. Most series have a plain number
    for every event: their blocks are then one array as they lie in the database.
    """
    blocks = SeriesBlock.objects.filter(
        series__in=series, first__gte=first // BLOCK * BLOCK, first__lt=end
    )
    fields = ("series_id", "pk", "checksum", "first", "positions", "values", "kinds", "extras")
    rows = blocks.order_by("series", "first").values_list(*fields).iterator(AT_ONCE)
    for series_pk, found in groupby(rows, key=itemgetter(0)):
        several = list(found)
        starts = [row[3] for row in several]
        lengths = [len(row[5]) // 8 for row in several]
        is_plain = not any(row[4] or row[6] for row in several) and all(
            start + length == following
            for start, length, following in zip(starts, lengths, starts[1:], strict=False)
        )
        if is_plain:
            for _, pk, expected, _, *packed in several:
                verify(f"metrics.SeriesBlock {pk}", expected, *packed)
            low, high = max(first, starts[0]), min(end, starts[-1] + lengths[-1])
            values = np.frombuffer(b"".join([row[5] for row in several]), "<f8")
            if low < high:
                yield (
                    series_pk,
                    np.arange(low, high),
                    values[low - starts[0] : high - starts[0]],
                )
            continue
        column = chain(
            [unpack(f"metrics.SeriesBlock {pk}", *rest) for _, pk, *rest in several]
        ).between(first, end)
        logged = column.kinds <= BOOLEAN
        values = column.numbers()
        if not logged.all():
            yield series_pk, column.events[logged], values[logged]
        elif len(values):
            yield series_pk, column.events, values
