"""What ``client.remote`` uses: connections by their name, viewers and folders there."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.exceptions import InvalidInput
from core.http.permissions import MayChange
from core.http.rest import json_object

from .. import actions
from ..compat import storage_status
from ..exceptions import RemoteError
from ..models import Session, Viewer
from ..owner.asking import ask, rows
from ..ssh.environments import Missing
from . import serializers, storage
from .base import CONNECTION, OBJECT, PATH, RemoteView, open_session, query
from .sync import folders_first


@extend_schema(tags=["remote viewer"])
class RemoteConnect(RemoteView):
    @extend_schema(
        operation_id="remote_connect", request=serializers.Login, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Log in to a host and keep the connection for the requests that name it."""
        if "remote_root" in json_object(request):  # remote storage of 0.4 has the same path
            return storage.connect(self, request)
        data = serializers.Login.read(request)
        session = actions.connect(actions.VIEWER, **self.login(request, data))
        return Response({"ok": True, "connection_id": session.id, **session.describe()})

    def explain(self, error: RemoteError) -> str:
        return f"Connection failed: {error}"


@extend_schema(tags=["remote viewer"])
class RemoteSessions(RemoteView):
    @extend_schema(operation_id="remote_sessions", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        sessions = [{"key": one.id, **one.describe()} for one in rows(Session)]
        return Response({"sessions": sessions})


@extend_schema(tags=["remote viewer"])
class RemoteDisconnect(RemoteView):
    @extend_schema(
        operation_id="remote_disconnect", request=serializers.Peer, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Close a connection, even if others use it."""
        if not request.body or not json_object(request):
            return storage.disconnect(request)
        peer = serializers.Peer.read(request)
        if not rows(Session).exists():
            return Response({"ok": False, "message": "No connection pool"})
        was_open = actions.disconnect(**peer, by=request.user)
        message = "Connection removed" if was_open else "Connection not found"
        return Response({"ok": was_open, "message": message})


@extend_schema(tags=["remote viewer"])
class RemoteStatus(RemoteView):
    @extend_schema(operation_id="remote_status", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        storage_described = storage_status.describe()
        connections = [{"key": one.id, **one.describe()} for one in Session.objects.all()]
        viewers = [one.describe() for one in Viewer.objects.exclude(status="stopped")]
        return Response(
            {
                **storage_described,
                "connections": connections,
                "viewer_sessions": viewers,
                "connection_count": len(connections),
                "viewer_session_count": len(viewers),
            }
        )


# -- viewers on hosts --------------------------------------------------------------------------


@extend_schema(tags=["remote viewer"])
class StartViewer(RemoteView):
    @extend_schema(
        operation_id="start_remote_viewer",
        request=serializers.ViewerRequest,
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Start a viewer on a host, and a tunnel to it from a port of this machine."""
        data = serializers.ViewerRequest.read(request)
        if identifier := data.get("connection_id"):
            session = open_session(identifier, ["body", "connection_id"])
            where: dict[str, Any] = {"connection_id": session.id, "by": request.user}
        else:
            where = self.login(request, data)
        viewer = actions.start_viewer(
            data["remote_root"],
            environment=data.get("conda_env"),
            local_port=data.get("local_port"),
            remote_port=data.get("remote_port"),
            **where,
        )
        message = f"Remote Viewer ready at {viewer.url}"
        return Response({"ok": True, "session": viewer.describe(), "message": message})

    def explain(self, error: RemoteError) -> str:
        return f"Failed to start Remote Viewer: {error}"


@extend_schema(tags=["remote viewer"])
class StopViewer(RemoteView):
    @extend_schema(
        operation_id="stop_remote_viewer", request=serializers.SessionName, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Stop a viewer on a host, and close its tunnel."""
        identifier = serializers.SessionName.read(request)["session_id"]
        if not actions.stop_viewer(identifier, by=request.user):
            raise NotFound(f"Session not found: {identifier}")
        return Response({"ok": True, "message": f"Session {identifier} stopped"})


@extend_schema(tags=["remote viewer"])
class ViewerSessions(RemoteView):
    @extend_schema(operation_id="list_remote_viewers", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """The viewers that run now."""
        viewers = rows(Viewer).exclude(status="stopped")
        return Response({"sessions": [one.describe() for one in viewers]})


@extend_schema(tags=["remote viewer"])
class ViewerStatus(RemoteView):
    @extend_schema(operation_id="remote_viewer_status", responses={200: OBJECT})
    def get(self, request: Request, session_id: str) -> Response:
        """One viewer; `healthy` says whether it answers through its tunnel right now."""
        viewer = rows(Viewer).filter(pk=session_id).first()
        if viewer is None:
            raise NotFound(f"Session not found: {session_id}")
        healthy = viewer.is_active and ask("is_viewer_healthy", viewer_id=session_id)
        return Response({**viewer.describe(), "healthy": healthy})


# -- what a host has ---------------------------------------------------------------------------


class HostView(RemoteView):
    permission_classes = (MayChange,)

    def connection_id(self, request: Request) -> str:
        identifier = query(request, "connection_id")
        return open_session(identifier, ["query", "connection_id"]).id


@extend_schema(tags=["remote viewer"])
class Environments(HostView):
    @extend_schema(
        operation_id="remote_environments", parameters=[CONNECTION], responses={200: OBJECT}
    )
    def get(self, request: Request) -> Response:
        """The Pythons of the host; `is_default` is the one that a viewer would be started with."""
        envs = ask("list_environments", connection_id=self.connection_id(request))
        return Response({"ok": True, "envs": envs})


@extend_schema(tags=["remote viewer"])
class HostConfig(HostView):
    @extend_schema(
        operation_id="remote_host_config",
        parameters=[CONNECTION, OpenApiParameter("conda_env", str)],
        responses={200: OBJECT},
    )
    def get(self, request: Request) -> Response:
        """What a viewer there would be started with."""
        identifier, name = self.connection_id(request), request.query_params.get("conda_env")
        try:
            one = ask("describe_environment", connection_id=identifier, name=name)
        except Missing as error:
            raise NotFound(str(error)) from error
        there = one["configuration"]
        return Response(
            {
                "ok": True,
                "condaEnv": one["name"],
                "pythonVersion": one["python_version"],
                "runicornVersion": one["runicorn_version"],
                "defaultStorageRoot": there.get("root"),
                "storageRootExists": there.get("exists") is True,
                "suggestedRemotePort": there.get("port"),
                "connectionId": identifier,
            }
        )


@extend_schema(tags=["remote viewer"])
class StorageFolders(HostView):
    @extend_schema(
        operation_id="remote_storage_candidates",
        parameters=[
            CONNECTION,
            OpenApiParameter("conda_env", str),
            OpenApiParameter("scan_root", str, description="Default: the home folder."),
            OpenApiParameter("max_depth", int, description="1 to 8, default 3."),
        ],
        responses={200: OBJECT},
    )
    def get(self, request: Request) -> Response:
        """Folders of the host that look like storage folders, the likeliest first."""
        scan_root = request.query_params.get("scan_root") or None
        text = request.query_params.get("max_depth", "3")
        if not re.fullmatch("[0-9]{1,9}", text):
            raise InvalidInput("max_depth must be a number from 1 to 8.", ["query", "max_depth"])
        depth = max(1, min(int(text), 8))
        name = request.query_params.get("conda_env")
        try:  # 0.7's client says "system" for the default
            folders = ask(
                "find_storage_folders",
                connection_id=self.connection_id(request),
                environment=None if name == "system" else name,
                scan_root=scan_root,
                max_depth=depth,
            )
        except Missing as error:
            raise NotFound(str(error)) from error
        return Response({"scan_root": scan_root, "max_depth": depth, "candidates": folders})


@extend_schema(tags=["remote viewer"])
class ListFolder(HostView):
    @extend_schema(
        operation_id="remote_fs_list", parameters=[CONNECTION, PATH], responses={200: OBJECT}
    )
    def get(self, request: Request) -> Response:
        """A folder, hidden entries too, folders first."""
        identifier, path = self.connection_id(request), request.query_params.get("path", "~")
        folder = ask("list_folder", connection_id=identifier, path=path)
        items = [
            {
                "name": item["name"],
                "is_dir": item["type"] == "dir",
                "size": item["size"],
                "mtime": item["mtime"],
            }
            for item in folders_first(folder["items"])
        ]
        return Response({"path": folder["path"], "items": items})

    def explain(self, error: RemoteError) -> str:
        return f"Failed to list directory: {error}" if error.status == 500 else str(error)


@extend_schema(tags=["remote viewer"])
class PathExists(HostView):
    @extend_schema(
        operation_id="remote_fs_exists",
        parameters=[CONNECTION, OpenApiParameter("path", str, required=True)],
        responses={200: OBJECT},
    )
    def get(self, request: Request) -> Response:
        identifier, path = self.connection_id(request), query(request, "path")
        is_dir = ask("is_folder", connection_id=identifier, path=path)
        return Response({"path": path, "exists": is_dir is not None, "is_dir": is_dir is True})
