"""Coarser levels of a series: written while it grows, read by charts instead of its blocks.

They exist for runs whose steps ascend, and cover the full blocks of such a run: the level of
stretches of 256 events up to the last multiple of 4,096 events, that of 65,536 up to the last
multiple of that. They can be built again from the blocks at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .columns import Column, Floats, Integers, checksum, verify
from .models import Outline
from .sampling import outline

STRETCHES = {1: 256, 2: 65_536}
"""Events in a stretch, by level."""

IN_ROW = 512
"""Stretches in a row of the table."""


@dataclass
class Points:
    """Points of a series in ascending order: number of the event, step, value (finite)."""

    events: Integers
    steps: Integers
    values: Floats

    def between(self, first: int, end: int) -> Points:
        low, high = np.searchsorted(self.events, (first, end))
        return Points(self.events[low:high], self.steps[low:high], self.values[low:high])


def join(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    return Points(
        np.concatenate([np.empty(0, np.int64), *(p.events for p in parts)]),
        np.concatenate([np.empty(0, np.int64), *(p.steps for p in parts)]),
        np.concatenate([np.empty(0), *(p.values for p in parts)]),
    )


def covered(level: int, count: int, block: int = 4096) -> int:
    """Up to which event *level* covers a run of *count* events (level 0: the blocks)."""
    if level == 0:
        return count
    unit = max(block, STRETCHES[level])
    return count // unit * unit


def extend_outlines(
    run_pk: int, wholes: dict[int, Column], steps: Integers, start: int, end: int
) -> None:
    """Add the events from *start* to *end*, which fill whole blocks.

    *wholes* has the values of each series from *start* on, *steps* the step of each event.
    """
    _extend(
        1,
        start,
        {
            pk: _outline(
                Points(whole.events[finite], steps[whole.events[finite] - start], values),
                1,
                start,
                end,
            )
            for pk, whole in wholes.items()
            for finite in [whole.finite() & (whole.events < end)]
            for values in [whole.values[finite]]
        },
    )
    coarse = STRETCHES[2]
    if end // coarse > start // coarse:
        start, end = start // coarse * coarse, end // coarse * coarse
        rows = Outline.objects.filter(series__run=run_pk)
        finer = read_outlines(rows, 1, start, end)
        _extend(2, start, {pk: _outline(points, 2, start, end) for pk, points in finer})


def _outline(points: Points, level: int, start: int, end: int) -> Points:
    dense = np.full(end - start, np.nan)
    dense[points.events - start] = points.values
    events = outline(dense, STRETCHES[level]) + start
    at = np.searchsorted(points.events, events)
    return Points(points.events[at], points.steps[at], points.values[at])


def _extend(level: int, start: int, added: dict[int, Points]) -> None:
    """Write *added* points of each series, from the event *start* on, into the rows of *level*."""
    span = STRETCHES[level] * IN_ROW
    added = {pk: points for pk, points in added.items() if len(points.events)}
    row = start // span * span
    parts = {pk: [points] for pk, points in added.items()}
    if row < start:
        begun = Outline.objects.filter(series__in=list(added))
        for pk, points in read_outlines(begun, level, row, start):
            parts[pk].insert(0, points)
    rows = []
    for pk, several in parts.items():
        points = join(several)
        for first in np.unique(points.events // span * span).tolist():
            part = points.between(first, first + span)
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
    rows: Iterable[Outline], level: int, start: int, end: int
) -> Iterator[tuple[int, Points]]:
    """The points of each series among *rows* (a queryset) that lie in these events."""
    span = STRETCHES[level] * IN_ROW
    found = rows.filter(level=level, first__gt=start - span, first__lt=end)  # type: ignore[attr-defined]
    fields = ("pk", "series_id", "first", "checksum", "events", "steps", "values")
    parts: dict[int, list[Points]] = {}
    for pk, series, first, expected, *packed in found.order_by("first").values_list(*fields):
        verify(f"metrics.Outline {pk}", expected, *packed)
        points = Points(
            np.frombuffer(packed[0], "<u4").astype(np.int64) + first,
            np.frombuffer(packed[1], "<i8"),
            np.frombuffer(packed[2], "<f8"),
        )
        parts.setdefault(series, []).append(points.between(start, end))
    for series, several in parts.items():
        yield series, join(several)


def forget_outlines(run_pk: int) -> None:
    Outline.objects.filter(series__run=run_pk).delete()
