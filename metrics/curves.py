"""What a run logged, as curves of a bounded number of points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .blocks import (
    BLOCK,
    EVERYTHING,
    Range,
    events_between,
    in_64_bits,
    read_columns,
    read_events,
    read_numbers,
    steps_of,
)
from .columns import BOOLEAN, NO_STEP, Floats, Integers
from .models import Outline, Series, Timeline
from .outlines import STRETCHES, Points, cover, in_order, join, read_outlines
from .sampling import thin


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
    _, times = read_events(run_pk)
    series = Series.objects.filter(run=run_pk, key=key)
    column = next(iter(read_columns(list(series), 0, len(times)).values()))
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
    wanted = Series.objects.filter(run__in=list(runs), number_count__gt=0).order_by("run", "key")
    if keys is not None:
        wanted = wanted.filter(key__in=list(keys))
    timelines = {t.run_id: t for t in Timeline.objects.filter(run__in=list(runs))}
    found: dict[tuple[int, str], Curve] = {}
    together: dict[tuple[int, int, int, int], list[Part]] = {}
    ranges: dict[int, tuple[int, int]] = {}
    for part in wanted.values_list(*_PART):
        _, run_pk, key, count, number_count = part
        known = timelines.get(run_pk)
        if known is None or not known.is_ascending:
            series = Series.objects.get(pk=part[0])
            found[run_pk, key] = _merged_curve(series, steps, points)
            continue
        if run_pk not in ranges:
            everything = (0, known.count)
            is_all = steps == EVERYTHING
            ranges[run_pk] = everything if is_all else events_between(known, steps)[:2]
        first, end = ranges[run_pk]
        is_dense = count == number_count == known.count
        # How many values of a series with gaps lie in a range, only its blocks tell.
        level = level_for(first, end, points) if is_dense or steps == EVERYTHING else 0
        together.setdefault((level, first, end, known.outlined), []).append(part)
    while together:
        (level, first, end, outlined), some = together.popitem()
        for part, whole in points_of(some, level, first, end, outlined):
            _, run_pk, key, _, number_count = part
            if level and points and len(whole) < min(points, number_count):
                # It logged in few places: a finer level has more points of it.
                together.setdefault((level - 1, first, end, outlined), []).append(part)
                continue
            kept = whole.take(thin(whole.values, points)) if points else whole
            total = end - first if level else len(whole)
            if steps == EVERYTHING:
                total = number_count
            found[run_pk, key] = Curve(kept.steps, kept.values, total)
    return found


Part = tuple[int, int, str, int, int]
"""Of a series: its key in the database, its run's, its name, values and numbers."""

_PART = ("pk", "run_id", "key", "count", "number_count")


def level_for(first: int, end: int, points: int | None) -> int:
    """The coarsest level that still has as many points as asked for; 0: the blocks."""
    if points is None:
        return 0
    for level in sorted(STRETCHES, reverse=True):
        if (end - first) // STRETCHES[level] * 4 >= points:
            return level
    return 0


def points_of(
    series: list[Part], level: int, first: int, end: int, outlined: int
) -> Iterator[tuple[Part, Points]]:
    """The points of each series in these events, as dense as *level* all over.

    *outlined* is how far the outlines of their runs go. What they do not cover is read from the
    blocks, and thinned like them: else the end of a curve would get most of its points.
    """
    if first >= end:
        yield from ((one, join([])) for one in series)
        return
    stretches = list(cover(level, first, end, outlined))
    found: dict[int, list[Points]] = {one[0]: [] for one in series}
    if coarse := [stretch for stretch in stretches if stretch[0]]:
        rows = Outline.objects.filter(series__in=list(found))
        for pk, points in read_outlines(rows, coarse, level):
            found[pk].append(points)
    for _, start, stop in (stretch for stretch in stretches if not stretch[0]):
        of_run = steps_of({one[1] for one in series}, start // BLOCK * BLOCK, stop)
        runs = {one[0]: one[1] for one in series}
        for pk, events, values in read_numbers(list(found), start, stop):
            block = start // BLOCK * BLOCK
            steps = of_run[runs[pk]]
            is_whole = len(events) == events[-1] - events[0] + 1
            at: Any = slice(events[0] - block, events[-1] - block + 1)
            points = Points(events, steps[at if is_whole else events - block], values)
            found[pk].append(points.outlined(level) if level else points)
    for one in series:
        yield one, in_order(found[one[0]])


def _merged_curve(series: Series, steps: Range, points: int | None) -> Curve:
    at, _ = read_events(series.run_id)
    column = read_columns([series], 0, len(at)).get(series.pk)
    if column is None:
        return Curve(np.empty(0, np.int64), np.empty(0), 0)
    at, values = at[column.events], column.numbers()
    low, high = in_64_bits(steps)
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


def number_keys(run_pk: int, keys: Sequence[str] | None = None) -> list[str]:
    """The keys of the run's series that have a curve, by name; of *keys* only."""
    series = Series.objects.filter(run=run_pk, number_count__gt=0)
    if keys is not None:
        series = series.filter(key__in=list(keys))
    return sorted(series.values_list("key", flat=True))
