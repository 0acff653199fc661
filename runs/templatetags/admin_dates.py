"""The date hierarchy of a very long list."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _

register = template.Library()

PARTS = ("year", "month", "day")
FORMATS = ("Y", "YEAR_MONTH_FORMAT", "MONTH_DAY_FORMAT", "MONTH_DAY_FORMAT")


@register.inclusion_tag("admin/date_hierarchy.html")
def run_dates(cl: ChangeList) -> dict[str, Any]:
    """Return the years, months or days between the first and the last row, as Django's tag.

    Django's tag offers only those that have rows, and reads every row for that. Here two lookups
    in an index find the first and the last, and all between them are offered.
    """
    edges = [timezone.localdate(time) for time in cl.date_edges() if time]
    if not edges:
        return {"show": False}
    first, last = edges

    def link(day: date, depth: int) -> str:
        params = {f"{cl.date_hierarchy}__{part}": getattr(day, part) for part in PARTS[:depth]}
        return cl.get_query_string(params, [f"{cl.date_hierarchy}__"])

    def title(day: date, depth: int) -> str:
        return capfirst(date_format(day, FORMATS[depth]))

    chosen = sum(f"{cl.date_hierarchy}__{part}" in cl.params for part in PARTS)
    depth = max(chosen, _shared_parts(first, last)) if chosen < 3 else 3
    back = None
    if chosen:
        text = title(first, chosen - 2) if chosen > 1 else _("All dates")
        back = {"title": text, "link": link(first, chosen - 1)}
    return {
        "show": True,
        "back": back,
        "choices": [
            {"title": title(day, depth), "link": link(day, depth + 1) if depth < 3 else None}
            for day in _periods(first, last, depth)
        ],
    }


def _shared_parts(first: date, last: date) -> int:
    """Return the depth that offers a choice: 1 within one year, 2 within one month, else 0."""
    if first.year != last.year:
        return 0
    return 1 if first.month != last.month else 2


def _periods(first: date, last: date, depth: int) -> list[date]:
    """Return a day of each year (depth 0) or month (1), or each day, from *first* to *last*."""
    if depth == 0:
        return [date(year, 1, 1) for year in range(first.year, last.year + 1)]
    if depth == 1:
        months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
        return [date(month // 12, month % 12 + 1, 1) for month in months]
    return [first + timedelta(days) for days in range((last - first).days + 1)]
