"""Curves of what runs logged, each of a bounded number of points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .blocks import (
    BLOCK_SIZE,
    EVERYTHING,
    Range,
    events_between,
    in_64_bits,
    read_columns,
    read_numbers,
    read_steps,
    read_times,
    steps_of,
)
from .columns import NO_STEP, Floats, Integers
from .levels import BUCKET_SIZES, Points, in_order, join, read_levels, spans
from .models import EventLog, Series, SeriesLevel
from .sampling import downsample


@dataclass
class Curve:
    """Steps and values of one series, at most as many as asked for; ``total`` it has in range."""

    steps: Integers
    values: Floats
    total: int


def curve(run_pk: int, key: str, points: int = 300) -> tuple[list[float], list[float | None]]:
    """Return steps and values of one series for a chart of at most *points* points.

    Downsampled by the rule of ``metrics.sampling``; a value that is no finite number is a gap
    (None) where it is among the points. Events without a step are left out; a series that has no
    others (samples of the machine, say) is drawn over seconds since the run's first event instead.
    """
    series_curve = curves([run_pk], [key], points=points).get((run_pk, key))
    if series_curve is None:
        return [], []
    index, values = series_curve.steps.tolist(), series_curve.values
    if not index:
        seconds, values = _curve_over_time(run_pk, key, points)
        index = seconds.tolist()
    return index, [v if np.isfinite(v) else None for v in values.tolist()]


def _curve_over_time(run_pk: int, key: str, points: int) -> tuple[Floats, Floats]:
    times = read_times(run_pk)
    series = Series.objects.filter(run=run_pk, key=key)
    column = next(iter(read_columns(list(series), 0, len(times)).values())).only_numbers()
    is_timed = np.isfinite(times[column.events])
    if not is_timed.any():
        return np.empty(0), np.empty(0)
    seconds = times[column.events][is_timed] - np.nanmin(times)
    values = column.values[is_timed]
    kept = downsample(values, points)
    return seconds[kept], values[kept]


class Part(NamedTuple):
    """The columns of a series that its curve needs."""

    pk: int
    run_id: int
    key: str
    is_ascending: bool
    point_count: int


def curves(
    runs: Sequence[int],
    keys: Sequence[str] | None = None,
    *,
    steps: Range = EVERYTHING,
    points: int | None = 300,
) -> dict[tuple[int, str], Curve]:
    """Return curves of many series of many runs, in a few queries; *points* None: every point.

    Of the numbers at a repeated step the last logged counts. Series that have no numbers have no
    curve.
    """
    wanted = Series.objects.filter(run__in=list(runs), number_count__gt=0).order_by("run", "key")
    if keys is not None:
        wanted = wanted.filter(key__in=list(keys))
    logs = {log.run_id: log for log in EventLog.objects.filter(run__in=list(runs))}
    by_series: dict[tuple[int, str], Curve] = {}
    together: dict[tuple[int, int, int, int], list[Part]] = {}
    ranges: dict[int, tuple[int, int]] = {}
    for part in map(Part._make, wanted.values_list(*Part._fields)):
        log = logs[part.run_id]
        if not part.is_ascending or (steps != EVERYTHING and not log.is_ascending):
            by_series[part.run_id, part.key] = _merged_curve(part, steps, points)
            continue
        if part.run_id not in ranges:
            is_all = steps == EVERYTHING
            ranges[part.run_id] = (0, log.count) if is_all else events_between(log, steps)[:2]
        first, end = ranges[part.run_id]
        is_dense = part.point_count == log.count
        # How many values of a series with gaps lie in a range, only its blocks tell.
        level = level_for(first, end, points) if is_dense or steps == EVERYTHING else 0
        together.setdefault((level, first, end, log.covered_events), []).append(part)
    while together:
        (level, first, end, covered_events), parts = together.popitem()
        for part, whole in points_of(parts, level, first, end, covered_events):
            if level and points and len(whole) < min(points, part.point_count):
                # It logged in few places: a finer level has more points of it.
                together.setdefault((level - 1, first, end, covered_events), []).append(part)
                continue
            kept = whole.take(downsample(whole.values, points)) if points else whole
            total = end - first if level else len(whole)
            if steps == EVERYTHING:
                total = part.point_count
            by_series[part.run_id, part.key] = Curve(kept.steps, kept.values, total)
    return by_series


def level_for(first: int, end: int, points: int | None) -> int:
    """Return the coarsest level that still has as many points as asked for; 0: the blocks."""
    if points is None:
        return 0
    for level in sorted(BUCKET_SIZES, reverse=True):
        if (end - first) // BUCKET_SIZES[level] * 4 >= points:
            return level
    return 0


def points_of(
    series: Sequence[Any], level: int, first: int, end: int, covered_events: int
) -> Iterator[tuple[Any, Points]]:
    """Yield each of *series* and its points in these events, one a step, as dense as *level*.

    Each is a Series or a Part, and ascends. *covered_events* is how far the levels of their runs
    go. What these do not cover is read from the blocks, and downsampled like them: else the end of
    a curve would get most of its points.
    """
    if first >= end:
        yield from ((one, join([])) for one in series)
        return
    wanted = list(spans(level, first, end, covered_events))
    parts: dict[int, list[Points]] = {one.pk: [] for one in series}
    if coarse := [span for span in wanted if span[0]]:
        rows = SeriesLevel.objects.filter(series__in=list(parts))
        for pk, points in read_levels(rows, coarse, level):
            parts[pk].append(points)
    run_of = {one.pk: one.run_id for one in series}
    for _, start, stop in (span for span in wanted if not span[0]):
        block = start // BLOCK_SIZE * BLOCK_SIZE
        steps_by_run = steps_of(set(run_of.values()), block, stop)
        for pk, events, values in read_numbers(list(parts), start, stop):
            steps = steps_by_run[run_of[pk]]
            is_whole = len(events) == events[-1] - events[0] + 1
            at: Any = slice(events[0] - block, events[-1] - block + 1)
            points = Points(events, steps[at if is_whole else events - block], values)
            points = points.one_per_step()
            parts[pk].append(points.downsample(level) if level else points)
    for one in series:
        yield one, in_order(parts[one.pk]).one_per_step()


def _merged_curve(part: Part, steps: Range, points: int | None) -> Curve:
    """Read all of a series, and put it in order: for steps that go back."""
    at = read_steps(part.run_id)
    series = Series.objects.filter(pk=part.pk)
    column = read_columns(list(series), 0, len(at))[part.pk].only_numbers()
    at, values = at[column.events], column.values
    low, high = in_64_bits(steps)
    is_shown = at != NO_STEP
    if low is not None:
        is_shown &= at >= low
    if high is not None:
        is_shown &= at <= high
    at, values = at[is_shown], values[is_shown]
    at, last = np.unique(at[::-1], return_index=True)  # the last logged of each step
    values = values[::-1][last]
    kept = downsample(values, points) if points else slice(None)
    return Curve(at[kept], values[kept], len(values))


def number_keys(run_pk: int, keys: Sequence[str] | None = None) -> list[str]:
    """Return the keys of the run's series that have a curve, by name; of *keys* only."""
    series = Series.objects.filter(run=run_pk, number_count__gt=0)
    if keys is not None:
        series = series.filter(key__in=list(keys))
    return sorted(series.values_list("key", flat=True))
