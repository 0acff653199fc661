"""The unified API and the one before it: a connection, and what is synced over it."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from runicorn_site.clients import client_address
from runicorn_site.exceptions import InvalidInput
from runicorn_site.rest import json_object

from .. import browse, logins, mirror, serializers, ssh
from ..connections import UNIFIED, Connection, pool
from ..exceptions import (
    AuthenticationFailed,
    NotConnected,
    RemoteError,
    TimedOut,
    Unreachable,
)
from ..loop import run
from .base import OBJECT, PATH, SESSION, RemoteView, login_of, query

# -- unified -----------------------------------------------------------------------------------


@extend_schema(tags=["remote"])
class Connect(RemoteView):
    @extend_schema(
        operation_id="unified_connect", request=serializers.Login, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Log in to a host. 409 asks for its key to be confirmed first; 401, 408 as they say."""
        connection = self.connect(request, UNIFIED, json_object(request))
        return Response(
            {
                "ok": True,
                "status": "connected",
                "message": f"Successfully connected to {connection.address.host}",
                "connected": True,
                **_details(connection),
            }
        )

    def explain(self, error: RemoteError) -> str:
        prefixes = {
            Unreachable: "Unexpected error: ",
            AuthenticationFailed: "Authentication failed: ",
            TimedOut: "Connection failed: ",
            RemoteError: "SSH connection failed: ",
        }
        return prefixes.get(type(error), "") + str(error)


def _details(connection: Connection) -> dict[str, Any]:
    return {
        "connection_id": connection.id,
        "host": connection.address.host,
        "port": connection.address.port,
        "username": connection.address.username,
        "connected_at": connection.connected_at,
        "reference_count": len(connection.holders),
        "keepalive_seconds": ssh.KEEPALIVE_SECONDS,
        "compression_enabled": True,
        "stats": {
            "reconnect_count": connection.reconnect_count,
            "last_error": connection.last_error,
        },
    }


@extend_schema(tags=["remote"])
class Disconnect(RemoteView):
    @extend_schema(operation_id="unified_disconnect", request=None, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Give the current connection up; it closes unless somebody else holds it."""
        if pool.current is None:
            return Response({"ok": True, "message": "No active connection"})
        if any(one.is_alive for one in mirror.mirrors(UNIFIED)):
            message = "Connection is in use by active modes"
            active = {"smart_active": False, "mirror_active": True}
            return Response({"ok": False, "message": message, **active})
        run(mirror.stop_all(UNIFIED))
        run(pool.release(UNIFIED, pool.current))
        return Response({"ok": True, "message": "Disconnected successfully"})


@extend_schema(tags=["remote"])
class Status(RemoteView):
    @extend_schema(operation_id="unified_status", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """The current connection, and what is synced over it."""
        inactive = {"active": False}
        tasks = [one.describe() for one in mirror.mirrors(UNIFIED)]
        mirroring = {"active": any(task["alive"] for task in tasks)}
        shared = {
            "smart_mode": inactive,
            "mirror_mode": mirroring,
            "modes": {
                "smart": inactive,
                "mirror": {**mirroring, "tasks": tasks} if tasks else mirroring,
            },
        }
        connection = pool.current
        if connection is None or not connection.is_open:
            shown = {"connected": False, "connection_id": None}
            return Response({"connection": {"connected": False}, **shown, **shared})
        return Response(
            {
                "connection": {
                    **connection.describe(),
                    "uptime_seconds": time.time() - connection.connected_at,
                },
                "cached_experiments": 0,
                "cached_artifacts": 0,
                "connected": True,
                **_details(connection),
                **shared,
            }
        )


class StorageUnavailable(APIException):
    status_code = 503
    default_detail = "Remote storage module not available"


@extend_schema(tags=["remote"])
class ConfigureMode(RemoteView):
    @extend_schema(operation_id="unified_configure_mode", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Mirror the runs below `remote_root` of the connected host, every `mirror_interval` s."""
        body = json_object(request)
        mode = _mode(body)
        connection = pool.current
        if connection is None or not connection.is_open:
            raise NotConnected("No active SSH connection")
        if mode == "smart":
            raise StorageUnavailable
        one = run(_start_mirror(UNIFIED, connection, body, "mirror_interval"))
        return Response(
            {
                "ok": True,
                "mode": mode,
                "message": "Mirror mode configured successfully",
                "mirror_interval": one.interval,
                "config": {"remote_root": one.remote_root, "mirror_interval": one.interval},
            }
        )


@extend_schema(tags=["remote"])
class DeactivateMode(RemoteView):
    @extend_schema(operation_id="unified_deactivate_mode", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Stop syncing. What was copied stays."""
        mode = _mode(json_object(request))
        if mode == "mirror":
            run(mirror.stop_all(UNIFIED))
        message = f"{mode.capitalize()} mode deactivated"
        return Response({"ok": True, "mode": mode, "message": message})


def _mode(body: dict[str, Any]) -> str:
    if "mode" not in body:
        raise InvalidInput("mode is required", ["body", "mode"], "Field required")
    if body["mode"] not in ("smart", "mirror"):
        raise InvalidInput(f"Unknown mode: {body['mode']}", ["body", "mode"])
    return str(body["mode"])


async def _start_mirror(
    session_id: str, connection: Connection, body: dict[str, Any], interval_name: str
) -> mirror.Mirror:
    interval, remote_root = body.get(interval_name, 2.0), body.get("remote_root")
    if not isinstance(remote_root, str) or not remote_root or "\0" in remote_root:
        raise InvalidInput("remote_root is required for mirror mode", ["body", "remote_root"])
    if not isinstance(interval, int | float) or not 0 < interval < 86400:
        raise InvalidInput(f"{interval_name} must be a number of seconds", ["body", interval_name])
    local_root = settings.RUNICORN_STORAGE_ROOT
    return await mirror.start(session_id, connection, remote_root, local_root, interval)


@extend_schema(tags=["remote"])
class ListDirectory(RemoteView):
    @extend_schema(operation_id="unified_listdir", parameters=[PATH], responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """A folder of the connected host, without hidden entries."""
        connection = pool.current
        if connection is None or not connection.is_open:
            raise NotConnected("No active SSH connection. Please connect first.")
        folder = run(browse.list_folder(connection, request.query_params.get("path", "")))
        items = [_item(item) for item in folder.items if not item.name.startswith(".")]
        return Response({"ok": True, "current_path": folder.path, "items": items})


def _item(item: browse.Item) -> dict[str, Any]:
    return {
        "name": item.name,
        "path": item.path,
        "type": item.type,
        "size": item.size,
        "mtime": item.mtime,
    }


# -- the legacy API ----------------------------------------------------------------------------


class LegacyView(RemoteView):
    def body_text(self, request: Request, name: str) -> str:
        value = json_object(request).get(name)
        if not isinstance(value, str) or not value:
            raise InvalidInput(f"{name} required", ["body", name])
        return value


@extend_schema(tags=["ssh (legacy)"])
class SshConnect(LegacyView):
    @extend_schema(operation_id="ssh_connect", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Log in to a host; `pkey` is the text of a key, `pkey_path` a file."""
        body = json_object(request)
        if not body.get("saved") and not (body.get("host") and body.get("username")):
            raise InvalidInput("host and username are required", ["body"])
        login = login_of(request, serializers.legacy_login(body))
        address = login.address()
        with logins.attempt(address, client=client_address(request._request)):
            identifier = run(pool.open_session(address, login.credentials()))
        return Response({"ok": True, "session_id": identifier})

    def explain(self, error: RemoteError) -> str:
        return f"SSH connect failed: {error}"


@extend_schema(tags=["ssh (legacy)"])
class SshSessions(LegacyView):
    @extend_schema(operation_id="ssh_sessions", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        sessions = [
            {
                "id": identifier,
                "host": connection.address.host,
                "port": connection.address.port,
                "username": connection.address.username,
            }
            for identifier, connection in pool.sessions().items()
        ]
        return Response({"sessions": sessions})


@extend_schema(tags=["ssh (legacy)"])
class SshClose(LegacyView):
    @extend_schema(operation_id="ssh_close", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """End a session, and what it mirrors."""
        identifier = self.body_text(request, "session_id")
        run(mirror.stop_all(identifier))
        return Response({"ok": run(pool.close_session(identifier))})


@extend_schema(tags=["ssh (legacy)"])
class SshListDirectory(LegacyView):
    @extend_schema(operation_id="ssh_listdir", parameters=[SESSION, PATH], responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """A folder, hidden entries too, folders first. One that cannot be read is empty."""
        identifier = query(request, "session_id")
        connection = pool.session(identifier)
        if connection is None:
            raise NotFound(f"Session {identifier} not found")
        try:
            folder = run(browse.list_folder(connection, request.query_params.get("path", "")))
        except RemoteError as error:
            if error.status != 404:
                raise
            return Response({"items": []})
        items = [
            {
                **_item(item),
                "filename": item.name,
                "st_mode": item.mode,
                "st_size": item.size,
                "st_mtime": item.mtime,
            }
            for item in browse.folders_first(folder.items)
        ]
        return Response({"items": items})


@extend_schema(tags=["ssh (legacy)"])
class MirrorStart(LegacyView):
    @extend_schema(operation_id="ssh_mirror_start", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Copy the runs below `remote_root` into the storage root, and follow them."""
        body = json_object(request)
        identifier = body.get("session_id")
        if not identifier or not body.get("remote_root"):
            raise InvalidInput("session_id and remote_root are required", ["body"])
        connection = pool.session(str(identifier))
        if connection is None:
            raise NotFound(f"Session {identifier} not found")
        one = run(_start_mirror(str(identifier), connection, body, "interval"))
        names = ("id", "session_id", "remote_root", "local_root", "interval", "stats")
        task = one.describe()
        return Response({"ok": True, "task": {name: task[name] for name in names}})


@extend_schema(tags=["ssh (legacy)"])
class MirrorStop(LegacyView):
    @extend_schema(operation_id="ssh_mirror_stop", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Stop following. What was copied stays."""
        return Response({"ok": run(mirror.stop(self.body_text(request, "task_id")))})


@extend_schema(tags=["ssh (legacy)"])
class MirrorList(LegacyView):
    @extend_schema(operation_id="ssh_mirror_list", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        mirrors = [one.describe() for one in mirror.mirrors()]
        return Response({"mirrors": mirrors, "storage": str(settings.RUNICORN_STORAGE_ROOT)})
