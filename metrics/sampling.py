"""Which points to keep of a curve that has more than a screen can show. Pure functions.

The rule is *min-max*: the points are cut into stretches of equal length, and of each stretch the
lowest and the highest finite value are kept, beside the first and the last point of all. So every
spike survives, and the lowest and the highest value of the whole are always exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .columns import Floats, Integers


def outline_at(places: Integers, values: Floats, size: int) -> Integers:
    """Indexes of the first, lowest, highest and last of every *size* values; ascending, each once.

    The *values* are finite and may have gaps between them: *places*, ascending, say where each
    lies; a stretch begins at every multiple of *size*. The outline of an outline is that of the
    values themselves, for any larger *size* that the smaller one divides: coarser levels are built
    from finer ones without loss.
    """
    if not len(places):
        return np.empty(0, np.int64)
    stretch = places // size
    first = np.flatnonzero(np.concatenate([[True], stretch[1:] != stretch[:-1]]))
    lengths = np.diff(first, append=len(places))
    kept = [first, first + lengths - 1]
    for best in (np.minimum, np.maximum):
        is_best = np.flatnonzero(values == np.repeat(best.reduceat(values, first), lengths))
        kept.append(is_best[np.searchsorted(is_best, first)])
    return _once(np.sort(np.stack(kept, axis=1), axis=1).reshape(-1))


def _ascending(size: int, rows: Integers | None, *inside: Integers) -> Integers:
    """Indexes *inside* of each of *rows* (None: all) of *size* values as ascending ones of all."""
    if rows is None:
        rows = np.arange(len(inside[0]))
    found = np.sort(np.stack(inside, axis=1), axis=1)
    found += (rows * size)[:, None]
    return _once(found.reshape(-1))


def _once(ascending: Integers) -> Integers:
    """Each of the numbers once."""
    if not len(ascending):
        return ascending
    new = np.empty(len(ascending), np.bool_)
    new[0] = True
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return ascending[new]


def thin(values: Floats, points: int) -> Integers:
    """Ascending indexes of at most *points* (1 or more) values, by the rule of this module.

    All of them if there are no more than that. From 4 points on the extremes are exact.
    """
    if len(values) <= points:
        return np.arange(len(values))
    count = (points - 2) // 2
    inner = _extremes(values, count) if count > 0 else np.empty(0, np.int64)
    return _once(np.concatenate([[0], inner, [len(values) - 1][: points - 1]]).astype(np.int64))


def thin_rows(columns: Sequence[Floats], length: int, points: int) -> Integers:
    """Ascending indexes of exactly *points* (1 or more) of *length* rows, all if they are fewer.

    Each column keeps its extremes, by the rule of this module, in stretches as short as *points*
    allows; rows left over are spread evenly. With ``points >= 2 + 2 * len(columns)`` the
    extremes of every column are exact.
    """
    if length <= points:
        return np.arange(length)
    is_kept = np.zeros(length, np.bool_)
    is_kept[[0, length - 1][: min(points, 2)]] = True
    count = (points - 2) // (2 * max(1, len(columns)))
    if count > 0:
        for column in columns:
            is_kept[_extremes(column, count)] = True
    left_over = points - int(np.count_nonzero(is_kept))
    if left_over > 0:
        others = np.flatnonzero(~is_kept)
        at = (np.arange(left_over) * 2 + 1) * len(others) // (2 * left_over)
        is_kept[others[at]] = True
    return np.flatnonzero(is_kept)


def _extremes(values: Floats, count: int) -> Integers:
    """Ascending indexes of the lowest and highest finite value in each of *count* stretches."""
    size = -(-len(values) // count)
    whole = len(values) // size * size
    found = [_extremes_of(values[:whole].reshape(-1, size))]
    if whole < len(values):
        found.append(_extremes_of(values[None, whole:]) + whole)
    return np.concatenate(found)


def _extremes_of(stretches: Floats) -> Integers:
    finite = np.isfinite(stretches)
    size = stretches.shape[1]
    if finite.all():
        return _ascending(size, None, stretches.argmin(axis=1), stretches.argmax(axis=1))
    filled = np.flatnonzero(finite.any(axis=1))
    stretches, finite = stretches[filled], finite[filled]
    low = np.where(finite, stretches, np.inf).argmin(axis=1)
    high = np.where(finite, stretches, -np.inf).argmax(axis=1)
    return _ascending(size, filled, low, high)
