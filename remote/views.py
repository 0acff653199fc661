"""Hosts reached over SSH (``contract/remote.md``): connections, folders, host keys."""

from __future__ import annotations

import time
from typing import Any

import asyncssh
from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from runicorn_site.exceptions import InvalidInput
from runicorn_site.rest import json_object

from . import browse, known_hosts, mirror, serializers, ssh
from .connections import UNIFIED, VIEWER, Connection, pool
from .exceptions import (
    AuthenticationFailed,
    HostKeyUnconfirmed,
    NotConnected,
    RemoteError,
    TimedOut,
    Unreachable,
)
from .loop import run

OBJECT = OpenApiTypes.OBJECT
PATH = OpenApiParameter("path", str, description="Home if empty; `~` is the home folder.")
CONNECTION = OpenApiParameter("connection_id", str, required=True, description="`user@host:port`")
SESSION = OpenApiParameter("session_id", str, required=True)


class RemoteView(APIView):
    """Answers a RemoteError with its own status."""

    def handle_exception(self, error: Exception) -> Response:
        if isinstance(error, HostKeyUnconfirmed):
            detail = {
                "code": "HOST_KEY_CONFIRMATION_REQUIRED",
                "message": str(error),
                "host_key": error.host_key,
            }
            return Response({"detail": detail}, status=error.status)
        if isinstance(error, RemoteError):
            return Response({"detail": self.explain(error)}, status=error.status)
        return super().handle_exception(error)

    def explain(self, error: RemoteError) -> str:
        return str(error)


def _valid(kind: type[Serializer], body: dict[str, Any]) -> Any:
    serializer = kind(data=body)
    serializer.is_valid(raise_exception=True)
    return serializer


def _query(request: Request, name: str) -> str:
    if not (value := request.query_params.get(name)):
        raise InvalidInput(f"{name} is required", ["query", name], "Field required")
    return value


# -- unified -----------------------------------------------------------------------------------


@extend_schema(tags=["remote"])
class Connect(RemoteView):
    @extend_schema(
        operation_id="unified_connect", request=serializers.Login, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Log in to a host. 409 asks for its key to be confirmed first; 401, 408 as they say."""
        login = _valid(serializers.Login, json_object(request))
        address, credentials = login.address(), login.credentials()
        connection = run(pool.connect(UNIFIED, address, credentials))
        return Response(
            {
                "ok": True,
                "status": "connected",
                "message": f"Successfully connected to {address.host}",
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
        if not body.get("host") or not body.get("username"):
            raise InvalidInput("host and username are required", ["body"])
        login = _valid(serializers.Login, serializers.legacy_login(body))
        identifier = run(pool.open_session(login.address(), login.credentials()))
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
        identifier = _query(request, "session_id")
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


# -- what ``client.remote`` uses ---------------------------------------------------------------


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
        login = _valid(serializers.Login, body)
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
        peer = _valid(serializers.Peer, json_object(request)).validated_data
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
        identifier = _query(request, "connection_id")
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
        connection, path = self.connection(request), _query(request, "path")
        is_dir = run(browse.look_up(connection, path))
        return Response({"path": path, "exists": is_dir is not None, "is_dir": is_dir is True})


# -- host keys ---------------------------------------------------------------------------------


@extend_schema(tags=["host keys"])
class AcceptHostKey(RemoteView):
    @extend_schema(
        operation_id="accept_host_key", request=serializers.HostKey, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Trust this key for this host from now on: what the 409 said, once a person agreed."""
        data = _valid(serializers.HostKey, json_object(request)).validated_data
        known_hosts.accept(_host(data["host"]), data["port"], _host_key(data))
        return Response({"ok": True})


@extend_schema(tags=["host keys"])
class HostKeys(RemoteView):
    @extend_schema(operation_id="list_host_keys", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        return Response({"entries": known_hosts.entries()})


@extend_schema(tags=["host keys"])
class RemoveHostKey(RemoteView):
    @extend_schema(
        operation_id="remove_host_key", request=serializers.HostKeyName, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Trust no key of this type for this host any more."""
        data = _valid(serializers.HostKeyName, json_object(request)).validated_data
        host, key_type = _host(data["host"]), _word(data, "key_type")
        return Response({"ok": True, "changed": known_hosts.remove(host, data["port"], key_type)})


def _host(host: str) -> str:
    if not ssh.HOST.fullmatch(host):
        raise InvalidInput("Invalid host", ["body", "host"])
    return host


def _word(data: dict[str, Any], name: str) -> str:
    if len(data[name].split()) != 1 or data[name].strip() != data[name]:
        raise InvalidInput(f"Invalid {name}", ["body", name])
    return str(data[name])


def _host_key(data: dict[str, Any]) -> asyncssh.SSHKey:
    """The key, if it is one and is what the person saw."""
    key_type, fingerprint = _word(data, "key_type"), _word(data, "fingerprint_sha256")
    if not fingerprint.startswith("SHA256:"):
        raise InvalidInput("Invalid fingerprint_sha256", ["body", "fingerprint_sha256"])
    try:
        key = asyncssh.import_public_key(data["public_key"])
    except (asyncssh.KeyImportError, ValueError) as error:
        raise InvalidInput(f"Invalid public_key: {error}", ["body", "public_key"]) from error
    if key.get_algorithm() != key_type:
        raise InvalidInput("key_type does not match public_key", ["body", "key_type"])
    if key.get_fingerprint() != fingerprint:
        raise InvalidInput(
            "fingerprint_sha256 does not match public_key", ["body", "fingerprint_sha256"]
        )
    return key
