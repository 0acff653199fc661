"""Which points are kept: the promises of ``metrics.sampling``, on any values."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metrics.sampling import outline_at, thin, thin_rows

VALUES = arrays(np.float64, st.integers(0, 300), elements=st.floats(width=32))


def bounds(values):
    finite = values[np.isfinite(values)]
    return (finite.min(), finite.max()) if len(finite) else None


@given(VALUES, st.integers(1, 60))
def test_thinning_keeps_order_ends_and_extremes(values, points):
    kept = thin(values, points)
    assert (np.diff(kept) > 0).all() and len(kept) <= points
    if len(values):
        assert kept[0] == 0
    if len(values) and points > 1:
        assert kept[-1] == len(values) - 1
    if points >= 4:
        assert bounds(values[kept]) == bounds(values)
    if len(values) <= points:
        assert len(kept) == len(values)


@given(
    st.lists(arrays(np.float64, 200, elements=st.floats(width=32)), max_size=4), st.integers(1, 220)
)
def test_thinning_rows_keeps_the_extremes_of_each_column(columns, points):
    kept = thin_rows(columns, 200, points)
    assert len(kept) == min(points, 200) and (np.diff(kept) > 0).all()
    assert kept[0] == 0 and (points == 1 or kept[-1] == 199)
    if points >= 2 + 2 * len(columns):
        assert all(bounds(column[kept]) == bounds(column) for column in columns)


def outline(values, size):
    """Of *values* of which some are no finite numbers."""
    at = np.flatnonzero(np.isfinite(values))
    return at[outline_at(at, values[at], size)]


@given(VALUES, st.sampled_from([2, 4, 8]), st.sampled_from([2, 3, 16]))
def test_the_outline_of_an_outline_is_that_of_the_values(values, size, times):
    fine, coarse = outline(values, size), outline(values, size * times)
    again = np.full(len(values), np.nan)
    again[fine] = values[fine]
    assert (values[outline(again, size * times)] == values[coarse]).all()
    assert bounds(values[fine]) == bounds(values)
