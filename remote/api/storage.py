"""Remote storage of 0.4: a host's root that is synced on demand."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.permissions import MayChange

from .. import actions
from ..compat import storage_status
from ..exceptions import OwnerAway, RemoteError
from ..models import Session
from ..owner.asking import ask
from . import serializers
from .base import OBJECT, RemoteView


def connect(view: RemoteView, request: Request) -> Response:
    """``POST /remote/connect`` with a ``remote_root``."""
    data = serializers.StorageLogin.read(request)
    root, minutes, auto_sync = (
        data[name] for name in ("remote_root", "sync_interval_minutes", "auto_sync")
    )
    login = view.login(request, data)
    answer = actions.connect_storage(
        remote_root=root, interval=60 * minutes, auto_sync=auto_sync, **login
    )
    session, structure = Session(**answer["session"]), answer["structure"]
    return Response(
        {
            "ok": True,
            "status": "connected",
            "connection_id": session.id,
            **session.describe(),
            "remote_root": answer["sync"]["remote_root"],
            "cache_dir": answer["sync"]["local_root"],
            "structure_verified": structure["artifacts_exists"] or structure["has_experiments"],
            "auto_sync": auto_sync,
            "sync_interval_minutes": minutes,
        }
    )


def disconnect(request: Request) -> Response:
    """``POST /remote/disconnect`` without a body."""
    actions.disconnect_storage(by=request.user)
    message = "Disconnected from remote server"
    return Response({"ok": True, "status": "disconnected", "message": message})


@extend_schema(tags=["remote storage"])
class Sync(RemoteView):
    @extend_schema(
        operation_id="remote_storage_sync", request=None, responses={200: OBJECT, 400: None}
    )
    def post(self, request: Request) -> Response:
        """Look for what is new at once, in the background."""
        actions.sync_storage_now(by=request.user)
        return Response(
            {
                "ok": True,
                "message": "Metadata sync started",
                "info": "Poll /api/remote/status to track progress",
            }
        )


@extend_schema(tags=["remote storage"])
class ClearCache(RemoteView):
    @extend_schema(
        operation_id="remote_cache_clear", request=None, responses={200: OBJECT, 400: None}
    )
    def post(self, request: Request) -> Response:
        """Remove what came from there; the next sync brings it again."""
        actions.clear_storage_cache(by=request.user)
        return Response({"ok": True, "message": "Cache cleared successfully"})


@extend_schema(tags=["remote storage"])
class CleanCache(RemoteView):
    @extend_schema(
        operation_id="remote_cache_cleanup", request=None, responses={200: OBJECT, 400: None}
    )
    def post(self, request: Request) -> Response:
        """Let go of what is over the limit, from the run that was looked at longest ago."""
        count = actions.clean_storage_cache(by=request.user)
        message = f"Cleaned up {count} old files"
        return Response({"ok": True, "files_removed": count, "message": message})


@extend_schema(tags=["remote storage"])
class SwitchMode(RemoteView):
    @extend_schema(
        operation_id="remote_mode_switch",
        request=serializers.StorageMode,
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Remember which storage is meant; runs of both are shown either way."""
        mode = serializers.StorageMode.read(request)["mode"]
        actions.select_storage(mode, by=request.user)
        message = f"Switched to {mode} storage mode"
        return Response({"ok": True, "mode": mode, "message": message})


@extend_schema(tags=["remote storage"])
class Mode(RemoteView):
    @extend_schema(operation_id="remote_mode", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        described = storage_status.describe()
        answer = {"mode": described["mode"], "remote_available": True}
        return Response({**answer, "remote_connected": described["connected"]})


@extend_schema(tags=["remote storage"])
class Verify(RemoteView):
    permission_classes = (MayChange,)

    @extend_schema(operation_id="remote_verify", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """Whether the host answers, and what lies in its root."""
        try:
            structure = ask("verify_storage")
        except OwnerAway:
            raise
        except RemoteError as error:
            return Response({"connected": False, "error": str(error)})
        status = storage_status.describe()["status"]
        return Response({"connected": True, "structure": structure, "adapter_status": status})


# -- artifacts ---------------------------------------------------------------------------------

KIND = OpenApiParameter("type", str, description="Of the artifact, if its name is not unique.")


class ArtifactView(RemoteView):
    def version(self, request: Request, name: str, version: str) -> dict[str, Any]:
        if not version.isdecimal():
            raise NotFound("Not Found")
        kind = request.query_params.get("type") or None
        return {"name": name, "number": int(version[:9]), "kind": kind, "by": request.user}


@extend_schema(tags=["remote storage"])
class StartDownload(ArtifactView):
    @extend_schema(
        operation_id="remote_download",
        parameters=[KIND],
        request=serializers.Download,
        responses={200: OBJECT},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Fetch the contents of a version and verify them; copy them to `target_dir` too."""
        data = serializers.Download.read(request) if request.body else {}
        download = actions.start_download(
            target=data.get("target_dir"), **self.version(request, name, version)
        )
        return Response(
            {
                "ok": True,
                "task_id": download["task_id"],
                "artifact": f"{name}:v{version}",
                "message": f"Download started for {name}:v{version}",
            }
        )


@extend_schema(tags=["remote storage"])
class DownloadStatus(RemoteView):
    @extend_schema(operation_id="remote_download_status", responses={200: OBJECT, 400: None})
    def get(self, request: Request, task_id: str) -> Response:
        return Response(ask("describe_download", download_id=task_id))


@extend_schema(tags=["remote storage"])
class CancelDownload(RemoteView):
    @extend_schema(operation_id="cancel_remote_download", responses={200: OBJECT, 400: None})
    def delete(self, request: Request, task_id: str) -> Response:
        actions.cancel_download(task_id, by=request.user)
        return Response({"ok": True, "message": f"Download task {task_id} cancelled"})


@extend_schema(tags=["remote storage"])
class Downloads(RemoteView):
    @extend_schema(operation_id="remote_downloads", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        downloads = ask("list_downloads")
        if downloads is None:
            return Response({"downloads": []})
        active = sum(one["status"] == "running" for one in downloads)
        count = len(downloads)
        return Response({"downloads": downloads, "active_count": active, "total_count": count})


@extend_schema(tags=["remote storage"])
class SetAlias(ArtifactView):
    @extend_schema(
        operation_id="remote_artifact_alias",
        parameters=[KIND],
        request=serializers.Alias,
        responses={200: OBJECT},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Let `alias` name the version, on the host. Needs runicorn there."""
        alias = serializers.Alias.read(request)["alias"]
        actions.set_alias(alias=alias, **self.version(request, name, version))
        return Response({"ok": True, "message": f"Set alias '{alias}' → {name}:v{version}"})


@extend_schema(tags=["remote storage"])
class AddTags(ArtifactView):
    @extend_schema(
        operation_id="remote_artifact_tags",
        parameters=[KIND],
        request=serializers.Tags,
        responses={200: OBJECT},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Add `tags` to the version, on the host. Needs runicorn there."""
        tags = serializers.Tags.read(request)["tags"]
        actions.add_tags(tags=tags, **self.version(request, name, version))
        return Response({"ok": True, "message": f"Added tags {tags} to {name}:v{version}"})
