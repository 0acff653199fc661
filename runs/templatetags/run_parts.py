"""The parts of a run's page, which the admin's page uses, too."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from django import template
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from metrics import read as metrics
from metrics.models import Series
from runicorn import layout

from .. import charts, display, system
from ..logs import reading
from ..models import Run
from ..repair import with_repair

register = template.Library()

NOT_CHARTED = ("global_step", "step", "epoch", "time")
"""Keys of numbers that every event has: axes, not measurements."""

MOST_CHARTS = 60
MOST_IMAGES = 48
LOG_LINES = 200
MOST_LOG_TEXT = 2**18
"""Characters of the log in a page, before its script follows the log."""

LONGEST_LINE = 4000
"""Characters of a line, of the log or a document, that a page shows; runicorn.js has the same."""

MOST_LINES = 8
"""Longer lists are folded."""

_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")

register.filter("status", display.status)
register.filter("moment", display.moment)
register.filter("duration", display.duration)
register.filter("number", display.number)
register.filter("reason", display.reason)


@dataclass
class Chart:
    name: str
    svg: SafeString
    last: float | None
    low: float | None
    high: float | None
    count: int
    id: object
    step: int | None = None
    """The step of the last value."""
    gaps: int = 0
    """The number of logged values that are not finite."""


@register.inclusion_tag("runs/charts.html")
def run_charts(run: Run, *, points: int = 300, all_of_them: bool = False) -> dict[str, Any]:
    """Return a small chart of each series of numbers that the run logged, by name."""
    series = run.series.filter(number_count__gt=0).exclude(key__in=NOT_CHARTED).order_by("key")
    shown = list(series if all_of_them else series[: MOST_CHARTS + 1])
    more = len(shown) > MOST_CHARTS and not all_of_them
    return {
        "charts": [_chart(run, s, points) for s in (shown[:MOST_CHARTS] if more else shown)],
        "more": more and series.count() - MOST_CHARTS,
    }


def _chart(run: Run, series: Series, points: int) -> Chart:
    steps, values = with_repair(lambda: metrics.curve(run.pk, series.key, points))
    svg = charts.line_chart(steps, values, label=series.key)
    return Chart(
        series.key,
        svg,
        series.last,
        series.min_value,
        series.max_value,
        series.count,
        id=series.pk,
        step=series.last_step,
        gaps=series.number_count - series.finite_count,
    )


@register.inclusion_tag("runs/system.html")
def run_system(run: Run) -> dict[str, Any]:
    """Return a small chart of each measurement of the run's machine, over seconds."""
    shown = []
    for number, curve in enumerate(system.curves(run)):
        svg = charts.line_chart(curve.seconds, curve.values, label=curve.key)
        last = curve.values[-1]
        ends = (last, curve.low, curve.high)
        shown.append(Chart(curve.key, svg, *ends, curve.count, id=f"system-{number}"))
    return {"charts": shown}


@register.inclusion_tag("runs/images.html")
def run_images(run: Run) -> dict[str, Any]:
    """Return the newest images."""
    images = list(run.images.order_by("-offset")[: MOST_IMAGES + 1])
    more = run.images.count() - MOST_IMAGES if len(images) > MOST_IMAGES else 0
    return {"run": run, "images": images[:MOST_IMAGES], "more": more}


@register.simple_tag
def run_log_tail(run: Run) -> str:
    """Return the last lines of the log, without the terminal's colours, and long ones cut."""
    lines = [cut(_ANSI.sub("", line)) for line in reading.tail(run, LOG_LINES)]
    size, start = 0, len(lines)
    while start and (size := size + len(lines[start - 1])) <= MOST_LOG_TEXT:
        start -= 1
    return "\n".join(lines[start:])


def cut(text: str) -> str:
    """Return *text*, of which a page shows no more than its beginning; the log itself is whole."""
    if len(text) <= LONGEST_LINE:
        return text
    rest = f"{len(text) - LONGEST_LINE:,}"
    return text[:LONGEST_LINE] + _(" … ({number} more characters)").format(number=rest)


@register.inclusion_tag("runs/rows.html")
def run_params(run: Run) -> dict[str, Any]:
    params = run.params.order_by("key").values_list("key", "value")
    return {"title": _("Parameters"), "rows": [_row(key, _value(v)) for key, v in params]}


@register.inclusion_tag("runs/rows.html")
def run_document(run: Run, name: str, title: str) -> dict[str, Any]:
    """Return the members of one of the run's small files: short ones first, long ones folded."""
    document = run.document(name)
    if name == layout.SUMMARY:
        document = {k: v for k, v in document.items() if not k.startswith("best_metric_")}
    rows = [_row(k, value) for k, value in document.items() if value not in (None, "", [], {})]
    return {"title": title, "rows": sorted(rows, key=lambda row: len(row.lines))}


@dataclass
class Row:
    key: str
    lines: list[str]

    @property
    def is_folded(self) -> bool:
        return len(self.lines) > MOST_LINES


def _row(key: str, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(key, [cut(f"{name}: {_text(item)}") for name, item in value.items()])
    if isinstance(value, list):
        return Row(key, [cut(_text(item)) for item in value])
    return Row(key, [cut(_text(value))])


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(item)}" for name, item in value.items())
    return json.dumps(value, ensure_ascii=False)
