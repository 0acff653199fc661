"""Values of a run formatted for people, the same in the admin and on the pages."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise

from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from .models import Run, to_datetime

NOTHING = "–"


def status(text: str) -> SafeString:
    labels = dict(Run.Status.choices)
    return format_html(
        '<span class="status" data-status="{}">{}</span>', text, labels.get(text, text)
    )


def moment(at: datetime | float | None) -> SafeString | str:
    """Return *at* (a number: Unix seconds) as HTML in UTC; the page's script makes it local."""
    at = to_datetime(at) if isinstance(at, float) else at
    if at is None:
        return NOTHING
    at = at.astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M} UTC")


def duration(run: Run) -> SafeString | str:
    """Return the time from start to end; the page's script counts that of a running run."""
    seconds = run.duration_seconds
    if seconds is not None:
        return duration_text(seconds)
    if run.status == Run.Status.RUNNING and run.started_at:
        since = run.started_at.isoformat()
        return format_html('<time data-since="{}" data-day="{}">…</time>', since, _("d"))
    return NOTHING


def duration_text(seconds: float) -> str:
    """Return the two largest units: ``2 d 3 h``, ``4 min 5 s``, ``0.42 s``."""
    if seconds < 0:  # the clock was set back
        return NOTHING
    if seconds < 10:
        return f"{seconds:.2g} {_('s')}" if seconds < 1 else f"{seconds:.1f} {_('s')}"
    whole = round(seconds)
    units = ((86400, _("d")), (3600, _("h")), (60, pgettext("minutes", "min")), (1, _("s")))
    for (size, name), (smaller, smaller_name) in pairwise(units):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} {_('s')}"


def number(value: float | None) -> str:
    if value is None:
        return NOTHING
    if math.isfinite(value):
        return f"{value:.6g}"
    return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"


def reason(text: str) -> str:
    """Return why a run was deleted: the API stores one word, other clients perhaps a sentence."""
    return _("by a user") if text == "user_deleted" else text


def run_page(run_id: str) -> str | None:
    """Return the address of the run's page; None if *run_id* cannot be the id of a run."""
    try:
        return reverse("run", args=[run_id])
    except NoReverseMatch:
        return None
