"""The saved SSH connections: by the routes of the configuration, and by that of the viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.exceptions import InvalidInput
from core.http.origin_policy import is_same_origin
from core.http.permissions import MayAdminister
from core.http.rest import json_list
from runicorn import config, credentials

from .. import actions
from . import serializers
from .base import OBJECT, RemoteView


def _changed(verb: str, change: Callable[[], Any]) -> Any:
    try:
        return change()
    except (config.ConfigError, credentials.CredentialsError, OSError, TimeoutError) as error:
        raise InvalidInput(f"Failed to {verb}: {error}", ["body"]) from error


@extend_schema(tags=["config"])
class SavedHostList(APIView):
    permission_classes = (MayAdminister,)

    @extend_schema(operation_id="list_ssh_connections", responses=serializers.ShownHosts)
    def get(self, request: Request) -> Response:
        """The saved connections, oldest first, without their secrets."""
        return Response({"connections": config.ssh_connections()})

    @extend_schema(
        operation_id="save_ssh_connection",
        request=serializers.SavedHost,
        responses=serializers.HostSaved,
    )
    def post(self, request: Request) -> Response:
        """Save a connection. Secrets are kept, encrypted, only with ``remember_password``."""
        entry = serializers.SavedHost.read(request)
        key = _changed("save connection", lambda: actions.save_host(entry, by=request.user))
        return Response({"ok": True, "message": "SSH connection saved successfully", "key": key})


@extend_schema(tags=["config"])
class SavedHost(APIView):
    permission_classes = (MayAdminister,)

    @extend_schema(operation_id="delete_ssh_connection", responses={200: OBJECT})
    def delete(self, request: Request, key: str) -> Response:
        """Forget a connection; it is no error if there is none."""
        _changed("remove connection", lambda: actions.remove_host(key, by=request.user))
        return Response({"ok": True, "message": "SSH connection deleted successfully"})


class FromOwnPages(BasePermission):
    message = "Pages of other sites may not read this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return is_same_origin(request._request)


@extend_schema(tags=["config"])
class SavedHostDetails(APIView):
    permission_classes = (FromOwnPages, MayAdminister)

    @extend_schema(
        operation_id="get_ssh_connection_details",
        responses={200: serializers.HostDetails, 403: None},
    )
    def get(self, request: Request, key: str) -> Response:
        """One connection, without its secrets but saying which there are."""
        connection = config.shown_ssh_connection(key)
        if connection is None:
            raise NotFound(f"Connection not found: {key}")
        answer = Response({"ok": True, "connection": connection})
        answer["Cache-Control"] = "no-store"
        return answer


@extend_schema(tags=["remote viewer"])
class SavedConnections(RemoteView):
    permission_classes = (MayAdminister,)

    @extend_schema(operation_id="saved_remote_connections", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        """The saved connections, oldest first, without their secrets: `saved` names one."""
        return Response({"ok": True, "connections": config.ssh_connections()})

    @extend_schema(
        operation_id="save_remote_connections",
        request=serializers.SavedHost(many=True),
        responses={200: OBJECT},
    )
    def post(self, request: Request) -> Response:
        """Save these connections, a list, instead of those that are saved. A secret that is kept
        and not sent again stays."""
        entries = [serializers.SavedHost.check(entry) for entry in json_list(request)]
        _changed("save connections", lambda: actions.replace_hosts(entries, by=request.user))
        return Response({"ok": True, "message": "Connections saved successfully"})
