"""The web pages: the runs, one run, the recycle bin.

Pages use the same querysets and actions as the API. Parts that change while a page is open are
*fragments* with an address of their own, which the page's script requests again and again; the
response is 304 as long as nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, OuterRef, Subquery
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.templatetags.static import static
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from core.access import Right
from core.http.conditional import html_response
from core.http.exceptions import InvalidInput
from core.http.fields import read_keys
from core.http.permissions import needs
from core.http.streams import attachment, streamed
from core.paginator import NearbyPaginator
from metrics.models import Series
from operation import index_health
from runicorn import layout
from runs import actions
from runs.finding.filters import RunFilter
from runs.ingest import folder_source, progress
from runs.logs import reading
from runs.models import Image, Project, Run
from runs.querysets import RunQuerySet
from runs.templatetags.run_parts import NOT_CHARTED

PER_PAGE = 50
MAX_NAMED_RUNS = 10
FILTERS = ("search", "q", "project", "status")
"""The filters of the page of runs, with the names that they have in the V2 list."""

IMAGE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
"""Types that browsers may display. Others, which may hold scripts (SVG), are downloaded only."""

FILE_POLICY = "default-src 'none'; sandbox"

page = cache_control(private=True, no_cache=True)


def _runs(request: HttpRequest) -> RunQuerySet:
    return Run.objects.visible_to(request.user).select_related("project")


@require_safe
def favicon(request: HttpRequest) -> HttpResponseBase:
    """Redirect to the icon, for pages that name none: the admin's, and an image opened alone."""
    return redirect(static("runicorn/icon.svg"))


# -- the runs ------------------------------------------------------------------------------------


@needs(Right.SEE)
@require_safe
@page
def run_list(request: HttpRequest) -> HttpResponseBase:
    context = {
        **_listing(request),
        "projects": Project.objects.visible_to(request.user)[:500],
        "statuses": Run.Status.choices,
        "undo": request.session.pop("undo", None),
    }
    return render(request, "pages/runs.html", context)


@needs(Right.SEE)
@require_safe
@page
def run_list_fragment(request: HttpRequest) -> HttpResponseBase:
    html = render(request, "pages/runs_fragment.html", _listing(request)).content.decode()
    return html_response(request, html, lambda: html)


def _listing(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the requested page of the list."""
    filters = {name: request.GET.get(name, "").strip() for name in FILTERS}
    refused = ""
    try:
        runs = RunFilter.narrow(_runs(request), filters)
    except InvalidInput as error:
        runs, refused = Run.objects.none(), str(error.detail)
    number = request.GET.get("page", "1")
    runs = runs.annotate(first_series=_first_series()).prefetch_related("tags").newest_first()
    listed = NearbyPaginator(runs, PER_PAGE, current=number).get_page(number)
    series = Series.objects.in_bulk([run.first_series for run in listed if run.first_series])
    _name_copies(listed)
    for run in listed:
        run.shown_series = series.get(run.first_series)
    query = request.GET.copy()
    query.pop("page", None)
    return {
        "listed": listed,
        "filters": filters,
        "is_filtered": any(filters.values()),
        "refused": refused,
        "query": query.urlencode(),
        "is_empty": not listed.object_list and not _runs(request).exists(),
        "storage_root": settings.RUNICORN_STORAGE_ROOT,
        "storage_literal": json.dumps(str(settings.RUNICORN_STORAGE_ROOT), ensure_ascii=False),
        "progress": progress.snapshot(),
        "index": index_health.describe(),
    }


def _name_copies(listed: Iterable[Run]) -> None:
    """Give each run whose id another folder has, too, the folder that its links name."""
    ids = Run.objects.filter(run_id__in=[run.run_id for run in listed]).values("run_id")
    copied = ids.annotate(count=Count("pk")).filter(count__gt=1).order_by()
    run_ids = set(copied.values_list("run_id", flat=True))
    for run in listed:
        run.copy = run.directory if run.run_id in run_ids else None  # type: ignore[attr-defined]


def _first_series() -> Subquery:
    """Return a subquery for the first series of a run, whose curve the list shows."""
    series = Series.objects.filter(run=OuterRef("pk"), number_count__gt=0)
    return Subquery(series.exclude(key__in=NOT_CHARTED).order_by("pk").values("pk")[:1])


# -- one run -------------------------------------------------------------------------------------


@needs(Right.SEE)
@require_safe
@page
def run_page(request: HttpRequest, run_id: str) -> HttpResponseBase:
    run = _find(request, run_id)
    log = reverse("home") + f"api/runs/{quote(run_id, safe='')}/logs/ws"
    context = {"run": run, "log_address": log, "all_charts": "charts" in request.GET}
    return render(request, "pages/run.html", context)


@needs(Right.SEE)
@require_safe
@page
def run_fragment(request: HttpRequest, run_id: str) -> HttpResponseBase:
    run = _find(request, run_id)
    context = {"run": run, "all_charts": "charts" in request.GET}
    return html_response(
        request,
        f"{_state(run)} {get_language()} {context['all_charts']}",
        lambda: render(request, "pages/run_fragment.html", context).content.decode(),
    )


@needs(Right.SEE)
@require_safe
def run_log(request: HttpRequest, run_id: str) -> HttpResponseBase:
    """Return the whole log as a file of text, a part at a time."""
    run = _find(request, run_id)
    response = streamed(request, reading.whole(run), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = attachment(f"{run.run_id}.log.txt")
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _find(request: HttpRequest, run_id: str) -> Run:
    """Return the run with *run_id*; one in the recycle bin if there is no other."""
    runs, directory = _runs(request), request.GET.get("dir")
    run = folder_source.look_up(runs.active(), run_id, directory)
    run = run or runs.deleted().by_id(run_id, directory)
    if run is None:
        raise Http404
    return run


def _state(run: Run) -> str:
    """Return a text that changes with anything the page shows, all of which is in files."""
    files = run.indexed_files.order_by("name").values_list("name", "offset", "fingerprint")
    tags = run.tags.order_by("key").values_list("key", flat=True)
    known = (run.pk, run.status, run.deleted_at, run.notes, run.silent_since)
    return repr((known, list(files), list(tags)))


@needs(Right.SEE)
@require_safe
def run_image(request: HttpRequest, image_id: int) -> HttpResponseBase:
    """Return the file of a logged image, if it is inside the run's media folder."""
    images = Image.objects.filter(run__in=Run.objects.visible_to(request.user))
    image = images.select_related("run").filter(pk=image_id).first()
    if image is None:
        raise Http404
    path = PurePosixPath(image.path)
    if path.parts[:1] != (layout.MEDIA,):
        raise Http404
    try:
        content = image.run.files.open(image.path)
    except OSError:
        raise Http404 from None
    shown_as = IMAGE_TYPES.get(path.suffix.lower())
    response = FileResponse(
        content,
        content_type=shown_as or "application/octet-stream",
        as_attachment=shown_as is None,
        filename=path.name,
    )
    response.headers["Content-Security-Policy"] = FILE_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "private, max-age=3600"
    return response


# -- the recycle bin -----------------------------------------------------------------------------


@needs(Right.SEE)
@require_safe
@page
def recycle_bin(request: HttpRequest) -> HttpResponseBase:
    number = request.GET.get("page", "1")
    runs = _runs(request).deleted().select_related("project")
    pages = NearbyPaginator(runs.order_by("-deleted_at", "-pk"), PER_PAGE, current=number)
    listed = pages.get_page(number)
    _name_copies(listed)
    return render(request, "pages/recycle_bin.html", {"listed": listed})


@needs(Right.CHANGE)
@require_POST
@page
def soft_delete(request: HttpRequest) -> HttpResponseBase:
    changeable = Run.objects.changeable_by(request.user)
    runs = _selected(request, changeable.active())
    outcome = actions.soft_delete_runs(runs, by=request.user)
    _tell_failures(request, outcome)
    if done := [run.pk for run in runs if outcome.get(run.run_id, "") is None]:
        request.session["undo"] = done
    return _back(request)


@needs(Right.CHANGE)
@require_POST
@page
def restore(request: HttpRequest) -> HttpResponseBase:
    changeable = Run.objects.changeable_by(request.user)
    outcome = actions.restore_runs(_selected(request, changeable.deleted()), by=request.user)
    _tell_failures(request, outcome)
    if done := list(outcome.values()).count(None):
        text = ngettext("%d run restored.", "%d runs restored.", done)
        messages.success(request, text % done)
    return _back(request)


@needs(Right.PURGE)
@require_POST
@page
def purge(request: HttpRequest) -> HttpResponseBase:
    """Ask first; then remove exactly the runs that the question named."""
    purgeable = Run.objects.purgeable_by(request.user)
    deleted = purgeable.deleted().order_by("-deleted_at", "-pk")
    runs = list(deleted) if "all" in request.POST else _selected(request, deleted)
    if not runs:
        return redirect("recycle-bin")
    if "confirmed" not in request.POST:
        context = {
            "runs": runs[:MAX_NAMED_RUNS],
            "count": len(runs),
            "more": max(0, len(runs) - MAX_NAMED_RUNS),
            "bytes": actions.size_of_runs(runs),
            "keys": ",".join(str(run.pk) for run in runs),
        }
        return render(request, "pages/purge.html", context)
    purged = actions.purge_runs(runs, by=request.user)
    text = ngettext("%d run deleted for good.", "%d runs deleted for good.", purged.count)
    freed = _("%s freed.") % filesizeformat(purged.bytes)
    messages.success(request, f"{text % purged.count} {freed}")
    _tell_failures(request, purged.refusals)
    return redirect("recycle-bin")


def _selected(request: HttpRequest, runs: RunQuerySet) -> list[Run]:
    """Return those of *runs* whose keys were sent as ``run``, single or joined by commas."""
    return runs.in_bulk_list(read_keys(request.POST.getlist("run")))


def _tell_failures(request: HttpRequest, outcome: actions.Outcome) -> None:
    for run_id, error in list(outcome.items())[:5]:
        if error is not None:
            error = error or _("its folder could not be written")
            messages.error(request, f"{run_id}: {error}")


def _back(request: HttpRequest) -> HttpResponseBase:
    target = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(target, {request.get_host()}, request.is_secure()):
        return redirect(target)
    return redirect("home")
