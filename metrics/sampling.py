"""Which points to keep of a curve that has more than a screen can show. Pure functions.

The rule is *min-max*: the points are cut into stretches of equal length, and of each stretch the
lowest and the highest finite value are kept, beside the first and the last point of all. So every
spike survives, and the lowest and the highest value of the whole are always exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .columns import Floats, Integers


def outline(values: Floats, size: int) -> Integers:
    """Indexes of the first, lowest, highest and last finite value of every *size* values.

    Ascending, each once. Values that are no finite numbers are passed over; a stretch of nothing
    else has no index. The outline of an outline is that of the values themselves, for any larger
    *size* that the smaller one divides: coarser levels are built from finer ones without loss.
    """
    stretches = _stretches(values, size)
    finite = np.isfinite(stretches)
    filled = np.flatnonzero(finite.any(axis=1))
    if not len(filled):
        return np.empty(0, np.int64)
    stretches, finite = stretches[filled], finite[filled]
    inside = (
        finite.argmax(axis=1),
        np.where(finite, stretches, np.inf).argmin(axis=1),
        np.where(finite, stretches, -np.inf).argmax(axis=1),
        size - 1 - finite[:, ::-1].argmax(axis=1),
    )
    return np.unique(np.concatenate([filled * size + index for index in inside]))


def thin(values: Floats, points: int) -> Integers:
    """Ascending indexes of at most *points* (1 or more) values, by the rule of this module.

    All of them if there are no more than that. From 4 points on the extremes are exact.
    """
    if len(values) <= points:
        return np.arange(len(values))
    ends = np.array([0, len(values) - 1][: min(points, 2)])
    count = (points - 2) // 2
    return np.union1d(ends, _extremes(values, count)) if count > 0 else ends


def thin_rows(columns: Sequence[Floats], length: int, points: int) -> Integers:
    """Ascending indexes of exactly *points* (1 or more) of *length* rows, all if they are fewer.

    Each column keeps its extremes, by the rule of this module, in stretches as short as *points*
    allows; rows left over are spread evenly. With ``points >= 2 + 2 * len(columns)`` the
    extremes of every column are exact.
    """
    if length <= points:
        return np.arange(length)
    kept = np.array([0, length - 1][: min(points, 2)])
    count = (points - 2) // (2 * max(1, len(columns)))
    if count > 0:
        kept = np.unique(np.concatenate([kept, *(_extremes(c, count) for c in columns)]))
    left_over = points - len(kept)
    if left_over > 0:
        others = np.setdiff1d(np.arange(length), kept, assume_unique=True)
        at = (np.arange(left_over) * 2 + 1) * len(others) // (2 * left_over)
        kept = np.union1d(kept, others[at])
    return kept


def _extremes(values: Floats, count: int) -> Integers:
    """Indexes of the lowest and the highest finite value in each of *count* stretches."""
    size = -(-len(values) // count)
    stretches = _stretches(values, size)
    finite = np.isfinite(stretches)
    if finite.all():
        low, high = stretches.argmin(axis=1), stretches.argmax(axis=1)
        start = np.arange(len(stretches)) * size
    else:
        filled = np.flatnonzero(finite.any(axis=1))
        stretches, finite = stretches[filled], finite[filled]
        low = np.where(finite, stretches, np.inf).argmin(axis=1)
        high = np.where(finite, stretches, -np.inf).argmax(axis=1)
        start = filled * size
    return np.concatenate([start + low, start + high])


def _stretches(values: Floats, size: int) -> Floats:
    """*values* as rows of *size*; the last is filled up with NaN."""
    missing = -len(values) % size
    if missing:
        values = np.concatenate([values, np.full(missing, np.nan)])
    return values.reshape(-1, size)
