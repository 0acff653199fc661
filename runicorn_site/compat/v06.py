"""Routes that only the clients of 0.6 and 0.7 call.

Their *path* of a run is its project and experiment, such as ``vision/resnet``.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.urls import path as route
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from artifacts.models import Blob, Version
from core.http.fields import Flag, OptionalText, Query
from core.http.permissions import MaySee
from runs.api.v1 import serializers
from runs.api.v1.views import RunView
from runs.models import Run

COUNTED = (Run.Status.RUNNING, Run.Status.FINISHED, Run.Status.FAILED)


class PathsQuery(Query):
    include_stats = Flag(default=False)


class PathRunsQuery(Query):
    path = OptionalText(default="", help_text="`project` or `project/experiment`.")
    exact = Flag(default=False, help_text="Only runs at the path, not below it.")


class PathView(RunView):
    def paths(self) -> list[str]:
        """Return every path with a run, in order."""
        named = self.runs().active().exclude(project=None).values_list("project__name", "name")
        return sorted({_path(*names) for names in named.order_by().distinct()})


def _path(project: str | None, experiment: str | None) -> str:
    return "/".join(name for name in (project, experiment) if name)


def _tree(paths: list[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        branch = tree
        for name in path.split("/"):
            branch = branch.setdefault(name, {})
    return tree


@extend_schema(tags=["paths"])
class Paths(PathView):
    @extend_schema(
        operation_id="list_paths",
        parameters=[PathsQuery],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request) -> Response:
        """Return every `project/experiment`, as a list and as a tree, with run counts if asked."""
        paths = self.paths()
        data: dict[str, Any] = {"paths": paths, "tree": _tree(paths)}
        if PathsQuery.read(request)["include_stats"]:
            data["stats"] = self._stats()
        return Response(data)

    def _stats(self) -> dict[str, dict[str, int]]:
        stats: dict[str, Counter[str]] = {}
        named = self.runs().active().exclude(project=None)
        for project, name, status in named.values_list("project__name", "name", "status"):
            for path in dict.fromkeys((project, _path(project, name))):
                counts = stats.setdefault(path, Counter(dict.fromkeys(("total", *COUNTED), 0)))
                counts["total"] += 1
                if status in COUNTED:
                    counts[status] += 1
        return {path: dict(stats[path]) for path in sorted(stats)}


@extend_schema(tags=["paths"])
class PathTree(PathView):
    @extend_schema(operation_id="get_path_tree", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return projects and their experiments as nested objects."""
        return Response({"tree": _tree(self.paths())})


@extend_schema(tags=["paths"])
class PathRuns(PathView):
    @extend_schema(
        operation_id="list_runs_by_path",
        parameters=[PathRunsQuery],
        responses=serializers.RunListItem(many=True),
    )
    def get(self, request: Request) -> Response:
        """Return the runs at a path and below it, as in the list of runs, with their `path`."""
        params = PathRunsQuery.read(request)
        target, is_exact = params["path"].strip("/"), params["exact"]
        runs = self.runs().active().in_listing_order().values_list(*serializers.LISTED)
        rows = []
        for run in serializers.listed(runs):
            path = _path(run["project"], run["name"])
            is_below = not target or path.startswith(f"{target}/")
            if path == target or (is_below and not is_exact):
                rows.append({**run, "path": path, "alias": None})
        return Response(rows)


@extend_schema(tags=["config"])
class StorageStats(APIView):
    permission_classes = [MaySee]

    @extend_schema(operation_id="get_storage_stats", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the size of the storage folder in bytes, by kind of content."""
        root = settings.RUNICORN_STORAGE_ROOT
        usage = shutil.disk_usage(root)
        runs = Run.objects.visible_to(request.user)
        versions = Version.objects.visible_to(request.user)
        blobs = Blob.objects.visible_to(request.user)
        return Response(
            {
                "storage_root": str(root),
                "runs": {"count": runs.active().count(), "deleted": runs.deleted().count()},
                "archive": {
                    **_sized(blobs.stored_bytes()),
                    "blobs": {"count": blobs.count()},
                    "versions": {"count": versions.count()},
                },
                "index": _sized(_size_of(settings.DATABASES["default"]["NAME"])),
                "disk": {"total": usage.total, "used": usage.used, "free": usage.free},
            }
        )


def _sized(count: int) -> dict[str, Any]:
    return {"size_bytes": count, "size_human": filesizeformat(count)}


def _size_of(path: Any) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, TypeError, ValueError):
        return 0  # a database server


urlpatterns = [
    route("paths", Paths.as_view(), name="paths"),
    route("paths/tree", PathTree.as_view(), name="path-tree"),
    route("paths/runs", PathRuns.as_view(), name="path-runs"),
    route("storage/stats", StorageStats.as_view(), name="storage-stats"),
]
