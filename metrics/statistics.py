"""Figures over many runs."""

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
    """Mean, standard deviation (of the whole population), lowest and highest; 0 of nothing."""

    mean: float = 0.0
    deviation: float = 0.0
    low: float = 0.0
    high: float = 0.0


def spread(values: Sequence[float]) -> Spread:
    """Return how the finite ones of *values* are spread."""
    numbers = np.array(values, np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return Spread()
    return Spread(*(float(f(numbers)) for f in (np.mean, np.std, np.min, np.max)))


def last_values(key: str, runs: Any) -> list[tuple[int, float]]:
    """Return (run, last value) of the metric in each of *runs* (a queryset of keys) that has it.

    NaN where the run has diverged.
    """
    series = Series.objects.filter(key=key, run__in=runs, number_count__gt=0)
    return [
        (run, math.nan if value is None else value)
        for run, value in series.values_list("run_id", "last_value")
    ]


def best_values(wanted: Mapping[int, tuple[str, str]]) -> dict[int, tuple[float, int | None]]:
    """Return value and step of the best finite number so far, by run.

    *wanted* names the metric of each run, and whether ``max`` or ``min`` is better.
    """
    series = Series.objects.filter(
        run__in=list(wanted), key__in={key for key, _ in wanted.values()}, finite_count__gt=0
    )
    fields = ("run_id", "key", "min_value", "min_step", "max_value", "max_step")
    best = {}
    for run_pk, key, *extremes in series.values_list(*fields):
        name, mode = wanted[run_pk]
        if key == name:
            value, step = extremes[2:] if mode == "max" else extremes[:2]
            best[run_pk] = (value, step)
    return best


def count_values(runs: Any) -> int:
    """Return how many values *runs* (a queryset of keys) have logged."""
    series = Series.objects.filter(run__in=runs) if runs.query.where else Series.objects.all()
    return series.aggregate(total=models.Sum("count"))["total"] or 0


@dataclass
class Statistics:
    """Over runs, by step: how many logged a number there, and how those are spread."""

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
    """Return the metric *key* over all of *runs* (a queryset of keys), none left out.

    One run is in memory at a time. ``deviation`` is that of the whole population. With *points*,
    at most so many steps are shown, the extremes of mean, low and high among them; what is shown
    is exact.
    """
    at, count = np.empty(0, np.int64), np.empty(0, np.int64)
    mean, squares, low, high = (np.empty(0) for _ in range(4))
    number = 0
    series = Series.objects.filter(run__in=runs, key=key, number_count__gt=0)
    for run_pk in list(series.values_list("run_id", flat=True)):
        curve = curves([run_pk], [key], steps=steps, points=None).get((run_pk, key))
        if curve is None:
            continue
        finite = np.isfinite(curve.values)
        new, values = curve.steps[finite], curve.values[finite]
        number += bool(len(new))
        if not np.array_equal(new, at):
            together = np.union1d(at, new)
            place = np.searchsorted(together, at)
            count, mean, squares, low, high = (
                _placed(column, place, len(together), fill)
                for column, fill in (
                    *((count, 0), (mean, 0), (squares, 0), (low, np.inf), (high, -np.inf)),
                )
            )
            at = together
        where = np.searchsorted(at, new)
        # Welford: exact where a sum of squares would lose everything to rounding.
        count[where] += 1
        delta = values - mean[where]
        mean[where] += delta / count[where]
        squares[where] += delta * (values - mean[where])
        low[where] = np.minimum(low[where], values)
        high[where] = np.maximum(high[where], values)
    kept = downsample_rows([mean, low, high], len(at), points) if points else slice(None)
    deviation = np.sqrt(squares / np.maximum(count, 1))
    return Statistics(
        number, at[kept], count[kept], mean[kept], deviation[kept], low[kept], high[kept]
    )


def _placed(column: Any, place: Integers, length: int, fill: float) -> Any:
    placed = np.full(length, fill, column.dtype)
    placed[place] = column
    return placed
