"""Coarser levels of a series: written while it grows, read by charts instead of its blocks.

They exist for runs whose steps ascend, and cover the full blocks of such a run
(``Timeline.outlined``): each level up to the last multiple of its stretch. They can be built again
from the blocks at any time (``rebuild_outlines``).

Sixteen stretches of a level are one of the next, so that some level always has between one and
sixteen times the points that a chart shows: its reading takes the same few blocks at any length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Q

from .blocks import BLOCK, read_columns, read_steps
from .columns import Column, Floats, Integers, checksum, verify
from .models import Outline, Series, Timeline
from .sampling import outline_at

STRETCHES = {1: 64, 2: 1024, 3: 16_384, 4: 262_144}
"""Events in a stretch, by level."""

IN_ROW = 512
"""Stretches in a row of the table."""

Stretch = tuple[int, int, int]
"""(level, first event, end): what is read of a series; level 0: its blocks."""


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

    def take(self, at: Integers) -> Points:
        return Points(self.events[at], self.steps[at], self.values[at])

    def outlined(self, level: int) -> Points:
        """Of every stretch of *level*, what an outline keeps."""
        finite = np.isfinite(self.values)
        points = self if finite.all() else self.take(np.flatnonzero(finite))
        return points.take(outline_at(points.events, points.values, STRETCHES[level]))


def join(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    return Points(
        np.concatenate([np.empty(0, np.int64), *(p.events for p in parts)]),
        np.concatenate([np.empty(0, np.int64), *(p.steps for p in parts)]),
        np.concatenate([np.empty(0), *(p.values for p in parts)]),
    )


def covered(level: int, count: int) -> int:
    """Up to which event *level* covers *count* events that are outlined."""
    unit = max(BLOCK, STRETCHES[level])
    return count // unit * unit


def cover(level: int, first: int, end: int, outlined: int) -> Iterator[Stretch]:
    """The events *first* to *end* in stretches of *level*, and finer ones where it ends."""
    if first >= end:
        return
    if not level:
        yield 0, first, end
        return
    size = STRETCHES[level]
    start = -(-first // size) * size
    stop = min(covered(level, outlined), end // size * size)
    if start >= stop:
        yield from cover(level - 1, first, end, outlined)
        return
    yield from cover(level - 1, first, start, outlined)
    yield level, start, stop
    yield from cover(level - 1, stop, end, outlined)


def extend_outlines(
    rows: Any, wholes: dict[int, Column], steps: Integers, start: int, end: int
) -> None:
    """Add the events from *start* to *end*, which fill whole blocks, to *rows* (a queryset).

    *wholes* has the values of each series from *start* on, *steps* the step of each event.
    """
    finer = {}
    for pk, whole in wholes.items():
        finite = whole.finite() & (whole.events < end)
        events = whole.events[finite]
        finer[pk] = Points(events, steps[events - start], whole.values[finite])
    low = start
    for level, size in STRETCHES.items():
        if covered(level, end) <= covered(level, start):
            break
        if covered(level, start) < low:  # some of what is together now was added before
            low, end = covered(level, start), covered(level, end)
            finer = dict(read_outlines(rows, [(level - 1, low, end)]))
        elif covered(level, end) < end:
            end = end // size * size
            finer = {pk: points.between(low, end) for pk, points in finer.items()}
        finer = {pk: points.outlined(level) for pk, points in finer.items()}
        _extend(level, low, finer)


def _extend(level: int, start: int, added: dict[int, Points]) -> None:
    """Write *added* points of each series, from the event *start* on, into the rows of *level*."""
    span = STRETCHES[level] * IN_ROW
    added = {pk: points for pk, points in added.items() if len(points)}
    row = start // span * span
    parts = {pk: [points] for pk, points in added.items()}
    if row < start:
        begun = Outline.objects.filter(series__in=list(added))
        for pk, points in read_outlines(begun, [(level, row, start)]):
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
                Outline(
                    series_id=pk, level=level, first=first, **fields, checksum=checksum(*packed)
                )
            )
    Outline.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["series", "level", "first"],
        update_fields=["events", "steps", "values", "checksum"],
    )


def read_outlines(
    rows: Any, stretches: Sequence[Stretch], at_least: int = 0
) -> Iterator[tuple[int, Points]]:
    """The points of each series among *rows* (a queryset) in these stretches, in one query.

    Those of levels finer than *at_least* are thinned to that.
    """
    wanted = Q()
    for level, start, end in stretches:
        span = STRETCHES[level] * IN_ROW
        wanted |= Q(level=level, first__gt=start - span, first__lt=end)
    found = rows.filter(wanted)
    bounds = {at: [(s, e) for level, s, e in stretches if level == at] for at, *_ in stretches}
    fields = ("pk", "series_id", "level", "first", "checksum", "events", "steps", "values")
    parts: list[Points] = []
    last = None
    for pk, series, level, first, expected, *packed in (
        found.order_by("series", "level", "first").values_list(*fields).iterator(64)
    ):
        verify(f"metrics.Outline {pk}", expected, *packed)
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
            parts.append(part.outlined(at_least) if level < at_least else part)
    if last is not None:
        yield last, in_order(parts)


def in_order(parts: list[Points]) -> Points:
    """As one what follows on each other in any order."""
    parts = [part for part in parts if len(part)]
    return join(sorted(parts, key=lambda part: int(part.events[0])))


def forget_outlines(run_pk: int) -> None:
    Outline.objects.filter(series__run=run_pk).delete()


def rebuild_outlines(run_pk: int, end: int | None = None) -> None:
    """Build the outlines of a run whose steps ascend again, from its blocks.

    With *end*: up to that event, and the caller notes how far they go.
    """
    with transaction.atomic():
        timeline = Timeline.objects.select_for_update().get(run=run_pk)
        forget_outlines(run_pk)
        timeline.outlined = (timeline.count if end is None else end) // BLOCK * BLOCK
        for series in Series.objects.filter(run=run_pk, number_count__gt=0):
            rows = Outline.objects.filter(series=series)
            for start in range(0, timeline.outlined, STRETCHES[4]):
                stop = min(start + STRETCHES[4], timeline.outlined)
                wholes = read_columns([series], start, stop)
                extend_outlines(rows, wholes, read_steps(run_pk, start, stop), start, stop)
        if end is None:
            timeline.save(update_fields=["outlined"])
