"""What ``client.remote`` uses: connections by their name, and folders there."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from runicorn_site.exceptions import InvalidInput
from runicorn_site.rest import json_object

from .. import browse, mirror, serializers, ssh
from ..connections import VIEWER, Connection, pool
from ..exceptions import NotConnected, RemoteError
from ..loop import run
from .base import CONNECTION, OBJECT, PATH, RemoteView, query, valid
from .sync import StorageUnavailable


@extend_schema(tags=["remote viewer"])
class RemoteConnect(RemoteView):
    @extend_schema(
        operation_id="remote_connect", request=serializers.Login, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Log in to a host and keep the connection for the requests that name it."""
        body = json_object(request)
        if "remote_root" in body:  # remote storage of 0.4 has the same path
            raise StorageUnavailable("Remote storage module is not available")
        login = valid(serializers.Login, body)
        connection = run(pool.connect(VIEWER, login.address(), login.credentials()))
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
        if not request.body:
            raise NotConnected("Not connected to remote server")
        peer = valid(serializers.Peer, json_object(request)).validated_data
        if not pool.all():
            return Response({"ok": False, "message": "No connection pool"})
        run(mirror.stop_on(str(ssh.Address(peer["host"], peer["port"], peer["username"]))))
        was_open = run(pool.close(peer["host"], peer["port"], peer["username"]))
        message = "Connection removed" if was_open else "Connection not found"
        return Response({"ok": was_open, "message": message})


@extend_schema(tags=["remote viewer"])
class RemoteStatus(RemoteView):
    @extend_schema(operation_id="remote_status", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        connections = [{"key": c.id, **c.describe()} for c in pool.all()]
        return Response(
            {
                "mode": "local",
                "connected": False,
                "status": "disconnected",
                "sync_progress": None,
                "stats": None,
                "connections": connections,
                "viewer_sessions": [],
                "connection_count": len(connections),
                "viewer_session_count": 0,
            }
        )


class FileSystemView(RemoteView):
    def connection(self, request: Request) -> Connection:
        identifier = query(request, "connection_id")
        user, _, peer = identifier.rpartition("@")
        if not user or not peer.rpartition(":")[2].isdecimal():
            raise InvalidInput(
                f"Invalid connection_id format: {identifier}", ["query", "connection_id"]
            )
        if (connection := pool.get(identifier)) is None:
            raise NotFound(f"Connection not found or inactive: {identifier}")
        return connection


@extend_schema(tags=["remote viewer"])
class ListFolder(FileSystemView):
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
class PathExists(FileSystemView):
    @extend_schema(
        operation_id="remote_fs_exists",
        parameters=[CONNECTION, OpenApiParameter("path", str, required=True)],
        responses={200: OBJECT},
    )
    def get(self, request: Request) -> Response:
        connection, path = self.connection(request), query(request, "path")
        is_dir = run(browse.look_up(connection, path))
        return Response({"path": path, "exists": is_dir is not None, "is_dir": is_dir is True})
