"""Downsampled levels of a series: written while it grows, read by charts instead of its blocks.

They exist for series whose steps ascend, and cover the full blocks of their run
(``EventLog.covered_events``): each level up to the last multiple of its bucket size. They can be
built again from the blocks at any time (``rebuild_levels``).

Sixteen buckets of a level make one of the next, so that some level always has between one and
sixteen times the points that a chart shows: a chart reads the same few blocks at any length.
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
"""(level, first event, end) of a part of a series to read; level 0 stands for its blocks."""


@dataclass
class Points:
    """Points of a series in ascending order: event number, step, value."""

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
        """Return the last point of each step, without those that have no step."""
        points = self
        if len(self) and self.steps.min() == NO_STEP:
            points = self.take(np.flatnonzero(self.steps != NO_STEP))
        is_last = points.steps[1:] != points.steps[:-1]
        return points if is_last.all() else points.take(np.append(is_last, True))

    def downsample(self, level: int) -> Points:
        """Return the points that *level* keeps of each of its buckets."""
        return self.take(bucket_points(self.events, self.values, BUCKET_SIZES[level]))


def join(parts: list[Points]) -> Points:
    """Return consecutive parts as one."""
    if len(parts) == 1:
        return parts[0]
    return Points(
        np.concatenate([np.empty(0, np.int64), *(p.events for p in parts)]),
        np.concatenate([np.empty(0, np.int64), *(p.steps for p in parts)]),
        np.concatenate([np.empty(0), *(p.values for p in parts)]),
    )


def covered_by(level: int, events: int) -> int:
    """Return how many of the first *events*, which levels cover, *level* itself covers."""
    unit = max(BLOCK_SIZE, BUCKET_SIZES[level])
    return events // unit * unit


def spans(level: int, first: int, end: int, covered_events: int) -> Iterator[Span]:
    """Cut the events *first* to *end* into spans of *level*, and of finer levels at the edges."""
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
    rows: Any, columns: dict[int, Column], steps: Integers, start: int, end: int
) -> None:
    """Add the events from *start* to *end*, which fill whole blocks, to *rows* (a queryset).

    *columns* has the values of each series from *start* on, *steps* the step of each event.
    """
    finer = {}
    for pk, column in columns.items():
        numbers = column.between(start, end).only_numbers()
        points = Points(numbers.events, steps[numbers.events - start], numbers.values)
        finer[pk] = points.one_per_step()
    low = start
    for level, size in BUCKET_SIZES.items():
        if covered_by(level, end) <= covered_by(level, start):
            break
        if covered_by(level, start) < low:  # events that were added before complete a bucket now
            low, end = covered_by(level, start), covered_by(level, end)
            points_by_series = read_levels(rows, [(level - 1, low, end)])
            finer = {pk: points.one_per_step() for pk, points in points_by_series}
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
        begun_rows = SeriesLevel.objects.filter(series__in=list(added))
        for pk, points in read_levels(begun_rows, [(level, row, start)]):
            parts[pk].insert(0, points)
    rows = []
    for pk, series_points in parts.items():
        points = join(series_points)
        for first in range(row, int(points.events[-1]) + 1, span):
            row_points = points.between(first, first + span)
            if not len(row_points):
                continue
            packed = (
                (row_points.events - first).astype("<u4").tobytes(),
                row_points.steps.astype("<i8").tobytes(),
                row_points.values.astype("<f8").tobytes(),
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
    rows: Any, all_spans: Sequence[Span], at_least: int = 0
) -> Iterator[tuple[int, Points]]:
    """Yield the points in these spans of each series among *rows* (a queryset), in one query.

    Points of levels finer than *at_least* are downsampled to that level.
    """
    condition = Q()
    for level, start, end in all_spans:
        length = BUCKET_SIZES[level] * BUCKETS_IN_ROW
        condition |= Q(level=level, first__gt=start - length, first__lt=end)
    bounds = {at: [(s, e) for level, s, e in all_spans if level == at] for at, *_ in all_spans}
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
            span_points = points.between(start, end)
            if level < at_least:
                span_points = span_points.one_per_step().downsample(at_least)
            parts.append(span_points)
    if last is not None:
        yield last, in_order(parts)


def in_order(parts: list[Points]) -> Points:
    """Return parts, in any order, as one."""
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
                columns = read_columns([series], start, stop)
                extend_levels(rows, columns, read_steps(run_pk, start, stop), start, stop)
