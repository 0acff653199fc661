"""Downsampling: choose the points to keep of a curve that has more than a screen can show.

The rule is *min-max*: the points are divided into buckets of equal length, and the lowest and the
highest finite value of each bucket are kept, as well as the first and the last point of all. So
every spike survives, and the lowest and the highest value of all are always exact. The functions
are pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .columns import Floats, Integers


def bucket_points(index: Integers, values: Floats, size: int) -> Integers:
    """Return the ascending positions of every bucket's first, lowest, highest and last value.

    The values may have gaps between them: *index*, ascending, has the number of each; a bucket
    begins at every multiple of *size*. The lowest and the highest are taken from the finite values
    before the last one, which is always kept: a later point of the same step may still replace it,
    and the others are then as exact as before.

    Downsampling twice gives the same points as downsampling once, if the first *size* divides the
    second: coarser levels are built from finer ones without loss.
    """
    if not len(index):
        return np.empty(0, np.int64)
    bucket = index // size
    first = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
    lengths = np.diff(first, append=len(index))
    last = first + lengths - 1
    is_finite = np.isfinite(values)
    kept_positions = [first, last]
    for extreme, worst in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        candidates = np.where(is_finite, values, worst)
        candidates[last] = worst
        # In a bucket without finite values this is the first one, which is kept anyway.
        best = np.repeat(extreme.reduceat(candidates, first), lengths)
        is_best = np.flatnonzero(candidates == best)
        kept_positions.append(is_best[np.searchsorted(is_best, first)])
    return _unique(np.sort(np.stack(kept_positions, axis=1), axis=1).reshape(-1))


def _ascending(size: int, rows: Integers | None, *inside: Integers) -> Integers:
    """Turn indexes *inside* each of *rows* (None: all) of *size* values into indexes of all."""
    if rows is None:
        rows = np.arange(len(inside[0]))
    indexes = np.sort(np.stack(inside, axis=1), axis=1)
    indexes += (rows * size)[:, None]
    return _unique(indexes.reshape(-1))


def _unique(ascending: Integers) -> Integers:
    """Return *ascending* without repetitions."""
    if not len(ascending):
        return ascending
    is_new = np.empty(len(ascending), np.bool_)
    is_new[0] = True
    np.not_equal(ascending[1:], ascending[:-1], out=is_new[1:])
    return ascending[is_new]


def downsample(values: Floats, points: int) -> Integers:
    """Return ascending indexes of at most *points* (1 or more) values, by this module's rule.

    If there are no more values than that, all are kept. From 4 points on the extremes are exact.
    """
    if len(values) <= points:
        return np.arange(len(values))
    count = (points - 2) // 2
    inner = _extremes(values, count) if count > 0 else np.empty(0, np.int64)
    return _unique(np.concatenate([[0], inner, [len(values) - 1][: points - 1]]).astype(np.int64))


def downsample_rows(columns: Sequence[Floats], length: int, points: int) -> Integers:
    """Return ascending indexes of exactly *points* (1 or more) of *length* rows; all if fewer.

    Each column keeps its extremes, by this module's rule, in buckets as short as *points* allows;
    further rows are spread evenly. With ``points >= 2 + 2 * len(columns)`` the extremes of every
    column are exact.
    """
    if length <= points:
        return np.arange(length)
    is_kept = np.zeros(length, np.bool_)
    is_kept[[0, length - 1][: min(points, 2)]] = True
    count = (points - 2) // (2 * max(1, len(columns)))
    if count > 0:
        for column in columns:
            is_kept[_extremes(column, count)] = True
    remaining = points - int(np.count_nonzero(is_kept))
    if remaining > 0:
        unkept = np.flatnonzero(~is_kept)
        at = (np.arange(remaining) * 2 + 1) * len(unkept) // (2 * remaining)
        is_kept[unkept[at]] = True
    return np.flatnonzero(is_kept)


def _extremes(values: Floats, count: int) -> Integers:
    """Return ascending indexes of the lowest and highest finite value of *count* buckets."""
    size = -(-len(values) // count)
    full_length = len(values) // size * size
    indexes = [_extremes_of(values[:full_length].reshape(-1, size))]
    if full_length < len(values):
        indexes.append(_extremes_of(values[None, full_length:]) + full_length)
    return np.concatenate(indexes)


def _extremes_of(buckets: Floats) -> Integers:
    finite = np.isfinite(buckets)
    size = buckets.shape[1]
    if finite.all():
        return _ascending(size, None, buckets.argmin(axis=1), buckets.argmax(axis=1))
    filled = np.flatnonzero(finite.any(axis=1))
    buckets, finite = buckets[filled], finite[filled]
    low = np.where(finite, buckets, np.inf).argmin(axis=1)
    high = np.where(finite, buckets, -np.inf).argmax(axis=1)
    return _ascending(size, filled, low, high)
