"""Routes that v0.4 does not have: aliases, history, downloads, checks, comparisons."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.access import Right
from core.http.exceptions import Conflict, InvalidInput
from core.http.permissions import MayAdminister, MaySee
from runicorn.artifacts.names import check_alias, inside

from .. import actions, index, remote_files, serializers, streams
from ..comparing import compare
from ..exceptions import FilesMissing
from .base import ArtifactView


@extend_schema(tags=["artifacts"])
class RestoreVersion(ArtifactView):
    @extend_schema(
        operation_id="restore_artifact_version",
        parameters=[serializers.TypeQuery],
        request=None,
        responses=serializers.Deleted,
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Restore a deleted version."""
        row = self.version(name, version, Right.CHANGE)
        actions.restore_versions([row], by=request.user)
        return Response({"success": True, "message": f"Restored {row}"})


@extend_schema(tags=["artifacts"])
class History(ArtifactView):
    @extend_schema(
        operation_id="list_artifact_history",
        parameters=[serializers.TypeQuery],
        responses=serializers.HistoryEntry(many=True),
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """Return the edits, with author and old value, the oldest first."""
        history = self.version(name, version).kept_changes().get("history")
        return Response(history if isinstance(history, list) else [])


@extend_schema(tags=["artifacts"])
class AliasDetail(ArtifactView):
    @extend_schema(
        operation_id="set_artifact_alias",
        parameters=[serializers.TypeQuery],
        request=serializers.AliasTarget,
        responses=serializers.VersionDetail,
    )
    def put(self, request: Request, name: str, alias: str) -> Response:
        """Point the alias to this version and to no other."""
        number = serializers.AliasTarget.read(request)["version"]
        version = self.version(name, str(number), Right.CHANGE)
        try:
            actions.set_alias(version, check_alias(alias), by=request.user)
        except ValueError as error:
            raise InvalidInput(str(error), ["path", "alias"]) from None
        return Response(serializers.detail(self.version(name, str(number))))

    @extend_schema(
        operation_id="remove_artifact_alias",
        parameters=[serializers.TypeQuery],
        responses=serializers.Deleted,
    )
    def delete(self, request: Request, name: str, alias: str) -> Response:
        """Remove the alias; the version stays."""
        try:
            artifact = self.artifact(name, Right.CHANGE)
            removed = actions.remove_alias(artifact, alias, by=request.user)
        except ValueError as error:
            raise InvalidInput(str(error), ["path", "alias"]) from None
        if not removed:
            raise NotFound(f"Alias not found: {alias} for artifact {name}")
        return Response({"success": True, "message": f"Removed alias {alias} of {name}"})


@extend_schema(tags=["artifacts"])
class FileContent(ArtifactView):
    @extend_schema(
        operation_id="download_artifact_file",
        parameters=[serializers.TypeQuery],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, name: str, version: str, path: str) -> Any:
        """Return the bytes of a file, or a range of them; a whole file also zstd-encoded."""
        row = self.version(name, version)
        entry = row.files.select_related("blob").filter(path=path).first()
        remote_files.fetch(row)
        file = inside(row.files_folder, entry.path) if entry else None
        if entry is None or file is None or not file.is_file():  # nor a pipe
            raise NotFound(f"File not found: {path} in {row}")
        return streams.file(request._request, file, entry.blob.digest)


@extend_schema(tags=["artifacts"])
class Archive(ArtifactView):
    @extend_schema(
        operation_id="download_artifact_archive",
        parameters=[serializers.TypeQuery],
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, name: str, version: str) -> Any:
        """Return all files of the version as one tar; with ``Accept: application/zstd`` a tar.zst,
        with ``Accept-Encoding: zstd`` a tar that is compressed in transfer."""
        try:
            return streams.archive(request._request, self.version(name, version))
        except FilesMissing as error:
            raise Conflict(str(error)) from None


@extend_schema(tags=["artifacts"])
class Verify(ArtifactView):
    permission_classes = [MaySee]  # reads, whatever its method

    @extend_schema(
        operation_id="verify_artifact_version",
        parameters=[serializers.TypeQuery],
        request=None,
        responses=serializers.Verified,
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Read every file and compare it with its digest."""
        row = self.version(name, version)
        remote_files.fetch(row)
        problems = index.storage().verify(row.artifact.location, row.number)
        return Response(
            {
                "artifact": str(row),
                "ok": not problems,
                "problems": [{"path": p.path, "problem": p.problem} for p in problems],
            }
        )


@extend_schema(tags=["artifacts"])
class Compare(ArtifactView):
    @extend_schema(
        operation_id="compare_artifact_versions",
        parameters=[serializers.CompareQuery],
        responses=serializers.Comparison,
    )
    def get(self, request: Request, name: str) -> Response:
        """Return the files that differ between two versions."""
        sides = []
        params = serializers.CompareQuery.read(request)
        for key in ("from", "to"):
            version = self.numbered(self.artifact(name), params[key])
            if version is None:
                raise NotFound(f"Version not found: {name}:v{params[key]}")
            sides.append(version)
        return Response(compare(*sides))


@extend_schema(tags=["artifacts"])
class CollectGarbage(ArtifactView):
    permission_classes = [MayAdminister]

    @extend_schema(
        operation_id="collect_artifact_garbage", request=None, responses=serializers.Collected
    )
    def post(self, request: Request) -> Response:
        """Remove contents that no version needs, and the remains of killed processes."""
        collected = actions.collect_garbage(by=request.user)
        return Response({"contents": collected.count, "freed_bytes": collected.bytes})
