"""Charts: points in, markup out."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.charts import GRID, Axis, line_chart

numbers = st.none() | st.floats() | st.integers(-(10**12), 10**12)


def parts(svg: str) -> dict[str, str]:
    """The paths of a chart by class."""
    return dict(re.findall(r'<path class="(\w+)" d="([^"]*)"/>', svg))


def ticks(low: float, high: float, **options: bool) -> list[str]:
    return [text for _, text in Axis.around([low, high], **options).ticks()]


def test_a_curve_goes_from_the_first_point_to_the_last():
    svg = line_chart([0, 5, 10], [1, 2, 3], label="loss")
    assert parts(svg)["curve"] == "M0.0 946.4L500.0 500.0L1000.0 53.6"


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_breaks_the_curve_and_leaves_a_mark(gap):
    found = parts(line_chart([0, 1, 2, 3, 4], [1, 2, gap, 2, 1], label="loss"))
    assert found["curve"].count("M") == 2
    assert found["gap"] == "M500.0 1000v-30"
    assert found["dots"] == ""


def test_a_lone_value_between_gaps_is_a_dot():
    found = parts(line_chart([0, 1, 2], [None, 7, None], label="loss"))
    assert found["dots"] == "M500.0 500.0h0"
    assert found["curve"] == ""


def test_names_cannot_become_markup():
    svg = line_chart([0], [1], label='"><script>alert(1)</script>')
    assert "<script" not in svg
    assert ElementTree.fromstring(svg).get("aria-label") == '"><script>alert(1)</script>'


def test_a_strict_content_security_policy_holds():
    assert "style=" not in line_chart([0, 1], [1, None], label="loss")


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-5, 5, ["-4", "-2", "0", "2", "4"]),
        (0, 20_000, ["0", "5k", "10k", "15k", "20k"]),
        (1e-8, 3e-8, ["1.0e-8", "1.5e-8", "2.0e-8", "2.5e-8", "3.0e-8"]),
        (7, 7, ["6.5", "7.0", "7.5"]),
    ],
)
def test_axes_are_labelled_with_round_numbers(low, high, texts):
    assert ticks(low, high) == texts


def test_steps_are_whole_numbers():
    assert ticks(0, 2, whole=True) == ["0", "1", "2"]
    assert ticks(5, 5, whole=True) == ["5"]


@given(st.lists(st.tuples(numbers, numbers), max_size=30))
def test_whatever_was_logged_gives_a_chart(points):
    svg = line_chart([step for step, _ in points], [value for _, value in points], label="x")
    ElementTree.fromstring(svg)
    for path in parts(svg).values():
        for place in re.findall(r"[ML](\S+) ([\d.-]+)", path):
            assert all(-0.1 <= float(number) <= GRID + 0.1 for number in place)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, width=32))
def test_axes_of_any_range_have_few_labels(low, span):
    high = low + abs(span)
    if math.isfinite(high):
        assert len(ticks(low, high)) <= 7
