"""Reading artifacts: lists, versions, files, lineage."""

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

from .. import actions, index, lineage, remote_files, serializers
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
        """Return every artifact that has versions, the last updated first."""
        index.refresh_all()
        artifacts = Artifact.objects.visible_to(request.user).filter(is_listed=True).with_versions()
        if kind := serializers.TypeQuery.read(request)["type"]:
            artifacts = artifacts.filter(type=kind)
        artifacts = artifacts.prefetch_related("aliases__version").order_by(
            "-updated_time", "type", "name"
        )
        return Response(serializers.ArtifactItem(artifacts, many=True).data)


@extend_schema(tags=["artifacts"])
class Stats(ArtifactView):
    @extend_schema(operation_id="get_artifact_stats", responses=serializers.Stats)
    def get(self, request: Request) -> Response:
        """Return totals, and the space saved by storing equal contents once; in remote mode also
        the totals of the host."""
        index.refresh_all()
        versions = Version.objects.visible_to(request.user)
        totals = versions.totals()
        size = versions.local().totals()["size_bytes"]
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
                **remote_files.stats(),
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
        """Return the artifact's versions, the oldest first; deleted ones have that status."""
        artifact = self.artifact(name)
        versions = self.versions(artifact).order_by("number")
        rows = list(versions.prefetch_related("artifact__aliases"))
        return Response(serializers.VersionItem(rows, many=True).data)


@extend_schema(tags=["artifacts"])
class VersionRetrieve(ArtifactView):
    @extend_schema(
        operation_id="get_artifact_version",
        parameters=[serializers.TypeQuery],
        responses=serializers.VersionDetail,
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """Return one version."""
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
        row = self.version(name, version, Right.PURGE if permanent else Right.CHANGE)
        if permanent:
            purged = actions.purge_versions([row], by=request.user)
            message = f"Permanently deleted {name}:v{number} locally"
            return Response({"success": True, "message": message, "freed_bytes": purged.bytes})
        actions.soft_delete_versions([row], by=request.user)
        return Response({"success": True, "message": f"Soft deleted {name}:v{number} locally"})

    @extend_schema(
        operation_id="edit_artifact_version",
        parameters=[serializers.TypeQuery],
        request=serializers.Edit,
        responses=serializers.VersionDetail,
    )
    def patch(self, request: Request, name: str, version: str) -> Response:
        """Replace description, metadata or tags; the history keeps their old values."""
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
        """Return the version's files and references."""
        return Response(serializers.files(self.version(name, version)))


@extend_schema(tags=["artifacts"])
class VersionLineage(ArtifactView):
    @extend_schema(
        operation_id="get_artifact_lineage",
        parameters=[serializers.LineageQuery],
        responses=serializers.Lineage,
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """Return the inputs and outputs of the version as a graph."""
        number = path_integer(version, "version")
        depth = serializers.LineageQuery.read(request)["max_depth"]
        index.refresh_all()
        row = self.find_version(name, version)
        if row is None:
            return Response({"root_artifact": f"{name}:v{number}", "nodes": [], "edges": []})
        return Response(lineage.build(row, depth, user=request.user).to_dict())


@extend_schema(tags=["artifacts"])
class RunArtifacts(ArtifactView):
    @extend_schema(operation_id="list_run_artifacts", responses=serializers.RunArtifacts)
    def get(self, request: Request, run_id: str) -> Response:
        """Return the artifact versions that the run created and used."""
        runs = Run.objects.visible_to(request.user).active()
        run = folder_source.refresh(folder_source.look_up(runs, run_id))
        if run is None or run.is_deleted:
            raise NotFound(f"Run not found: {run_id}")
        index.refresh_all()
        data: dict[str, list[Any]] = {"created": [], "used": []}
        for usage in Usage.objects.visible_to(request.user).filter(run=run).order_by("pk"):
            versions = Version.objects.visible_to(request.user).select_related("artifact")
            version = versions.filter(
                artifact__name=usage.name, artifact__type=usage.type, number=usage.number
            ).first()
            data[usage.kind].append(serializers.run_artifact(usage, version))
        return Response(data)
