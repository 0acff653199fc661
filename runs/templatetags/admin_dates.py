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
    """Years, months or days between the first and the last row, as Django's own tag offers them.

    Its own asks which of them have rows, and reads every row for that. Here two looks into an
    index give the ends, and what lies between is offered unseen.
    """
    edges = [timezone.localdate(moment) for moment in cl.date_edges() if moment]
    if not edges:
        return {"show": False}
    first, last = edges

    def link(day: date, depth: int) -> str:
        wanted = {f"{cl.date_hierarchy}__{part}": getattr(day, part) for part in PARTS[:depth]}
        return cl.get_query_string(wanted, [f"{cl.date_hierarchy}__"])

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
    """0, 1 (the same year) or 2 (the same month): where there is something to choose."""
    if first.year != last.year:
        return 0
    return 1 if first.month != last.month else 2


def _periods(first: date, last: date, depth: int) -> list[date]:
    """A day of each year (0), month (1) or day from *first* to *last*."""
    if depth == 0:
        return [date(year, 1, 1) for year in range(first.year, last.year + 1)]
    if depth == 1:
        months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
        return [date(month // 12, month % 12 + 1, 1) for month in months]
    return [first + timedelta(days) for days in range((last - first).days + 1)]
