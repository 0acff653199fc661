"""The pages of artifacts: all of them, one version, two versions compared."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from artifacts import elsewhere, evaluations, index, lineage
from artifacts.comparing import compare
from artifacts.models import Artifact, Blob, Version
from core.access import Right
from core.http.permissions import needs
from core.paginator import NearbyPaginator
from runicorn.artifacts import LineageNode
from runs.display import run_page
from runs.models import moment

from . import graphs
from .run_pages import page

PER_PAGE = 50
MOST_FILES = 200
"""A longer list is shown only if asked."""

DEPTH = 3


@needs(Right.SEE)
@require_safe
@page
def artifact_list(request: HttpRequest) -> HttpResponseBase:
    index.refresh_all()
    everything = Artifact.objects.visible_to(request.user).with_versions()
    wanted = {name: request.GET.get(name, "").strip() for name in ("q", "type")}
    found = everything.matching(wanted["q"])
    if wanted["type"]:
        found = found.filter(type=wanted["type"].replace("\x00", ""))
    found = found.prefetch_related("aliases__version").order_by("-updated_time", "type", "name")
    number = request.GET.get("page", "1")
    query = request.GET.copy()
    query.pop("page", None)
    kinds = Artifact.objects.visible_to(request.user).order_by("type")
    blobs = Blob.objects.visible_to(request.user)
    stored, referred = blobs.stored_bytes(), blobs.referred_bytes()
    context = {
        "listed": NearbyPaginator(found, PER_PAGE, current=number).get_page(number),
        "wanted": wanted,
        "is_filtered": any(wanted.values()),
        "query": query.urlencode(),
        "kinds": kinds.values_list("type", flat=True).distinct()[:100],
        "stored": stored,
        "referred": referred,
        "saved": max(0, referred - stored),
    }
    return render(request, "pages/artifacts.html", context)


@needs(Right.SEE)
@require_safe
@page
def artifact(request: HttpRequest, kind: str, name: str) -> HttpResponseBase:
    """The page of the newest version."""
    newest = _versions(request, kind, name).order_by("-number").first()
    if newest is None:
        raise Http404
    return redirect("artifact-version-page", kind, name, newest.number)


@needs(Right.SEE)
@require_safe
@page
def version(request: HttpRequest, kind: str, name: str, number: int) -> HttpResponseBase:
    found = _version(request, kind, name, number)
    others = list(_versions(request, kind, name).order_by("-number"))
    files = found.files.select_related("blob").order_by("path")
    show_all = "files" in request.GET
    graph = lineage.build(found, DEPTH, user=request.user)
    query = f"?type={quote(kind, safe='')}"
    api = reverse("home") + f"api/artifacts/{quote(name, safe='')}/v{number}"
    context = {
        "version": found,
        "metadata": found.metadata(),
        "rows": [(key, _text(value)) for key, value in found.metadata().metadata.items()],
        "versions": others,
        "previous": next((other for other in others if other.number < number), None),
        "files": files if show_all else files[:MOST_FILES],
        "more_files": 0 if show_all else max(0, found.num_files - MOST_FILES),
        "references": found.references.order_by("pk")[:MOST_FILES],
        "history": _history(found),
        "transitions": _transitions(found),
        "evaluations": _evaluations(found),
        "is_elsewhere": elsewhere.has(found),
        "lineage": graphs.lineage(graph, _address) if graph.edges else "",
        "download": f"{api}/files/",
        "archive": f"{api}/archive{query}",
        "query": query,
    }
    return render(request, "pages/artifact.html", context)


@needs(Right.SEE)
@require_safe
@page
def comparison(request: HttpRequest, kind: str, name: str) -> HttpResponseBase:
    sides = [request.GET.get(key, "") for key in ("from", "to")]
    if not all(side.isdecimal() and len(side) < 19 for side in sides):
        raise Http404
    old, new = (_version(request, kind, name, int(side)) for side in sides)
    context = {
        "old": old,
        "new": new,
        "result": compare(old, new),
        "versions": _versions(request, kind, name).order_by("-number"),
    }
    return render(request, "pages/artifact_comparison.html", context)


def _history(found: Version) -> list[dict[str, Any]]:
    """What was edited, the newest first, as text."""
    kept = found.kept_changes().get("history")
    return [
        {
            "field": entry.get("field"),
            "old": _text(entry.get("from")),
            "new": _text(entry.get("to")),
            "by": entry.get("by"),
            "at": moment(entry.get("at")),
        }
        for entry in reversed(kept if isinstance(kept, list) else [])
        if isinstance(entry, dict)
    ]


def _transitions(found: Version) -> list[dict[str, Any]]:
    """How the version came to its stage, the newest first."""
    kept = found.kept_changes().get("stage_transitions")
    return [
        {**entry, "at": moment(entry.get("timestamp"))}
        for entry in reversed(kept if isinstance(kept, list) else [])
        if isinstance(entry, dict)
    ]


def _evaluations(found: Version) -> list[dict[str, Any]]:
    """What was recorded of the version, the newest first, its metrics as text."""
    return [
        {
            **record,
            "at": moment(record.get("evaluation_date")),
            "rows": [(key, _text(value)) for key, value in _items(record.get("metrics"))],
        }
        for record in evaluations.recorded(found.artifact.name, found.number)
    ]


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _versions(request: HttpRequest, kind: str, name: str) -> Any:
    """The artifact's versions as its folder has them now; 404 if there is no such artifact."""
    try:
        found = index.index_artifact(index.storage().find(name, kind))
    except FileNotFoundError:
        raise Http404 from None
    if found is None:
        raise Http404
    artifacts = Artifact.objects.visible_to(request.user).filter(pk=found.pk)
    versions = Version.objects.visible_to(request.user).filter(artifact__in=artifacts)
    return versions.select_related("artifact").prefetch_related("artifact__aliases")


def _version(request: HttpRequest, kind: str, name: str, number: int) -> Version:
    found = None
    if number < 2**63:
        found = _versions(request, kind, name).filter(number=number).first()
    if found is None:
        raise Http404
    return found


def _address(node: LineageNode) -> str | None:
    """Where the node can be looked at; nowhere if it is gone."""
    if node.metadata.get("purged"):
        return None
    if node.node_type == "run":
        return run_page(node.metadata["run_id"])
    name, _, number = node.node_id.rpartition(":v")
    return reverse("artifact-version-page", args=[node.metadata["type"], name, int(number)])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
