"""The pages of artifacts: the list, a version, the comparison of two versions."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from artifacts import evaluations, index, lineage, remote_files
from artifacts.comparing import compare
from artifacts.models import Artifact, Blob, Version
from core.access import Right
from core.http.permissions import needs
from core.paginator import NearbyPaginator
from runicorn.artifacts import LineageNode
from runs.display import run_page
from runs.models import to_datetime

from . import graphs
from .run_pages import page

PER_PAGE = 50
MOST_FILES = 200
"""The number of files that the page of a version shows unless more are asked for."""

DEPTH = 3


@needs(Right.SEE)
@require_safe
@page
def artifact_list(request: HttpRequest) -> HttpResponseBase:
    index.refresh_all()
    everything = Artifact.objects.visible_to(request.user).with_versions()
    filters = {name: request.GET.get(name, "").strip() for name in ("q", "type")}
    artifacts = everything.quick_search(filters["q"])
    if filters["type"]:
        artifacts = artifacts.filter(type=filters["type"].replace("\x00", ""))
    artifacts = artifacts.prefetch_related("aliases__version").order_by(
        "-updated_time", "type", "name"
    )
    number = request.GET.get("page", "1")
    query = request.GET.copy()
    query.pop("page", None)
    kinds = Artifact.objects.visible_to(request.user).order_by("type")
    blobs = Blob.objects.visible_to(request.user)
    stored, referred = blobs.stored_bytes(), blobs.referred_bytes()
    context = {
        "listed": NearbyPaginator(artifacts, PER_PAGE, current=number).get_page(number),
        "filters": filters,
        "is_filtered": any(filters.values()),
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
    """Redirect to the page of the newest version."""
    newest = _versions(request, kind, name).order_by("-number").first()
    if newest is None:
        raise Http404
    return redirect("artifact-version-page", kind, name, newest.number)


@needs(Right.SEE)
@require_safe
@page
def version(request: HttpRequest, kind: str, name: str, number: int) -> HttpResponseBase:
    row = _version(request, kind, name, number)
    versions = list(_versions(request, kind, name).order_by("-number"))
    files = row.files.select_related("blob").order_by("path")
    show_all = "files" in request.GET
    graph = lineage.build(row, DEPTH, user=request.user)
    query = f"?type={quote(kind, safe='')}"
    api = reverse("home") + f"api/artifacts/{quote(name, safe='')}/v{number}"
    context = {
        "version": row,
        "metadata": row.metadata(),
        "rows": [(key, _text(value)) for key, value in row.metadata().metadata.items()],
        "versions": versions,
        "previous": next((v for v in versions if v.number < number), None),
        "files": files if show_all else files[:MOST_FILES],
        "more_files": 0 if show_all else max(0, row.num_files - MOST_FILES),
        "references": row.references.order_by("pk")[:MOST_FILES],
        "history": _history(row),
        "transitions": _transitions(row),
        "evaluations": _evaluations(row),
        "is_remote": remote_files.is_remote(row),
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


def _history(version: Version) -> list[dict[str, Any]]:
    """Return the edits of a version as text, the newest first."""
    entries = version.kept_changes().get("history")
    return [
        {
            "field": entry.get("field"),
            "old": _text(entry.get("from")),
            "new": _text(entry.get("to")),
            "by": entry.get("by"),
            "at": to_datetime(entry.get("at")),
        }
        for entry in reversed(entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
    ]


def _transitions(version: Version) -> list[dict[str, Any]]:
    """Return the changes of a version's stage, the newest first."""
    entries = version.kept_changes().get("stage_transitions")
    return [
        {**entry, "at": to_datetime(entry.get("timestamp"))}
        for entry in reversed(entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
    ]


def _evaluations(version: Version) -> list[dict[str, Any]]:
    """Return the evaluations of a version, the newest first, with their metrics as text."""
    return [
        {
            **record,
            "at": to_datetime(record.get("evaluation_date")),
            "rows": [(key, _text(value)) for key, value in _items(record.get("metrics"))],
        }
        for record in evaluations.recorded(version.artifact.name, version.number)
    ]


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _versions(request: HttpRequest, kind: str, name: str) -> Any:
    """Return the artifact's versions, refreshed from its folder; 404 without such an artifact."""
    try:
        indexed = index.index_artifact(index.storage().find(name, kind))
    except FileNotFoundError:
        raise Http404 from None
    if indexed is None:
        raise Http404
    artifacts = Artifact.objects.visible_to(request.user).filter(pk=indexed.pk)
    versions = Version.objects.visible_to(request.user).filter(artifact__in=artifacts)
    return versions.select_related("artifact").prefetch_related("artifact__aliases")


def _version(request: HttpRequest, kind: str, name: str, number: int) -> Version:
    row = None
    if number < 2**63:
        row = _versions(request, kind, name).filter(number=number).first()
    if row is None:
        raise Http404
    return row


def _address(node: LineageNode) -> str | None:
    """Return the address of the node's page; None if it is gone."""
    if node.metadata.get("purged"):
        return None
    if node.node_type == "run":
        return run_page(node.metadata["run_id"])
    name, _, number = node.node_id.rpartition(":v")
    return reverse("artifact-version-page", args=[node.metadata["type"], name, int(number)])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
