"""The unified API and the one before it: a connection, and what is synced over it."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.client_address import client_address
from core.http.exceptions import InvalidInput
from core.http.rest import json_object

from ..exceptions import AuthenticationFailed, NotConnected, RemoteError, TimedOut, Unreachable
from ..ssh import auth, browse, transport
from ..ssh.connections import UNIFIED, Connection, pool
from ..ssh.listing_cache import list_recently
from ..ssh.loop import run
from ..sync import cache, registry
from . import serializers
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
        "keepalive_seconds": transport.KEEPALIVE_SECONDS,
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
        active = {
            f"{mode}_active": any(one.is_alive for one in registry.syncs(UNIFIED, mode))
            for mode in (registry.SMART, registry.MIRROR)
        }
        if any(active.values()):
            message = "Connection is in use by active modes"
            return Response({"ok": False, "message": message, **active})
        run(registry.stop_all(UNIFIED))
        run(pool.release(UNIFIED, pool.current))
        return Response({"ok": True, "message": "Disconnected successfully"})


@extend_schema(tags=["remote"])
class Status(RemoteView):
    @extend_schema(operation_id="unified_status", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """The current connection, and what is synced over it."""
        shared = _modes()
        connection = pool.current
        if connection is None or not connection.is_open:
            shown = {"connected": False, "connection_id": None}
            return Response({"connection": {"connected": False}, **shown, **shared})
        syncs = [one for one in registry.syncs() if one.connection is connection]
        return Response(
            {
                "connection": {
                    **connection.describe(),
                    "uptime_seconds": time.time() - connection.connected_at,
                },
                "cached_experiments": sum(one.cached_experiments for one in syncs),
                "cached_artifacts": sum(one.cached_artifacts for one in syncs),
                "connected": True,
                **_details(connection),
                **shared,
            }
        )


def _modes() -> dict[str, Any]:
    """What is synced in either mode, as three versions of the API tell it."""
    tasks = [one.describe() for one in registry.syncs(UNIFIED, registry.MIRROR)]
    mirroring: dict[str, Any] = {"active": any(task["alive"] for task in tasks)}
    smart = next(iter(registry.syncs(UNIFIED, registry.SMART)), None)
    shown: dict[str, Any] = {"active": False}
    short = shown
    if smart:
        task = smart.describe()
        short = {"active": smart.is_alive, "remote_root": smart.remote_root}
        shown = {
            **short,
            "auto_sync": smart.auto_sync,
            "sync_interval_minutes": smart.interval / 60,
            "last_sync_at": smart.last_sync_at,
            "next_sync_at": smart.next_sync_at,
            "last_error": smart.last_error,
            "progress": task["progress"],
        }
    return {
        "smart_mode": shown,
        "mirror_mode": mirroring,
        "modes": {
            "smart": short,
            "mirror": {**mirroring, "tasks": tasks} if tasks else mirroring,
        },
    }


@extend_schema(tags=["remote"])
class ConfigureMode(RemoteView):
    @extend_schema(operation_id="unified_configure_mode", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Sync the runs below `remote_root` of the connected host.

        `mirror` copies everything, every `mirror_interval` seconds. `smart` copies what lists
        need, every `sync_interval_seconds` (or `sync_interval_minutes`) unless `auto_sync` is
        false, and the rest of a run when it is opened, up to `max_cache_size_gb`.
        """
        body = json_object(request)
        mode = _mode(body)
        connection = pool.current
        if connection is None or not connection.is_open:
            raise NotConnected("No active SSH connection")
        root = _remote_root(body, f"remote_root is required for {mode} mode")
        answer: dict[str, Any] = {
            "ok": True,
            "mode": mode,
            "message": f"{mode.capitalize()} mode configured successfully",
        }
        if mode == registry.MIRROR:
            interval = _seconds(body, "mirror_interval", 2.0)
            one = _start(registry.MIRROR, UNIFIED, connection, root, interval)
            config = {"remote_root": root, "mirror_interval": one.interval}
            return Response({**answer, "mirror_interval": one.interval, "config": config})
        if "sync_interval_seconds" in body:
            interval = _seconds(body, "sync_interval_seconds", 0)
        else:
            interval = 60 * _seconds(body, "sync_interval_minutes", 5)
        auto_sync = body.get("auto_sync", True)
        if not isinstance(auto_sync, bool):
            raise InvalidInput("auto_sync must be true or false", ["body", "auto_sync"])
        gigabytes = _seconds(body, "max_cache_size_gb", cache.DEFAULT_BYTES / 2**30)
        one = _start(
            registry.SMART,
            UNIFIED,
            connection,
            root,
            interval,
            auto_sync=auto_sync,
            cache_bytes=int(gigabytes * 2**30),
        )
        config = {
            "remote_root": root,
            "auto_sync": auto_sync,
            "sync_interval_minutes": one.interval / 60,
            "max_cache_size_gb": gigabytes,
        }
        return Response({**answer, "remote_root": root, "config": config})


@extend_schema(tags=["remote"])
class DeactivateMode(RemoteView):
    @extend_schema(operation_id="unified_deactivate_mode", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Stop syncing. What was copied stays."""
        mode = _mode(json_object(request))
        run(registry.stop_all(UNIFIED, mode))
        message = f"{mode.capitalize()} mode deactivated"
        return Response({"ok": True, "mode": mode, "message": message})


def _mode(body: dict[str, Any]) -> str:
    if "mode" not in body:
        raise InvalidInput("mode is required", ["body", "mode"], "Field required")
    if body["mode"] not in (registry.SMART, registry.MIRROR):
        raise InvalidInput(f"Unknown mode: {body['mode']}", ["body", "mode"])
    return str(body["mode"])


def _remote_root(body: dict[str, Any], problem: str) -> str:
    root = body.get("remote_root")
    if not isinstance(root, str) or not root or "\0" in root:
        raise InvalidInput(problem, ["body", "remote_root"])
    return root


def _seconds(body: dict[str, Any], name: str, default: float) -> float:
    value = body.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < 86400:
        raise InvalidInput(f"{name} must be a positive number", ["body", name])
    return float(value)


def _start(
    mode: str,
    session_id: str,
    connection: Connection,
    remote_root: str,
    interval: float,
    **options: Any,
) -> registry.Sync:
    root = settings.RUNICORN_STORAGE_ROOT
    return run(registry.start(mode, session_id, connection, remote_root, root, interval, **options))


@extend_schema(tags=["remote"])
class ListDirectory(RemoteView):
    @extend_schema(operation_id="unified_listdir", parameters=[PATH], responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """A folder of the connected host, without hidden entries."""
        connection = pool.current
        if connection is None or not connection.is_open:
            raise NotConnected("No active SSH connection. Please connect first.")
        folder = run(list_recently(connection, request.query_params.get("path", "")))
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
        with auth.attempt(address, client=client_address(request._request)):
            credentials = auth.allowed(login.credentials(), by=request.user)
            identifier = run(pool.open_session(address, credentials))
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
        run(registry.stop_all(identifier))
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
        root = _remote_root(body, "session_id and remote_root are required")
        interval = _seconds(body, "interval", 2.0)
        one = _start(registry.MIRROR, str(identifier), connection, root, interval)
        names = ("id", "session_id", "remote_root", "local_root", "interval", "stats")
        task = one.describe()
        return Response({"ok": True, "task": {name: task[name] for name in names}})


@extend_schema(tags=["ssh (legacy)"])
class MirrorStop(LegacyView):
    @extend_schema(operation_id="ssh_mirror_stop", request=OBJECT, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Stop following. What was copied stays."""
        return Response({"ok": run(registry.stop(self.body_text(request, "task_id")))})


@extend_schema(tags=["ssh (legacy)"])
class MirrorList(LegacyView):
    @extend_schema(operation_id="ssh_mirror_list", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        mirrors = [one.describe() for one in registry.syncs(mode=registry.MIRROR)]
        return Response({"mirrors": mirrors, "storage": str(settings.RUNICORN_STORAGE_ROOT)})
