"""Line charts as SVG, drawn by the server: points in, markup out.

The drawing stretches with its box while text and strokes keep their size: labels are placed in
per cent, and the curve lies in a nested ``<svg>`` of ``GRID`` units a side. Colours come from the
style sheet (classes ``grid``, ``curve``, ``gap``), so a chart follows light and dark. No inline
style and no script: it passes a strict content security policy.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

GRID = 1000
LARGEST = sys.float_info.max

Number = float | int | None
Point = tuple[float, float | None]


def line_chart(steps: Sequence[Number], values: Sequence[Number], *, label: str) -> SafeString:
    """The curve of *values* over *steps*, in the order given.

    A value that is None, NaN or infinite breaks the curve and leaves a mark on the axis; a lone
    value between two such gaps is a dot. Points without a finite step are left out.
    """
    points: list[Point] = [
        (float(step), float(value) if value is not None and math.isfinite(value) else None)
        for step, value in zip(steps, values, strict=True)
        if step is not None and math.isfinite(step)
    ]
    across = Axis.around([step for step, _ in points], whole=True)
    up = Axis.around([value for _, value in points if value is not None], room=0.06)
    stretches = [
        [f"{across.at(x):.1f} {GRID - up.at(y):.1f}" for x, y in stretch if y is not None]
        for is_gap, stretch in groupby(points, lambda point: point[1] is None)
        if not is_gap
    ]
    return format_html(
        '<svg class="chart" role="img" aria-label="{label}" data-points="{data}"'
        ' data-x="{x_range}" data-y="{y_range}">{rows}{columns}'
        '<svg viewBox="0 0 {grid} {grid}" width="100%" height="100%" preserveAspectRatio="none">'
        '<path class="gap" d="{gaps}"/><path class="curve" d="{curve}"/>'
        '<path class="dots" d="{dots}"/></svg></svg>',
        label=label,
        data=" ".join(f"{short(x)}:{short(y)}" for x, y in points if y is not None),
        x_range=f"{across.low} {across.high}",
        y_range=f"{up.low} {up.high}",
        grid=GRID,
        rows=format_html_join(
            "",
            '<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>'
            '<text x="-8" y="{0}%" dy=".32em" text-anchor="end">{1}</text>',
            [(round(100 - place / GRID * 100, 2), text) for place, text in up.ticks()],
        ),
        columns=format_html_join(
            "",
            '<text x="{}%" y="100%" dy="1.6em" text-anchor="middle">{}</text>',
            [(round(place / GRID * 100, 2), text) for place, text in across.ticks()],
        ),
        gaps="".join(f"M{across.at(x):.1f} {GRID}v-30" for x, y in points if y is None),
        curve="".join("M" + "L".join(stretch) for stretch in stretches if len(stretch) > 1),
        # a line of no length, with round ends
        dots="".join(f"M{stretch[0]}h0" for stretch in stretches if len(stretch) == 1),
    )


@dataclass(frozen=True)
class Axis:
    """A range of numbers, and where each lies on a line of ``GRID`` units."""

    low: float
    high: float
    whole: bool = False

    @classmethod
    def around(cls, numbers: list[float], *, room: float = 0.0, whole: bool = False) -> Axis:
        """The range of *numbers*, widened by *room* of itself on either side; never empty."""
        low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
        if low == high:
            margin = 0.5 if whole else abs(low) / 10 or 1.0
        else:
            margin = (high / 2 - low / 2) * room * 2
        return cls(max(low - margin, -LARGEST), min(high + margin, LARGEST), whole)

    @property
    def half(self) -> float:
        """Half of the range; the whole may exceed the largest float."""
        return self.high / 2 - self.low / 2

    def at(self, number: float) -> float:
        return (number / 2 - self.low / 2) / self.half * GRID if self.half else GRID / 2

    def ticks(self) -> list[tuple[float, str]]:
        """Two to six round numbers of the range: (place, text)."""
        step = _round_up(self.half / 2.5)
        if self.whole:
            step = max(1.0, step)
        if not step:  # narrower than floats can divide
            return []
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        numbers = [number * step for number in range(first, last + 1)]
        return [(self.at(n), _tick_text(n, step, max(map(abs, numbers)))) for n in numbers]


def short(value: float) -> str:
    """A number for reading: six significant digits, or fewer if they say the same."""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def _tick_text(number: float, step: float, largest: float) -> str:
    """The number with as many digits as tell it from its neighbour on the axis."""
    if 1e4 <= largest < 1e9 and step >= 10:
        unit, letter = (1e6, "M") if largest >= 1e6 and step >= 1e4 else (1e3, "k")
        return f"{number / unit:g}{letter}" if number else "0"
    if number and (largest >= 1e6 or largest < 1e-3):
        digits = max(0, math.floor(math.log10(abs(number))) - math.floor(math.log10(step)))
        mantissa, exponent = f"{number:.{digits}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{number:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}" if number else "0"


def _round_up(wanted: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten not below *wanted*; 0 if there is none."""
    if wanted < 1e-300:
        return 0.0
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= wanted * (1 - 1e-9))
