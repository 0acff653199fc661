"""Blocks of events and of values, read as arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from .columns import NESTED, NO_STEP, Column, Floats, Integers, chain, unpack, unpack_events, verify
from .models import EventBlock, EventLog, Series, SeriesBlock

BLOCK_SIZE = 4096
"""Events in a full block."""

BATCH_SIZE = 4 * BLOCK_SIZE
"""Events that are read at once by code that works through a run in batches."""

FETCH_SIZE = 64
"""Rows of packed columns that are fetched at once: a few MiB."""

STEP_KEY = "global_step"
"""The key of the steps, which are kept with the events and not as a series."""

NOT_SHOWN = {"step", "epoch"}
"""Keys that no V1 table shows, as in v0.4."""

NOT_NUMBERS = {"step", "time"}
"""Keys that no V2 table shows."""

Range = tuple[int | None, int | None]
"""Lowest and highest step, both included; None: no limit."""

EVERYTHING: Range = (None, None)


def series_columns(blocks: Any) -> Iterator[tuple[int, Column]]:
    """Yield the series and the values of each of *blocks*, in the order of their events."""
    fields = ("pk", "series_id", "checksum", "first", "positions", "values", "kinds", "extras")
    for pk, series, expected, *block in (
        blocks.order_by("first").values_list(*fields).iterator(FETCH_SIZE)
    ):
        yield series, unpack(f"metrics.SeriesBlock {pk}", expected, *block)


def event_log(run_pk: int) -> EventLog | None:
    """Return the run's event log, which counts its events; None if it has logged none."""
    return EventLog.objects.filter(run=run_pk).first()


def shown_series(run_pk: int, keys: Sequence[str] | None, numbers: bool) -> list[Series]:
    """Return the series with a column in a table of the run, by key or in the order of *keys*."""
    hidden = NOT_NUMBERS if numbers else NOT_SHOWN
    series = Series.objects.filter(run=run_pk)
    if keys is not None:
        by_key = {s.key: s for s in series.filter(key__in=list(keys))}
        chosen = [by_key[key] for key in dict.fromkeys(keys) if key in by_key]
    else:
        chosen = sorted(series, key=lambda s: s.key)
    return [
        s
        for s in chosen
        if s.key not in hidden | {STEP_KEY} and (s.number_count or (not numbers and _is_shown(s)))
    ]


def _is_shown(series: Series) -> bool:
    """Return whether any value of *series* is other than a list or an object."""
    return any((column.kinds != NESTED).any() for _, column in series_columns(series.blocks))


def events_between(log: EventLog, steps: Range) -> tuple[int, int, int | None, int | None]:
    """Return first event and end of a range of steps, and the lowest and highest step in it.

    For a run whose steps ascend; events at one step are never separated.
    """
    blocks = EventBlock.objects.filter(run=log.run_id, low_step__isnull=False).defer("times")
    if steps == EVERYTHING:
        lowest = blocks.order_by("first").values_list("low_step", flat=True).first()
        return 0, log.count, lowest, log.last_step
    low, high = in_64_bits(steps)
    # Blocks ascend by step as they do by event: an index finds either end.
    head = blocks.order_by("first").first()
    if low is not None:
        head = blocks.filter(high_step__gte=low).order_by("high_step", "first").first()
    tail = blocks.order_by("first").last()
    if high is not None:
        tail = blocks.filter(low_step__lte=high).order_by("low_step", "first").last()
    if head is None or tail is None:
        return 0, 0, None, None
    (head_events, head_steps), (tail_events, tail_steps) = _placed(head), _placed(tail)
    start = 0 if low is None else int(np.searchsorted(head_steps, low))
    stop = len(tail_steps) if high is None else int(np.searchsorted(tail_steps, high, "right"))
    if not stop or head_events[start] > tail_events[stop - 1]:
        return 0, 0, None, None
    first, end = int(head_events[start]), int(tail_events[stop - 1]) + 1
    return first, end, int(head_steps[start]), int(tail_steps[stop - 1])


def _placed(block: EventBlock) -> tuple[Integers, Integers]:
    """Return the events of the block that have a step, and their steps."""
    verify(f"metrics.EventBlock {block.pk}", block.steps_checksum, block.steps)
    steps = np.frombuffer(block.steps, "<i8")
    at = np.flatnonzero(steps != NO_STEP)
    return at + block.first, steps[at]


def count_rows(log: EventLog, first: int, end: int) -> int:
    """Return the number of steps of the events from *first* to *end*, if the run's steps ascend."""
    if (first, end) == (0, log.count):
        return log.row_count
    blocks = EventBlock.objects.filter(run=log.run_id, low_step__isnull=False).defer("times")
    head = blocks.filter(first__lte=first).order_by("first").last()
    low = _row(head, first, "left") if head else None
    if low is None:
        head = blocks.filter(first__gt=first, first__lt=end).order_by("first").first()
        low = _row(head, first, "left") if head else None
    tail = blocks.filter(first__lt=end).order_by("first").last()
    high = _row(tail, end, "right") if tail else None
    return 0 if low is None or high is None else max(0, high - low + 1)


def _row(block: EventBlock, event: int, side: str) -> int | None:
    """Return the row of the first event from *event* on (left) or of the last before (right)."""
    events, steps = _placed(block)
    at = int(np.searchsorted(events, event)) - (side == "right")
    if not 0 <= at < len(events):
        return None
    return block.first_row + int(np.count_nonzero(steps[1 : at + 1] != steps[:at]))


def in_64_bits(steps: Range) -> Range:
    """Return the same range within the steps that a column can hold."""
    low, high = (b if b is None else max(-(2**63) + 1, min(b, 2**63 - 1)) for b in steps)
    return low, high


def read_steps(run_pk: int, first: int = 0, end: int | None = None) -> Integers:
    """Return the steps of the events from *first*, where a block begins, to *end* or beyond."""
    steps = steps_of({run_pk}, first, end)
    return steps.get(run_pk, np.empty(0, np.int64))


def steps_of(runs: Collection[int], first: int, end: int | None) -> dict[int, Integers]:
    """Return the steps of the same events of many runs, by run."""
    return _read_events(runs, "steps", first, end)


def read_times(run_pk: int, first: int = 0, end: int | None = None) -> Floats:
    """Return the times of the events from *first*, where a block begins, to *end* or beyond."""
    return _read_events({run_pk}, "times", first, end).get(run_pk, np.empty(0))


def _read_events(runs: Collection[int], name: str, first: int, end: int | None) -> dict[int, Any]:
    """Return one column of the runs' event blocks, by run, without reading the other."""
    blocks = EventBlock.objects.filter(run__in=runs, first__gte=first)
    if end is not None:
        blocks = blocks.filter(first__lt=end)
    parts: dict[Any, list[Any]] = {}
    rows = blocks.order_by("run", "first").values_list("pk", "run", f"{name}_checksum", name)
    for pk, run, expected, packed in rows.iterator(FETCH_SIZE):
        verify(f"metrics.EventBlock {pk}", expected, packed)
        parts.setdefault(run, []).append(np.frombuffer(packed, _EVENT_TYPES[name]))
    return {run: np.concatenate(columns) for run, columns in parts.items()}


_EVENT_TYPES = {"steps": "<i8", "times": "<f8"}


def read_columns(series: Sequence[Series], first: int, end: int) -> dict[int, Column]:
    """Return the values of *series* in the blocks from *first* up to *end*, by primary key."""
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
    """Yield (series, events, values) of every number that *series* logged as events in a range.

    A logged NaN is a NaN here. One series is in memory at a time. Most series have only plain
    numbers, whose blocks are joined without decoding.
    """
    blocks = SeriesBlock.objects.filter(
        series__in=series, first__gte=first // BLOCK_SIZE * BLOCK_SIZE, first__lt=end
    )
    fields = ("series_id", "pk", "checksum", "first", "positions", "values", "kinds", "extras")
    rows = blocks.order_by("series", "first").values_list(*fields).iterator(FETCH_SIZE)
    for series_pk, rows_of_series in groupby(rows, key=itemgetter(0)):
        packed_blocks = list(rows_of_series)
        if any(kinds for *_, kinds, _ in packed_blocks):
            column = chain(
                [unpack(f"metrics.SeriesBlock {pk}", *packed) for _, pk, *packed in packed_blocks]
            ).only_numbers()
            events, values = column.events, column.values
        else:
            for _, pk, expected, _, *packed in packed_blocks:
                verify(f"metrics.SeriesBlock {pk}", expected, *packed)
            parts = [unpack_events(row[3], row[4], row[5]) for row in packed_blocks]
            events = parts[0] if len(parts) == 1 else np.concatenate(parts)
            values = np.frombuffer(b"".join([row[5] for row in packed_blocks]), "<f8")
        low, high = np.searchsorted(events, (first, end))
        if low < high:
            yield series_pk, events[low:high], values[low:high]
