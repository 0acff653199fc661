"""Downsampled levels of a series: written while it grows, read by charts instead of its blocks.

They exist for series whose steps ascend, and cover the full blocks of their run
(``EventLog.covered_events``): each level up to the last multiple of its bucket. They can be built
again from the blocks at any time (``rebuild_levels``).

Sixteen buckets of a level are one of the next, so that some level always has between one and
sixteen times the points that a chart shows: its reading takes the same few blocks at any length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Q

from .blocks import BLOCK_SIZE, FETCH_SIZE, read_columns, read_steps
from .columns import NO_STEP, Column, Floats, Integers, checksum, verify
from .models import EventLog, Series, SeriesLevel
from .sampling import bucket_points

BUCKET_SIZES = {1: 64, 2: 1024, 3: 16_384, 4: 262_144}
"""Events in a bucket, by level."""

BUCKETS_IN_ROW = 512
"""Buckets in a row of the table."""

Span = tuple[int, int, int]
"""(level, first event, end) of what is read of a series; level 0: its blocks."""


@dataclass
class Points:
    """Points of a series in ascending order: number of the event, step, value."""

    events: Integers
    steps: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.events)

    def between(self, first: int, end: int) -> Points:
        low, high = np.searchsorted(self.events, (first, end))
        return Points(self.events[low:high], self.steps[low:high], self.values[low:high])

    def take(self, at: Any) -> Points:
        return Points(self.events[at], self.steps[at], self.values[at])

    def one_per_step(self) -> Points:
        """Return those that have a step, and of several at one step the last."""
        points = self
        if len(self) and self.steps.min() == NO_STEP:
            points = self.take(np.flatnonzero(self.steps != NO_STEP))
        is_last = points.steps[1:] != points.steps[:-1]
        return points if is_last.all() else points.take(np.append(is_last, True))

    def downsample(self, level: int) -> Points:
        """Return what *level* keeps of each of its buckets."""
        return self.take(bucket_points(self.events, self.values, BUCKET_SIZES[level]))


def join(parts: list[Points]) -> Points:
    """Return parts that follow on each other as one."""
    if len(parts) == 1:
        return parts[0]
    return Points(
        np.concatenate([np.empty(0, np.int64), *(p.events for p in parts)]),
        np.concatenate([np.empty(0, np.int64), *(p.steps for p in parts)]),
        np.concatenate([np.empty(0), *(p.values for p in parts)]),
    )


def covered_by(level: int, events: int) -> int:
    """Return up to which event *level* covers the first *events*, which levels cover."""
    unit = max(BLOCK_SIZE, BUCKET_SIZES[level])
    return events // unit * unit


def spans(level: int, first: int, end: int, covered_events: int) -> Iterator[Span]:
    """Cut the events *first* to *end* into spans of *level*, and of finer ones where it ends."""
    if first >= end:
        return
    if not level:
        yield 0, first, end
        return
    size = BUCKET_SIZES[level]
    start = -(-first // size) * size
    stop = min(covered_by(level, covered_events), end // size * size)
    if start >= stop:
        yield from spans(level - 1, first, end, covered_events)
        return
    yield from spans(level - 1, first, start, covered_events)
    yield level, start, stop
    yield from spans(level - 1, stop, end, covered_events)


def extend_levels(
    rows: Any, wholes: dict[int, Column], steps: Integers, start: int, end: int
) -> None:
    """Add the events from *start* to *end*, which fill whole blocks, to *rows* (a queryset).

    *wholes* has the values of each series from *start* on, *steps* the step of each event.
    """
    finer = {}
    for pk, whole in wholes.items():
        numbers = whole.between(start, end).only_numbers()
        points = Points(numbers.events, steps[numbers.events - start], numbers.values)
        finer[pk] = points.one_per_step()
    low = start
    for level, size in BUCKET_SIZES.items():
        if covered_by(level, end) <= covered_by(level, start):
            break
        if covered_by(level, start) < low:  # some of what is together now was added before
            low, end = covered_by(level, start), covered_by(level, end)
            several = read_levels(rows, [(level - 1, low, end)])
            finer = {pk: points.one_per_step() for pk, points in several}
        elif covered_by(level, end) < end:
            end = end // size * size
            finer = {pk: points.between(low, end) for pk, points in finer.items()}
        finer = {pk: points.downsample(level) for pk, points in finer.items()}
        _extend(level, low, finer)


def _extend(level: int, start: int, added: dict[int, Points]) -> None:
    """Write *added* points of each series, from the event *start* on, into the rows of *level*."""
    span = BUCKET_SIZES[level] * BUCKETS_IN_ROW
    added = {pk: points for pk, points in added.items() if len(points)}
    row = start // span * span
    parts = {pk: [points] for pk, points in added.items()}
    if row < start:
        begun = SeriesLevel.objects.filter(series__in=list(added))
        for pk, points in read_levels(begun, [(level, row, start)]):
            parts[pk].insert(0, points)
    rows = []
    for pk, several in parts.items():
        points = join(several)
        for first in range(row, int(points.events[-1]) + 1, span):
            part = points.between(first, first + span)
            if not len(part):
                continue
            packed = (
                (part.events - first).astype("<u4").tobytes(),
                part.steps.astype("<i8").tobytes(),
                part.values.astype("<f8").tobytes(),
            )
            fields = dict(zip(("events", "steps", "values"), packed, strict=True))
            rows.append(
                SeriesLevel(
                    series_id=pk, level=level, first=first, **fields, checksum=checksum(*packed)
                )
            )
    SeriesLevel.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["series", "level", "first"],
        update_fields=["events", "steps", "values", "checksum"],
    )


def read_levels(
    rows: Any, wanted: Sequence[Span], at_least: int = 0
) -> Iterator[tuple[int, Points]]:
    """Yield the points of each series among *rows* (a queryset) in these spans, in one query.

    Points of levels finer than *at_least* are downsampled to that.
    """
    condition = Q()
    for level, start, end in wanted:
        length = BUCKET_SIZES[level] * BUCKETS_IN_ROW
        condition |= Q(level=level, first__gt=start - length, first__lt=end)
    bounds = {at: [(s, e) for level, s, e in wanted if level == at] for at, *_ in wanted}
    fields = ("pk", "series_id", "level", "first", "checksum", "events", "steps", "values")
    parts: list[Points] = []
    last = None
    for pk, series, level, first, expected, *packed in (
        rows.filter(condition)
        .order_by("series", "level", "first")
        .values_list(*fields)
        .iterator(FETCH_SIZE)
    ):
        verify(f"metrics.SeriesLevel {pk}", expected, *packed)
        points = Points(
            np.frombuffer(packed[0], "<u4").astype(np.int64) + first,
            np.frombuffer(packed[1], "<i8"),
            np.frombuffer(packed[2], "<f8"),
        )
        if series != last and last is not None:
            yield last, in_order(parts)
            parts = []
        last = series
        for start, end in bounds[level]:
            part = points.between(start, end)
            if level < at_least:
                part = part.one_per_step().downsample(at_least)
            parts.append(part)
    if last is not None:
        yield last, in_order(parts)


def in_order(parts: list[Points]) -> Points:
    """Return parts, given in any order, as one."""
    parts = [part for part in parts if len(part)]
    return join(sorted(parts, key=lambda part: int(part.events[0])))


def rebuild_levels(run_pk: int) -> None:
    """Build the levels of a run again, from its blocks."""
    with transaction.atomic():
        log = EventLog.objects.select_for_update().get(run=run_pk)
        SeriesLevel.objects.filter(series__run=run_pk).delete()
        for series in Series.objects.filter(run=run_pk, number_count__gt=0, is_ascending=True):
            rows = SeriesLevel.objects.filter(series=series)
            for start in range(0, log.covered_events, BUCKET_SIZES[4]):
                stop = min(start + BUCKET_SIZES[4], log.covered_events)
                wholes = read_columns([series], start, stop)
                extend_levels(rows, wholes, read_steps(run_pk, start, stop), start, stop)
