"""What ``client.remote`` uses: connections by their name, viewers and folders there."""

from __future__ import annotations

import re
import secrets

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.exceptions import InvalidInput
from core.http.rest import json_list, json_object
from runicorn import config, credentials

from .. import actions
from ..compat import on_demand
from ..exceptions import RemoteError
from ..ssh import browse, environments
from ..ssh.connections import VIEWER, Connection, pool
from ..ssh.loop import run
from ..viewer import viewers
from . import serializers
from . import storage as storage_views
from .base import CONNECTION, OBJECT, PATH, RemoteView, query, valid


@extend_schema(tags=["remote viewer"])
class RemoteConnect(RemoteView):
    @extend_schema(
        operation_id="remote_connect", request=serializers.Login, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Log in to a host and keep the connection for the requests that name it."""
        body = json_object(request)
        if "remote_root" in body:  # remote storage of 0.4 has the same path
            return storage_views.connect(self, request, body)
        connection = self.connect(request, VIEWER, body)
        return Response({"ok": True, "connection_id": connection.id, **connection.describe()})

    def explain(self, error: RemoteError) -> str:
        return f"Connection failed: {error}"


@extend_schema(tags=["remote viewer"])
class RemoteSessions(RemoteView):
    @extend_schema(operation_id="remote_sessions", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        return Response({"sessions": [{"key": c.id, **c.describe()} for c in pool.all()]})


@extend_schema(tags=["remote viewer"])
class RemoteDisconnect(RemoteView):
    @extend_schema(
        operation_id="remote_disconnect", request=serializers.Peer, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Close a connection, whoever else uses it."""
        if not request.body or not json_object(request):
            return storage_views.disconnect()
        peer = valid(serializers.Peer, json_object(request)).validated_data
        if not pool.all():
            return Response({"ok": False, "message": "No connection pool"})
        was_open = actions.disconnect(peer["host"], peer["port"], peer["username"])
        message = "Connection removed" if was_open else "Connection not found"
        return Response({"ok": was_open, "message": message})


@extend_schema(tags=["remote viewer"])
class RemoteStatus(RemoteView):
    @extend_schema(operation_id="remote_status", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        connections = [{"key": c.id, **c.describe()} for c in pool.all()]
        sessions = [session.describe() for session in viewers.active()]
        return Response(
            {
                **on_demand.status(),
                "connections": connections,
                "viewer_sessions": sessions,
                "connection_count": len(connections),
                "viewer_session_count": len(sessions),
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
        body = json_object(request)
        options = valid(serializers.ViewerOptions, body).validated_data
        holder = f"start:{secrets.token_hex(4)}"
        if identifier := body.get("connection_id"):
            connection = open_connection(str(identifier), ["body", "connection_id"])
        else:
            connection = self.connect(request, holder, body)
        try:
            session = actions.start_viewer(
                connection,
                options["remote_root"],
                environment=options.get("conda_env"),
                local_port=options.get("local_port"),
                remote_port=options.get("remote_port"),
            )
        finally:
            run(pool.release(holder, connection))
        message = f"Remote Viewer ready at {session.url}"
        return Response({"ok": True, "session": session.describe(), "message": message})

    def explain(self, error: RemoteError) -> str:
        return f"Failed to start Remote Viewer: {error}"


@extend_schema(tags=["remote viewer"])
class StopViewer(RemoteView):
    @extend_schema(
        operation_id="stop_remote_viewer", request=serializers.SessionName, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Stop a viewer on a host, and close its tunnel."""
        data = valid(serializers.SessionName, json_object(request)).validated_data
        identifier = data["session_id"]
        if not actions.stop_viewer(identifier):
            raise NotFound(f"Session not found: {identifier}")
        return Response({"ok": True, "message": f"Session {identifier} stopped"})


@extend_schema(tags=["remote viewer"])
class ViewerSessions(RemoteView):
    @extend_schema(operation_id="list_remote_viewers", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """The viewers that run now."""
        return Response({"sessions": [session.describe() for session in viewers.active()]})


@extend_schema(tags=["remote viewer"])
class ViewerStatus(RemoteView):
    @extend_schema(operation_id="remote_viewer_status", responses={200: OBJECT})
    def get(self, request: Request, session_id: str) -> Response:
        """One viewer; `healthy` says whether it answers through its tunnel right now."""
        session = viewers.get(session_id)
        if session is None:
            raise NotFound(f"Session not found: {session_id}")
        return Response({**session.describe(), "healthy": run(session.is_healthy())})


# -- what a host has ---------------------------------------------------------------------------


def open_connection(identifier: str, loc: list[str | int]) -> Connection:
    user, _, peer = identifier.rpartition("@")
    if not user or not peer.rpartition(":")[2].isdecimal():
        raise InvalidInput(f"Invalid connection_id format: {identifier}", loc)
    if (connection := pool.get(identifier)) is None:
        raise NotFound(f"Connection not found or inactive: {identifier}")
    return connection


class HostView(RemoteView):
    def connection(self, request: Request) -> Connection:
        return open_connection(query(request, "connection_id"), ["query", "connection_id"])


@extend_schema(tags=["remote viewer"])
class Environments(HostView):
    @extend_schema(
        operation_id="remote_environments", parameters=[CONNECTION], responses={200: OBJECT}
    )
    def get(self, request: Request) -> Response:
        """The Pythons of the host; `is_default` is the one that a viewer would be started with."""
        there = run(environments.survey(self.connection(request)))
        chosen = environments.find(there, None) if there else None
        envs = [
            {
                "name": one.name,
                "type": one.type,
                "python_version": one.python_version,
                "path": one.path,
                "is_default": one is chosen,
                "runicorn_version": one.runicorn_version,
                "has_viewer": one.has_viewer,
            }
            for one in there
        ]
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
        connection = self.connection(request)
        there = run(environments.survey(connection))
        try:
            one = environments.find(there, request.query_params.get("conda_env"))
        except environments.Missing as error:
            raise NotFound(str(error)) from error
        found = run(environments.configuration(connection, one))
        return Response(
            {
                "ok": True,
                "condaEnv": one.name,
                "pythonVersion": one.python_version,
                "runicornVersion": one.runicorn_version,
                "defaultStorageRoot": found.get("root"),
                "storageRootExists": found.get("exists") is True,
                "suggestedRemotePort": found.get("port"),
                "connectionId": connection.id,
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
        connection = self.connection(request)
        scan_root = request.query_params.get("scan_root") or None
        text = request.query_params.get("max_depth", "3")
        if not re.fullmatch("[0-9]{1,9}", text):
            raise InvalidInput("max_depth must be a number from 1 to 8.", ["query", "max_depth"])
        depth = max(1, min(int(text), 8))
        name = request.query_params.get("conda_env")
        there = run(environments.survey(connection))
        try:  # 0.7's client says "system" for the default
            one = environments.find(there, None if name == "system" else name)
        except environments.Missing as error:
            raise NotFound(str(error)) from error
        found = run(environments.storage_folders(connection, one, scan_root, depth))
        return Response({"scan_root": scan_root, "max_depth": depth, "candidates": found})


@extend_schema(tags=["remote viewer"])
class ListFolder(HostView):
    @extend_schema(
        operation_id="remote_fs_list", parameters=[CONNECTION, PATH], responses={200: OBJECT}
    )
    def get(self, request: Request) -> Response:
        """A folder, hidden entries too, folders first."""
        connection = self.connection(request)
        folder = run(browse.list_folder(connection, request.query_params.get("path", "~")))
        items = [
            {
                "name": item.name,
                "is_dir": item.type == "dir",
                "size": item.size,
                "mtime": item.mtime,
            }
            for item in browse.folders_first(folder.items)
        ]
        return Response({"path": folder.path, "items": items})

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
        connection, path = self.connection(request), query(request, "path")
        is_dir = run(browse.look_up(connection, path))
        return Response({"path": path, "exists": is_dir is not None, "is_dir": is_dir is True})


# -- saved connections -------------------------------------------------------------------------


@extend_schema(tags=["remote viewer"])
class SavedConnections(RemoteView):
    @extend_schema(operation_id="saved_remote_connections", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """The saved connections, oldest first, without their secrets: `saved` names one."""
        return Response({"ok": True, "connections": config.ssh_connections()})

    @extend_schema(
        operation_id="save_remote_connections",
        request=OpenApiTypes.ANY,
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Save these connections, a list, instead of those that are saved. A secret that is kept
        and not sent again stays."""
        entries = json_list(request)
        try:
            config.replace_ssh_connections(entries)
        except (config.ConfigError, credentials.CredentialsError) as error:
            raise InvalidInput(f"Failed to save connections: {error}", ["body"]) from error
        return Response({"ok": True, "message": "Connections saved successfully"})
