"""The unified API and the one before it: a connection, and what is synced over it."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.permissions import MayChange

from .. import actions
from ..actions import MIRROR, SMART, UNIFIED
from ..exceptions import (
    AuthenticationFailed,
    NotConnected,
    PathNotFound,
    RemoteError,
    TimedOut,
    Unreachable,
)
from ..models import Session, SyncJob
from ..owner.asking import ask, rows
from ..ssh import transport
from . import serializers
from .base import OBJECT, PATH, SESSION, RemoteView, legacy_session, query

# -- unified -----------------------------------------------------------------------------------


@extend_schema(tags=["remote"])
class Connect(RemoteView):
    @extend_schema(
        operation_id="unified_connect", request=serializers.Login, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Log in to a host. 409 asks for its key to be confirmed first; 401, 408 as they say."""
        data = serializers.Login.read(request)
        session = actions.connect(UNIFIED, **self.login(request, data))
        return Response(
            {
                "ok": True,
                "status": "connected",
                "message": f"Successfully connected to {session.host}",
                "connected": True,
                **_details(session),
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


def _details(session: Session) -> dict[str, Any]:
    return {
        "connection_id": session.id,
        "host": session.host,
        "port": session.port,
        "username": session.username,
        "connected_at": session.connected_at,
        "reference_count": len(session.holders),
        "keepalive_seconds": transport.KEEPALIVE_SECONDS,
        "compression_enabled": True,
        "stats": {
            "reconnect_count": session.reconnect_count,
            "last_error": session.last_error,
        },
    }


def _current(problem: str) -> Session:
    session = rows(Session).filter(is_current=True, is_open=True).first()
    if session is None:
        raise NotConnected(problem)
    return session


@extend_schema(tags=["remote"])
class Disconnect(RemoteView):
    @extend_schema(operation_id="unified_disconnect", request=None, responses={200: OBJECT})
    def post(self, request: Request) -> Response:
        """Give the current connection up; it closes unless somebody else holds it."""
        if not rows(Session).filter(is_current=True).exists():
            return Response({"ok": True, "message": "No active connection"})
        alive = SyncJob.objects.filter(session_id=UNIFIED, is_alive=True)
        modes = set(alive.values_list("mode", flat=True))
        if modes:
            active = {f"{mode}_active": mode in modes for mode in (SMART, MIRROR)}
            message = "Connection is in use by active modes"
            return Response({"ok": False, "message": message, **active})
        actions.release_unified(by=request.user)
        return Response({"ok": True, "message": "Disconnected successfully"})


@extend_schema(tags=["remote"])
class Status(RemoteView):
    @extend_schema(operation_id="unified_status", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """The current connection, and what is synced over it."""
        jobs = list(rows(SyncJob))
        session = Session.objects.filter(is_current=True, is_open=True).first()
        modes = _modes([job for job in jobs if job.session_id == UNIFIED])
        if session is None:
            none = {"connected": False, "connection_id": None}
            return Response({"connection": {"connected": False}, **none, **modes})
        theirs = [job for job in jobs if job.connection_id == session.id]
        return Response(
            {
                "connection": {
                    **session.describe(),
                    "uptime_seconds": time.time() - session.connected_at,
                },
                "cached_experiments": sum(job.cached_experiments for job in theirs),
                "cached_artifacts": sum(job.cached_artifacts for job in theirs),
                "connected": True,
                **_details(session),
                **modes,
            }
        )


def _modes(jobs: list[SyncJob]) -> dict[str, Any]:
    """Say what is synced in either mode, as three versions of the API do."""
    tasks = [job.describe() for job in jobs if job.mode == MIRROR]
    mirror: dict[str, Any] = {"active": any(task["alive"] for task in tasks)}
    smart = next((job for job in jobs if job.mode == SMART), None)
    short: dict[str, Any] = {"active": False}
    long = short
    if smart:
        short = {"active": smart.is_alive, "remote_root": smart.remote_root}
        long = {
            **short,
            "auto_sync": smart.auto_sync,
            "sync_interval_minutes": smart.interval / 60,
            "last_sync_at": smart.last_sync_at,
            "next_sync_at": smart.next_sync_at,
            "last_error": smart.last_error,
            "progress": smart.progress,
        }
    return {
        "smart_mode": long,
        "mirror_mode": mirror,
        "modes": {"smart": short, "mirror": {**mirror, "tasks": tasks} if tasks else mirror},
    }


@extend_schema(tags=["remote"])
class ConfigureMode(RemoteView):
    @extend_schema(
        operation_id="unified_configure_mode",
        request=serializers.ModeOptions,
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Sync the runs below `remote_root` of the connected host.

        `mirror` copies everything, every `mirror_interval` seconds. `smart` copies what lists
        need, every `sync_interval_seconds` (or `sync_interval_minutes`) unless `auto_sync` is
        false, and the rest of a run when it is opened, up to `max_cache_size_gb`.
        """
        mode = serializers.ModeName.read(request)["mode"]
        session = _current("No active SSH connection")
        data = serializers.ModeOptions.read(request)
        root = data["remote_root"]
        start: dict[str, Any] = {"session_id": UNIFIED, "by": request.user}
        answer: dict[str, Any] = {
            "ok": True,
            "mode": mode,
            "message": f"{mode.capitalize()} mode configured successfully",
        }
        if mode == MIRROR:
            job = actions.start_sync(
                MIRROR, session.id, root, interval=data["mirror_interval"], **start
            )
            config = {"remote_root": root, "mirror_interval": job.interval}
            return Response({**answer, "mirror_interval": job.interval, "config": config})
        gigabytes = data["max_cache_size_gb"]
        job = actions.start_sync(
            SMART,
            session.id,
            root,
            interval=data.get("sync_interval_seconds") or 60 * data["sync_interval_minutes"],
            auto_sync=data["auto_sync"],
            cache_bytes=int(gigabytes * 2**30),
            **start,
        )
        config = {
            "remote_root": root,
            "auto_sync": job.auto_sync,
            "sync_interval_minutes": job.interval / 60,
            "max_cache_size_gb": gigabytes,
        }
        return Response({**answer, "remote_root": root, "config": config})


@extend_schema(tags=["remote"])
class DeactivateMode(RemoteView):
    @extend_schema(
        operation_id="unified_deactivate_mode",
        request=serializers.ModeName,
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Stop syncing. What was copied stays."""
        mode = serializers.ModeName.read(request)["mode"]
        actions.stop_syncs(UNIFIED, mode, by=request.user)
        message = f"{mode.capitalize()} mode deactivated"
        return Response({"ok": True, "mode": mode, "message": message})


@extend_schema(tags=["remote"])
class ListDirectory(RemoteView):
    permission_classes = (MayChange,)

    @extend_schema(operation_id="unified_listdir", parameters=[PATH], responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """A folder of the connected host, without hidden entries."""
        session = _current("No active SSH connection. Please connect first.")
        path = request.query_params.get("path", "")
        folder = ask("list_folder", connection_id=session.id, path=path, recent=True)
        items = [_item(item) for item in folder["items"] if not item["name"].startswith(".")]
        return Response({"ok": True, "current_path": folder["path"], "items": items})


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("name", "path", "type", "size", "mtime")}


# -- the legacy API ----------------------------------------------------------------------------


@extend_schema(tags=["ssh (legacy)"])
class SshConnect(RemoteView):
    @extend_schema(
        operation_id="ssh_connect", request=serializers.LegacyLogin, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Log in to a host; `pkey` is the text of a key, `pkey_path` a file."""
        data = serializers.LegacyLogin.read(request)
        identifier = actions.open_legacy_session(**self.login(request, data))
        return Response({"ok": True, "session_id": identifier})

    def explain(self, error: RemoteError) -> str:
        return f"SSH connect failed: {error}"


@extend_schema(tags=["ssh (legacy)"])
class SshSessions(RemoteView):
    @extend_schema(operation_id="ssh_sessions", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        sessions = [
            {
                "id": identifier,
                "host": session.host,
                "port": session.port,
                "username": session.username,
            }
            for session in rows(Session)
            for identifier in session.legacy_sessions
        ]
        return Response({"sessions": sessions})


@extend_schema(tags=["ssh (legacy)"])
class SshClose(RemoteView):
    @extend_schema(
        operation_id="ssh_close", request=serializers.LegacySessionName, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """End a session, and what it mirrors."""
        identifier = serializers.LegacySessionName.read(request)["session_id"]
        return Response({"ok": actions.close_legacy_session(identifier, by=request.user)})


@extend_schema(tags=["ssh (legacy)"])
class SshListDirectory(RemoteView):
    permission_classes = (MayChange,)

    @extend_schema(operation_id="ssh_listdir", parameters=[SESSION, PATH], responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """A folder, hidden entries too, folders first. One that cannot be read is empty."""
        session = legacy_session(query(request, "session_id"))
        path = request.query_params.get("path", "")
        try:
            folder = ask("list_folder", connection_id=session.id, path=path)
        except PathNotFound:
            return Response({"items": []})
        items = [
            {
                **_item(item),
                "filename": item["name"],
                "st_mode": item["mode"],
                "st_size": item["size"],
                "st_mtime": item["mtime"],
            }
            for item in folders_first(folder["items"])
        ]
        return Response({"items": items})


def folders_first(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: (item["type"] != "dir", item["name"].lower()))


@extend_schema(tags=["ssh (legacy)"])
class MirrorStart(RemoteView):
    @extend_schema(
        operation_id="ssh_mirror_start",
        request=serializers.MirrorOptions,
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Copy the runs below `remote_root` into the storage root, and follow them."""
        data = serializers.MirrorOptions.read(request)
        session = legacy_session(data["session_id"])
        job = actions.start_sync(
            MIRROR,
            session.id,
            data["remote_root"],
            session_id=data["session_id"],
            interval=data["interval"],
            by=request.user,
        )
        names = ("id", "session_id", "remote_root", "local_root", "interval", "stats")
        task = job.describe()
        return Response({"ok": True, "task": {name: task[name] for name in names}})


@extend_schema(tags=["ssh (legacy)"])
class MirrorStop(RemoteView):
    @extend_schema(
        operation_id="ssh_mirror_stop",
        request=serializers.LegacyTaskName,
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Stop following. What was copied stays."""
        identifier = serializers.LegacyTaskName.read(request)["task_id"]
        return Response({"ok": actions.stop_sync(identifier, by=request.user)})


@extend_schema(tags=["ssh (legacy)"])
class MirrorList(RemoteView):
    @extend_schema(operation_id="ssh_mirror_list", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        mirrors = [job.describe() for job in rows(SyncJob).filter(mode=MIRROR)]
        return Response({"mirrors": mirrors, "storage": str(settings.RUNICORN_STORAGE_ROOT)})
