"""Statistics over many runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import models

from .blocks import EVERYTHING, Range
from .columns import Floats, Integers
from .curves import curves
from .models import Series
from .sampling import downsample_rows


@dataclass
class Spread:
    """Mean, standard deviation (of the whole population), lowest and highest; 0 without values."""

    mean: float = 0.0
    deviation: float = 0.0
    low: float = 0.0
    high: float = 0.0


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of the finite numbers among *values*."""
    numbers = np.array(values, np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return Spread()
    return Spread(*(float(f(numbers)) for f in (np.mean, np.std, np.min, np.max)))


def last_values(key: str, runs: Any) -> list[tuple[int, float]]:
    """Return (run, last value) of the metric for each of *runs* (a queryset of keys) that has it.

    The value is NaN if the run has diverged.
    """
    series = Series.objects.filter(key=key, run__in=runs, number_count__gt=0)
    return [
        (run, math.nan if value is None else value)
        for run, value in series.values_list("run_id", "last_value")
    ]


def best_values(metrics: Mapping[int, tuple[str, str]]) -> dict[int, tuple[float, int | None]]:
    """Return the value and step of the best finite number so far, by run.

    *metrics* names the metric of each run, and whether ``max`` or ``min`` is better.
    """
    series = Series.objects.filter(
        run__in=list(metrics), key__in={key for key, _ in metrics.values()}, finite_count__gt=0
    )
    fields = ("run_id", "key", "min_value", "min_step", "max_value", "max_step")
    best = {}
    for run_pk, key, *extremes in series.values_list(*fields):
        name, mode = metrics[run_pk]
        if key == name:
            value, step = extremes[2:] if mode == "max" else extremes[:2]
            best[run_pk] = (value, step)
    return best


def count_values(runs: Any) -> int:
    """Return the number of values that *runs* (a queryset of keys) have logged."""
    series = Series.objects.filter(run__in=runs) if runs.query.where else Series.objects.all()
    return series.aggregate(total=models.Sum("count"))["total"] or 0


@dataclass
class Statistics:
    """The number of runs with a value at each step, and the spread of these values."""

    runs: int
    steps: Integers
    count: Integers
    mean: Floats
    deviation: Floats
    low: Floats
    high: Floats


def statistics(
    runs: Any, key: str, *, steps: Range = EVERYTHING, points: int | None = None
) -> Statistics:
    """Return statistics of the metric *key* over all of *runs* (a queryset of keys).

    One run is in memory at a time. ``deviation`` is that of the whole population. With *points*,
    at most that many steps are returned, including the extremes of mean, low and high; their
    values are exact.
    """
    index, count = np.empty(0, np.int64), np.empty(0, np.int64)
    mean, squares, low, high = (np.empty(0) for _ in range(4))
    number = 0
    series = Series.objects.filter(run__in=runs, key=key, number_count__gt=0)
    for run_pk in list(series.values_list("run_id", flat=True)):
        curve = curves([run_pk], [key], steps=steps, points=None).get((run_pk, key))
        if curve is None:
            continue
        finite = np.isfinite(curve.values)
        steps_of_run, values = curve.steps[finite], curve.values[finite]
        number += bool(len(steps_of_run))
        if not np.array_equal(steps_of_run, index):
            merged = np.union1d(index, steps_of_run)
            old_rows = np.searchsorted(merged, index)
            count, mean, squares, low, high = (
                _placed(column, old_rows, len(merged), fill)
                for column, fill in (
                    *((count, 0), (mean, 0), (squares, 0), (low, np.inf), (high, -np.inf)),
                )
            )
            index = merged
        rows = np.searchsorted(index, steps_of_run)
        # Welford: exact where a sum of squares would lose everything to rounding.
        count[rows] += 1
        delta = values - mean[rows]
        mean[rows] += delta / count[rows]
        squares[rows] += delta * (values - mean[rows])
        low[rows] = np.minimum(low[rows], values)
        high[rows] = np.maximum(high[rows], values)
    kept = downsample_rows([mean, low, high], len(index), points) if points else slice(None)
    deviation = np.sqrt(squares / np.maximum(count, 1))
    return Statistics(
        number,
        index[kept],
        count[kept],
        mean[kept],
        deviation[kept],
        low[kept],
        high[kept],
    )


def _placed(column: Any, old_rows: Integers, length: int, fill: float) -> Any:
    placed = np.full(length, fill, column.dtype)
    placed[old_rows] = column
    return placed
