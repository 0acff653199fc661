"""Line charts as SVG, drawn by the server.

The drawing fills its box while text and strokes keep their size: labels are placed in percent, and
the curve is in a nested ``<svg>`` of ``GRID`` units a side. Colours come from the style sheet
(classes ``grid``, ``curve``, ``gap``), so that a chart follows light and dark mode. Without inline
styles and scripts, it passes a strict content security policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from runicorn.export.axis import GRID, Axis

_LABEL_LENGTHS = (6, 10, 14, 18, 24)
"""The lengths of labels, in characters, for which the style sheet has room."""

Number = float | int | None
Point = tuple[float, float | None]


def line_chart(steps: Sequence[Number], values: Sequence[Number], *, label: str) -> SafeString:
    """Return the curve of *values* over *steps*, in the order given.

    A value that is None, NaN or infinite breaks the curve and leaves a mark on the axis; a lone
    value between two such gaps becomes a dot. Points without a finite step are left out.
    """
    points: list[Point] = [
        (float(step), float(value) if value is not None and math.isfinite(value) else None)
        for step, value in zip(steps, values, strict=True)
        if step is not None and math.isfinite(step)
    ]
    x_axis = Axis.around([step for step, _ in points], whole=True)
    y_axis = Axis.around([value for _, value in points if value is not None], room=0.06)
    y_ticks = y_axis.ticks()
    longest_label = max((len(text) for _, text in y_ticks), default=0)
    segments = [
        [f"{x_axis.at(x):.1f} {GRID - y_axis.at(y):.1f}" for x, y in segment if y is not None]
        for is_gap, segment in groupby(points, lambda point: point[1] is None)
        if not is_gap
    ]
    return format_html(
        '<svg class="chart" role="img" aria-label="{label}" data-points="{data}"'
        ' data-x="{x_range}" data-y="{y_range}"{labels}>{rows}{columns}'
        '<svg viewBox="0 0 {grid} {grid}" width="100%" height="100%" preserveAspectRatio="none">'
        '<path class="gap" d="{gaps}"/><path class="curve" d="{curve}"/>'
        '<path class="dots" d="{dots}"/></svg></svg>',
        label=label,
        data=" ".join(f"{_exact(x)}:{_exact(y)}" for x, y in points if y is not None),
        x_range=f"{x_axis.low} {x_axis.high}",
        y_range=f"{y_axis.low} {y_axis.high}",
        labels=_room_for(longest_label),
        grid=GRID,
        rows=format_html_join(
            "",
            '<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>'
            '<text x="-8" y="{0}%" dy=".32em" text-anchor="end">{1}</text>',
            [(round(100 - position / GRID * 100, 2), text) for position, text in y_ticks],
        ),
        columns=format_html_join(
            "",
            '<text x="{}%" y="100%" dy="1.6em" text-anchor="middle">{}</text>',
            [(round(position / GRID * 100, 2), text) for position, text in x_axis.ticks()],
        ),
        gaps="".join(f"M{x_axis.at(x):.1f} {GRID}v-30" for x, y in points if y is None),
        curve="".join("M" + "L".join(segment) for segment in segments if len(segment) > 1),
        # lines of no length, with round ends
        dots="".join(f"M{segment[0]}h0" for segment in segments if len(segment) == 1),
    )


def _room_for(label_length: int) -> SafeString:
    """Return the attribute by which the style sheet leaves room for labels of that length."""
    room = next((room for room in _LABEL_LENGTHS if label_length <= room), _LABEL_LENGTHS[-1])
    return SafeString("") if room == _LABEL_LENGTHS[0] else format_html(' data-labels="{}"', room)


def _exact(number: float) -> str:
    """Return *number* with all its digits, without superfluous zeros."""
    return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else repr(number)
