"""Looking at artifacts: lists, versions, files, lineage."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.access import Right
from core.http.fields import path_integer
from runs.ingest import folder_source
from runs.models import Run

from .. import actions, elsewhere, index, lineage, serializers
from ..models import Artifact, Blob, Usage, Version
from .base import ArtifactView


@extend_schema(tags=["artifacts"])
class ArtifactList(ArtifactView):
    @extend_schema(
        operation_id="list_artifacts",
        parameters=[serializers.TypeQuery],
        responses=serializers.ArtifactItem(many=True),
    )
    def get(self, request: Request) -> Response:
        """Every artifact that has versions, the last updated first."""
        index.refresh_all()
        found = Artifact.objects.visible_to(request.user).filter(is_listed=True).with_versions()
        if kind := serializers.TypeQuery.read(request)["type"]:
            found = found.filter(type=kind)
        found = found.prefetch_related("aliases__version").order_by("-updated_time", "type", "name")
        return Response(serializers.ArtifactItem(found, many=True).data)


@extend_schema(tags=["artifacts"])
class Stats(ArtifactView):
    @extend_schema(operation_id="get_artifact_stats", responses=serializers.Stats)
    def get(self, request: Request) -> Response:
        """How much there is, and what storing equal contents once saves; in remote mode also how
        much the host has."""
        index.refresh_all()
        versions = Version.objects.visible_to(request.user)
        totals = versions.totals()
        size = versions.here().totals()["size_bytes"]
        pool = Blob.objects.visible_to(request.user).stored_bytes()
        return Response(
            {
                "total_artifacts": totals["artifacts"],
                "total_versions": totals["versions"],
                "total_size_bytes": totals["size_bytes"],
                "total_files": totals["files"],
                "dedup_enabled": True,
                "by_type": versions.totals_by_type(),
                "dedup_pool_size_bytes": pool,
                "space_saved_bytes": max(0, size - pool),
                "dedup_ratio": max(0.0, 1 - pool / size) if size else 0.0,
                **elsewhere.statistics(),
            }
        )


@extend_schema(tags=["artifacts"])
class VersionList(ArtifactView):
    @extend_schema(
        operation_id="list_artifact_versions",
        parameters=[serializers.TypeQuery],
        responses=serializers.VersionItem(many=True),
    )
    def get(self, request: Request, name: str) -> Response:
        """The artifact's versions, the oldest first; deleted ones say so."""
        artifact = self.artifact(name)
        versions = self.versions(artifact).order_by("number")
        found = list(versions.prefetch_related("artifact__aliases"))
        return Response(serializers.VersionItem(found, many=True).data)


@extend_schema(tags=["artifacts"])
class VersionRetrieve(ArtifactView):
    @extend_schema(
        operation_id="get_artifact_version",
        parameters=[serializers.TypeQuery],
        responses=serializers.VersionDetail,
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """One version."""
        return Response(serializers.detail(self.version(name, version)))

    @extend_schema(
        operation_id="delete_artifact_version",
        parameters=[serializers.DeleteQuery],
        responses=serializers.Deleted,
    )
    def delete(self, request: Request, name: str, version: str) -> Response:
        """Mark the version as deleted, or remove it for good with its bytes."""
        number = path_integer(version, "version")
        permanent = serializers.DeleteQuery.read(request)["permanent"]
        found = self.version(name, version, Right.PURGE if permanent else Right.CHANGE)
        if permanent:
            purged = actions.purge_versions([found], by=request.user)
            message = f"Permanently deleted {name}:v{number} locally"
            return Response({"success": True, "message": message, "freed_bytes": purged.bytes})
        actions.soft_delete_versions([found], by=request.user)
        return Response({"success": True, "message": f"Soft deleted {name}:v{number} locally"})

    @extend_schema(
        operation_id="edit_artifact_version",
        parameters=[serializers.TypeQuery],
        request=serializers.Edit,
        responses=serializers.VersionDetail,
    )
    def patch(self, request: Request, name: str, version: str) -> Response:
        """Replace description, metadata or tags; what they were is kept in the history."""
        changes = serializers.Edit.read(request)
        actions.edit_version(self.version(name, version, Right.CHANGE), changes, by=request.user)
        return Response(serializers.detail(self.version(name, version)))


@extend_schema(tags=["artifacts"])
class VersionFiles(ArtifactView):
    @extend_schema(
        operation_id="list_artifact_files",
        parameters=[serializers.TypeQuery],
        responses=serializers.Files,
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """The version's files and references."""
        return Response(serializers.files(self.version(name, version)))


@extend_schema(tags=["artifacts"])
class VersionLineage(ArtifactView):
    @extend_schema(
        operation_id="get_artifact_lineage",
        parameters=[serializers.LineageQuery],
        responses=serializers.Lineage,
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """What the version came from and what came of it, as a graph."""
        number = path_integer(version, "version")
        depth = serializers.LineageQuery.read(request)["max_depth"]
        index.refresh_all()
        found = self.find_version(name, version)
        if found is None:
            return Response({"root_artifact": f"{name}:v{number}", "nodes": [], "edges": []})
        return Response(lineage.build(found, depth, user=request.user).to_dict())


@extend_schema(tags=["artifacts"])
class RunArtifacts(ArtifactView):
    @extend_schema(operation_id="list_run_artifacts", responses=serializers.RunArtifacts)
    def get(self, request: Request, run_id: str) -> Response:
        """The artifact versions that the run created and used."""
        run = folder_source.refresh(Run.objects.visible_to(request.user).active().by_id(run_id))
        if run is None or run.is_deleted:
            raise NotFound(f"Run not found: {run_id}")
        index.refresh_all()
        answer: dict[str, list[Any]] = {"created": [], "used": []}
        for usage in Usage.objects.visible_to(request.user).filter(run=run).order_by("pk"):
            versions = Version.objects.visible_to(request.user).select_related("artifact")
            version = versions.filter(
                artifact__name=usage.name, artifact__type=usage.type, number=usage.number
            ).first()
            answer[usage.kind].append(serializers.run_artifact(usage, version))
        return Response(answer)
