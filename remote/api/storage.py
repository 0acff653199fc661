"""Remote storage of 0.4: a host's root that is synced on demand."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.exceptions import InvalidInput
from core.http.rest import json_object

from ..compat import artifact_downloads, on_demand
from ..exceptions import NotConnected, RemoteError
from ..ssh.connections import pool
from ..ssh.loop import run
from .base import OBJECT, RemoteView


def connect(view: RemoteView, request: Request, body: dict[str, Any]) -> Response:
    """``POST /remote/connect`` with a ``remote_root``."""
    root, minutes, auto_sync = _checked(body)
    holder = f"start:{secrets.token_hex(4)}"
    connection = view.connect(request, holder, body)
    local_root = settings.RUNICORN_STORAGE_ROOT
    try:
        one, structure = run(
            on_demand.connect(connection, root, local_root, 60 * minutes, auto_sync=auto_sync)
        )
    finally:
        run(pool.release(holder, connection))
    return Response(
        {
            "ok": True,
            "status": "connected",
            "connection_id": connection.id,
            **connection.describe(),
            "remote_root": one.remote_root,
            "cache_dir": str(local_root),
            "structure_verified": structure["artifacts_exists"] or structure["has_experiments"],
            "auto_sync": auto_sync,
            "sync_interval_minutes": minutes,
        }
    )


def _checked(body: dict[str, Any]) -> tuple[str, float, bool]:
    root, minutes = body.get("remote_root"), body.get("sync_interval_minutes", 10)
    port = body.get("port", 22)
    is_port = isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536
    proofs = ("password", "private_key", "private_key_path")
    problems = {
        "Host is required": body.get("saved") or body.get("host"),
        "Username is required": body.get("saved") or body.get("username"),
        f"Invalid port: {port}": port is None or is_port,
        "Remote root directory is required": isinstance(root, str) and root and "\0" not in root,
        "At least one authentication method is required": body.get("use_agent", True)
        or body.get("saved")
        or any(body.get(name) for name in proofs),
        "sync_interval_minutes must be a positive number": isinstance(minutes, int | float)
        and 0 < minutes <= 1440,
        "auto_sync must be true or false": isinstance(body.get("auto_sync", True), bool),
    }
    for problem, is_fine in problems.items():
        if not is_fine:
            raise InvalidInput(f"Invalid configuration: {problem}", ["body"])
    return str(root), float(minutes), body.get("auto_sync", True)


def disconnect() -> Response:
    """``POST /remote/disconnect`` without a body."""
    if not run(on_demand.disconnect()):
        raise NotConnected("Not connected to remote server")
    message = "Disconnected from remote server"
    return Response({"ok": True, "status": "disconnected", "message": message})


@extend_schema(tags=["remote storage"])
class Sync(RemoteView):
    @extend_schema(
        operation_id="remote_storage_sync", request=None, responses={200: OBJECT, 400: None}
    )
    def post(self, request: Request) -> Response:
        """Look for what is new at once, in the background."""
        one = on_demand.needed()
        if not one.is_alive:
            raise NotConnected("Remote connection is not active")
        run(_sync_now())
        return Response(
            {
                "ok": True,
                "message": "Metadata sync started",
                "info": "Poll /api/remote/status to track progress",
            }
        )


async def _sync_now() -> None:
    on_demand.needed().sync_now()


@extend_schema(tags=["remote storage"])
class ClearCache(RemoteView):
    @extend_schema(
        operation_id="remote_cache_clear", request=None, responses={200: OBJECT, 400: None}
    )
    def post(self, request: Request) -> Response:
        """Remove what came from there; the next sync brings it again."""
        run(on_demand.clear_cache())
        return Response({"ok": True, "message": "Cache cleared successfully"})


@extend_schema(tags=["remote storage"])
class CleanCache(RemoteView):
    @extend_schema(
        operation_id="remote_cache_cleanup", request=None, responses={200: OBJECT, 400: None}
    )
    def post(self, request: Request) -> Response:
        """Let go of what is over the limit, from the run that was looked at longest ago."""
        count = run(on_demand.clean_cache())
        message = f"Cleaned up {count} old files"
        return Response({"ok": True, "files_removed": count, "message": message})


@extend_schema(tags=["remote storage"])
class SwitchMode(RemoteView):
    @extend_schema(operation_id="remote_mode_switch", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Remember which storage is meant; runs of both are shown either way."""
        body = json_object(request)
        if "mode" not in body:
            raise InvalidInput("mode is required", ["body", "mode"], "Field required")
        mode = body["mode"]
        if mode not in ("local", "remote"):
            text = f"Invalid mode: {mode}. Must be 'local' or 'remote'"
            raise InvalidInput(text, ["body", "mode"])
        on_demand.switch(mode)
        message = f"Switched to {mode} storage mode"
        return Response({"ok": True, "mode": mode, "message": message})


@extend_schema(tags=["remote storage"])
class Mode(RemoteView):
    @extend_schema(operation_id="remote_mode", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        found = on_demand.status()
        connected = found["connected"]
        answer = {"mode": found["mode"], "remote_available": True, "remote_connected": connected}
        return Response(answer)


@extend_schema(tags=["remote storage"])
class Verify(RemoteView):
    @extend_schema(operation_id="remote_verify", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """Whether the host answers, and what lies in its root."""
        try:
            structure = run(on_demand.verify())
        except RemoteError as error:
            return Response({"connected": False, "error": str(error)})
        adapter_status = on_demand.status()["status"]
        answer = {"connected": True, "structure": structure, "adapter_status": adapter_status}
        return Response(answer)


# -- artifacts ---------------------------------------------------------------------------------

KIND = OpenApiParameter("type", str, description="Of the artifact, if its name is not unique.")


class ArtifactView(RemoteView):
    def version(self, request: Request, name: str, version: str) -> tuple[str, int, str | None]:
        if not version.isdecimal():
            raise NotFound("Not Found")
        return name, int(version[:9]), request.query_params.get("type") or None


@extend_schema(tags=["remote storage"])
class StartDownload(ArtifactView):
    @extend_schema(
        operation_id="remote_download",
        parameters=[KIND],
        request=OBJECT,
        responses={200: OBJECT},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Fetch the contents of a version and verify them; copy them to `target_dir` too."""
        body = json_object(request) if request.body else {}
        target = body.get("target_dir")
        if target is not None and not isinstance(target, str):
            text = "Invalid target directory: it must be text"
            raise InvalidInput(text, ["body", "target_dir"])
        download = run(artifact_downloads.start(*self.version(request, name, version), target))
        return Response(
            {
                "ok": True,
                "task_id": download.id,
                "artifact": f"{name}:v{version}",
                "message": f"Download started for {name}:v{version}",
            }
        )


@extend_schema(tags=["remote storage"])
class DownloadStatus(RemoteView):
    @extend_schema(operation_id="remote_download_status", responses={200: OBJECT, 400: None})
    def get(self, request: Request, task_id: str) -> Response:
        return Response(artifact_downloads.get(task_id).describe())


@extend_schema(tags=["remote storage"])
class CancelDownload(RemoteView):
    @extend_schema(operation_id="cancel_remote_download", responses={200: OBJECT, 400: None})
    def delete(self, request: Request, task_id: str) -> Response:
        run(artifact_downloads.cancel(task_id))
        return Response({"ok": True, "message": f"Download task {task_id} cancelled"})


@extend_schema(tags=["remote storage"])
class Downloads(RemoteView):
    @extend_schema(operation_id="remote_downloads", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        if on_demand.current() is None:
            return Response({"downloads": []})
        found = [one.describe() for one in artifact_downloads.downloads()]
        active = sum(one["status"] == "running" for one in found)
        return Response({"downloads": found, "active_count": active, "total_count": len(found)})


@extend_schema(tags=["remote storage"])
class SetAlias(ArtifactView):
    @extend_schema(
        operation_id="remote_artifact_alias",
        parameters=[KIND],
        request=OBJECT,
        responses={200: OBJECT},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Let `alias` name the version, on the host. Needs runicorn there."""
        alias = json_object(request).get("alias")
        if not isinstance(alias, str):
            raise InvalidInput("alias is required", ["body", "alias"], "Field required")
        run(artifact_downloads.set_alias(*self.version(request, name, version), alias))
        return Response({"ok": True, "message": f"Set alias '{alias}' → {name}:v{version}"})


@extend_schema(tags=["remote storage"])
class AddTags(ArtifactView):
    @extend_schema(
        operation_id="remote_artifact_tags",
        parameters=[KIND],
        request=OBJECT,
        responses={200: OBJECT},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Add `tags` to the version, on the host. Needs runicorn there."""
        tags = json_object(request).get("tags")
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            text = "Input should be a valid list"
            raise InvalidInput("tags must be a list of text", ["body", "tags"], text)
        run(artifact_downloads.add_tags(*self.version(request, name, version), tags))
        return Response({"ok": True, "message": f"Added tags {tags} to {name}:v{version}"})
