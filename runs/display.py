"""Facts of a run as people read them; the admin and the pages show them alike."""

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
    """In UTC; the browser's script turns it into local time. A number is one of Unix seconds."""
    at = to_datetime(at) if isinstance(at, float) else at
    if at is None:
        return NOTHING
    at = at.astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M} UTC")


def duration(run: Run) -> SafeString | str:
    """From start to end. Of a running run the script counts on; without it, nothing."""
    seconds = run.duration_seconds
    if seconds is not None:
        return duration_text(seconds)
    if run.status == Run.Status.RUNNING and run.started_at:
        since = run.started_at.isoformat()
        return format_html('<time data-since="{}" data-day="{}">…</time>', since, _("d"))
    return NOTHING


def duration_text(seconds: float) -> str:
    """The two largest units: ``2 d 3 h``, ``4 min 5 s``, ``0.42 s``."""
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
    """Why a run was deleted. The API writes one word; another client may write a sentence."""
    return _("by a user") if text == "user_deleted" else text


def run_page(run_id: str) -> str | None:
    """The address of the run's page; None for a text that no run can have as its id."""
    try:
        return reverse("run", args=[run_id])
    except NoReverseMatch:
        return None
