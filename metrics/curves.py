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
    """Steps and values of one series, downsampled; ``total`` counts its points in the range."""

    steps: Integers
    values: Floats
    total: int


def curve(run_pk: int, key: str, points: int = 300) -> tuple[list[float], list[float | None]]:
    """Return steps and values of one series for a chart of at most *points* points.

    They are downsampled by the rule of ``metrics.sampling``; a number that is not finite is a gap
    (None) if it is among the points. Events without a step are left out. If the series has no
    others, such as samples of the machine, it is drawn over seconds since the run's first event.
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
    kept_indexes = downsample(values, points)
    return seconds[kept_indexes], values[kept_indexes]


class CurveSeries(NamedTuple):
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
    """Return curves of many series of many runs, in a few queries; all points if *points* is None.

    If several numbers were logged at a step, the last one counts. Series without numbers have no
    curve.
    """
    rows = Series.objects.filter(run__in=list(runs), number_count__gt=0).order_by("run", "key")
    if keys is not None:
        rows = rows.filter(key__in=list(keys))
    logs = {log.run_id: log for log in EventLog.objects.filter(run__in=list(runs))}
    by_series: dict[tuple[int, str], Curve] = {}
    pending: dict[tuple[int, int, int, int], list[CurveSeries]] = {}
    ranges: dict[int, tuple[int, int]] = {}
    for series in map(CurveSeries._make, rows.values_list(*CurveSeries._fields)):
        log = logs[series.run_id]
        if not series.is_ascending or (steps != EVERYTHING and not log.is_ascending):
            by_series[series.run_id, series.key] = _merged_curve(series, steps, points)
            continue
        if series.run_id not in ranges:
            is_all = steps == EVERYTHING
            ranges[series.run_id] = (0, log.count) if is_all else events_between(log, steps)[:2]
        first, end = ranges[series.run_id]
        is_dense = series.point_count == log.count
        # For a series with gaps, only its blocks say how many values are in a range.
        level = level_for(first, end, points) if is_dense or steps == EVERYTHING else 0
        pending.setdefault((level, first, end, log.covered_events), []).append(series)
    while pending:
        (level, first, end, covered_events), batch = pending.popitem()
        for series, all_points in points_of(batch, level, first, end, covered_events):
            if level and points and len(all_points) < min(points, series.point_count):
                # It logged only here and there: a finer level has more points.
                pending.setdefault((level - 1, first, end, covered_events), []).append(series)
                continue
            shown = all_points
            if points:
                shown = all_points.take(downsample(all_points.values, points))
            total = end - first if level else len(all_points)
            if steps == EVERYTHING:
                total = series.point_count
            by_series[series.run_id, series.key] = Curve(shown.steps, shown.values, total)
    return by_series


def level_for(first: int, end: int, points: int | None) -> int:
    """Return the coarsest level that has at least *points* points; 0 stands for the blocks."""
    if points is None:
        return 0
    for level in sorted(BUCKET_SIZES, reverse=True):
        if (end - first) // BUCKET_SIZES[level] * 4 >= points:
            return level
    return 0


def points_of(
    series: Sequence[Any], level: int, first: int, end: int, covered_events: int
) -> Iterator[tuple[Any, Points]]:
    """Yield each of *series* and its points in these events, one per step, as dense as *level*.

    Each is a Series or a CurveSeries, and ascends. The levels of their runs cover the first
    *covered_events* events. Later events are read from the blocks and downsampled like them: else
    the end of a curve would get most of its points.
    """
    if first >= end:
        yield from ((s, join([])) for s in series)
        return
    all_spans = list(spans(level, first, end, covered_events))
    parts: dict[int, list[Points]] = {s.pk: [] for s in series}
    if coarse := [span for span in all_spans if span[0]]:
        rows = SeriesLevel.objects.filter(series__in=list(parts))
        for pk, points in read_levels(rows, coarse, level):
            parts[pk].append(points)
    run_of = {s.pk: s.run_id for s in series}
    for _, start, stop in (span for span in all_spans if not span[0]):
        block = start // BLOCK_SIZE * BLOCK_SIZE
        steps_by_run = steps_of(set(run_of.values()), block, stop)
        for pk, events, values in read_numbers(list(parts), start, stop):
            steps = steps_by_run[run_of[pk]]
            is_whole = len(events) == events[-1] - events[0] + 1
            at: Any = slice(events[0] - block, events[-1] - block + 1)
            points = Points(events, steps[at if is_whole else events - block], values)
            points = points.one_per_step()
            parts[pk].append(points.downsample(level) if level else points)
    for s in series:
        yield s, in_order(parts[s.pk]).one_per_step()


def _merged_curve(curve_series: CurveSeries, steps: Range, points: int | None) -> Curve:
    """Read all of a series and sort it by step, for a run whose steps go back."""
    at = read_steps(curve_series.run_id)
    series = Series.objects.filter(pk=curve_series.pk)
    column = read_columns(list(series), 0, len(at))[curve_series.pk].only_numbers()
    at, values = at[column.events], column.values
    low, high = in_64_bits(steps)
    is_shown = at != NO_STEP
    if low is not None:
        is_shown &= at >= low
    if high is not None:
        is_shown &= at <= high
    at, values = at[is_shown], values[is_shown]
    at, last = np.unique(at[::-1], return_index=True)  # the last value of each step
    values = values[::-1][last]
    kept_indexes = downsample(values, points) if points else slice(None)
    return Curve(at[kept_indexes], values[kept_indexes], len(values))


def number_keys(run_pk: int, keys: Sequence[str] | None = None) -> list[str]:
    """Return the sorted keys, limited to *keys*, of the run's series that have a curve."""
    series = Series.objects.filter(run=run_pk, number_count__gt=0)
    if keys is not None:
        series = series.filter(key__in=list(keys))
    return sorted(series.values_list("key", flat=True))
