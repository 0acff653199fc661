"""Lineage from the index, by point lookups in both directions, without scanning runs."""

from __future__ import annotations

from typing import Any

from runicorn.artifacts.lineage import LineageGraph, VersionKey, trace
from runs.models import Run

from .models import Usage, Version


def build(root: Version, max_depth: int, *, user: Any) -> LineageGraph:
    """Return the graph before and after *root*, as far as *user* may see it."""
    key = VersionKey(root.artifact.name, root.artifact.type, root.number)
    return trace(_Index(user), key, max_depth)


class _Index:
    def __init__(self, user: Any) -> None:
        self._user = user

    def _find(self, key: VersionKey) -> Version | None:
        return Version.objects.visible_to(self._user).called(key).first()

    def version(self, key: VersionKey) -> dict[str, Any]:
        version = self._find(key)
        if version is None:
            usage = Usage.objects.of(key).order_by("-size_bytes").first()
            size = usage.size_bytes if usage else 0
            return {"type": key.type, "size": size, "purged": True}
        facts: dict[str, Any] = {"type": key.type, "size": version.size_bytes}
        facts["created_at"] = version.created_time
        return facts | ({"deleted": True} if version.is_deleted else {})

    def run(self, run_id: str) -> dict[str, Any]:
        runs = Run.objects.visible_to(self._user).select_related("project")
        run = runs.by_id(run_id)
        facts: dict[str, Any] = {"project": None, "name": None, "run_id": run_id}
        if run is None:
            return facts | {"purged": True}
        facts |= {"project": run.project.name if run.project else None, "name": run.name}
        return facts | ({"deleted": True} if run.is_deleted else {})

    def producer(self, key: VersionKey) -> str | None:
        if (version := self._find(key)) is not None:
            return version.created_by_run or None
        created = Usage.objects.visible_to(self._user).of(key).filter(kind=Usage.Kind.CREATED)
        return created.values_list("run__run_id", flat=True).first()

    def users(self, key: VersionKey) -> list[str]:
        used = Usage.objects.visible_to(self._user).of(key).filter(kind=Usage.Kind.USED)
        return list(used.order_by("pk").values_list("run__run_id", flat=True))

    def created(self, run_id: str) -> list[VersionKey]:
        """Return the versions that the run recorded, or whose metadata names the run."""
        versions = Version.objects.visible_to(self._user).filter(created_by_run=run_id)
        rows = versions.values_list("artifact__name", "artifact__type", "number")
        keys = [*self._recorded(run_id, Usage.Kind.CREATED), *(VersionKey(*row) for row in rows)]
        return list(dict.fromkeys(keys))

    def used(self, run_id: str) -> list[VersionKey]:
        return self._recorded(run_id, Usage.Kind.USED)

    def _recorded(self, run_id: str, kind: str) -> list[VersionKey]:
        usages = Usage.objects.visible_to(self._user)
        return usages.filter(run__run_id=run_id, kind=kind).keys()
