"""Which points are kept: the promises of ``metrics.sampling``, on any values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metrics.sampling import bucket_points, downsample, downsample_rows

VALUES = arrays(np.float64, st.integers(0, 300), elements=st.floats(width=32))


def bounds(values):
    finite = values[np.isfinite(values)]
    return (finite.min(), finite.max()) if len(finite) else None


@given(VALUES, st.integers(1, 60))
def test_downsampling_keeps_order_ends_and_extremes(values, points):
    kept = downsample(values, points)
    assert (np.diff(kept) > 0).all() and len(kept) <= points
    if len(values):
        assert kept[0] == 0
    if len(values) and points > 1:
        assert kept[-1] == len(values) - 1
    if points >= 4:
        assert bounds(values[kept]) == bounds(values)
    if len(values) <= points:
        assert len(kept) == len(values)


@pytest.mark.slow
@given(
    st.lists(arrays(np.float64, 200, elements=st.floats(width=32)), max_size=4), st.integers(1, 220)
)
def test_downsampling_rows_keeps_the_extremes_of_each_column(columns, points):
    kept = downsample_rows(columns, 200, points)
    assert len(kept) == min(points, 200) and (np.diff(kept) > 0).all()
    assert kept[0] == 0 and (points == 1 or kept[-1] == 199)
    if points >= 2 + 2 * len(columns):
        assert all(bounds(column[kept]) == bounds(column) for column in columns)


def buckets(values, size):
    """Of *values* that are there: infinities and NaN among them."""
    at = np.flatnonzero(values != 0)
    return at[bucket_points(at, values[at], size)]


@given(VALUES, st.sampled_from([2, 4, 8]), st.sampled_from([2, 3, 16]))
def test_to_downsample_twice_is_to_downsample_once(values, size, times):
    fine, coarse = buckets(values, size), buckets(values, size * times)
    again = np.zeros(len(values))
    again[fine] = values[fine]
    assert buckets(again, size * times).tolist() == coarse.tolist()
    assert bounds(values[fine]) == bounds(values[values != 0])
    if len(fine):  # the last may be taken back, and what is left is exact
        there = values[values != 0]
        assert bounds(values[fine[:-1]]) == bounds(there[:-1])


def test_the_last_of_a_bucket_is_kept_beside_the_extremes_of_the_others():
    values = np.array([3.0, 5.0, 1.0, 4.0, 2.0, 9.0])
    assert bucket_points(np.arange(6), values, 8).tolist() == [0, 1, 2, 5]
