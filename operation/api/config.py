"""Configuration and preferences over HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.exceptions import InvalidInput
from core.http.fields import Body, Integer, OptionalText, Query, Text
from core.http.permissions import MayAdminister, MaySee
from runicorn import config, layout

from .. import storage_root

logger = logging.getLogger("runicorn.config")


class ServerFailed(APIException):
    status_code = 500


class Ok(serializers.Serializer):
    ok = serializers.BooleanField()
    message = serializers.CharField()


# -- the storage root --------------------------------------------------------------------------


class ConfigAnswer(serializers.Serializer):
    user_root_dir = serializers.CharField(allow_blank=True, help_text="Empty when unset.")
    storage = serializers.CharField(help_text="The root in effect.")
    config_file = serializers.CharField()
    version = serializers.CharField()


class RootRequest(Body):
    path = Text(
        help_text="Absolute; ~ and environment variables are filled in.",
        error_messages=dict.fromkeys(
            ("required", "null", "blank", "invalid"),
            "Invalid path or permission error: the path must be text, and absolute.",
        ),
    )


class RootAnswer(Ok):
    user_root_dir = serializers.CharField()
    storage = serializers.CharField()


@extend_schema(tags=["config"])
class Config(APIView):
    permission_classes = [MaySee]

    @extend_schema(operation_id="get_config", responses=ConfigAnswer)
    def get(self, request: Request) -> Response:
        """Return the folder in which runs are kept."""
        return Response(
            {
                "user_root_dir": config.user_root_dir(),
                "storage": str(settings.RUNICORN_STORAGE_ROOT),
                "config_file": str(config.config_file()),
                "version": settings.VERSION,
            }
        )


@extend_schema(tags=["config"])
class UserRootDir(APIView):
    permission_classes = [MayAdminister]

    @extend_schema(operation_id="set_user_root_dir", request=RootRequest, responses=RootAnswer)
    def post(self, request: Request) -> Response:
        """Keep runs in another folder from now on. Create it if it does not exist."""
        return change_root(RootRequest.read(request)["path"], by=request.user)


def change_root(path: str, *, by: Any) -> Response:
    try:
        root = config.absolute_path(path)
        storage_root.use_root(root, by=by)
    except (config.ConfigError, storage_root.CannotMove, OSError) as error:
        raise InvalidInput(
            f"Invalid path or permission error: {error}", ["body", "path"]
        ) from error
    return Response(
        {
            "ok": True,
            "user_root_dir": str(root),
            "storage": str(settings.RUNICORN_STORAGE_ROOT),
            "message": "User root directory updated successfully",
        }
    )


# -- preferences of pages ----------------------------------------------------------------------


class ColumnWidthsAnswer(serializers.Serializer):
    table = serializers.CharField()
    size = serializers.CharField()
    widths = serializers.DictField(child=serializers.IntegerField())


class ColumnWidthsRequest(Body):
    table = Text()
    size = Text()
    widths = serializers.DictField(child=Integer())
    window_width = Integer(required=False)
    window_height = Integer(required=False)


class WidthsQuery(Query):
    table = Text(allow_blank=True)
    size = Text(allow_blank=True)


class ResetQuery(Query):
    table = Text(allow_blank=True)
    size = OptionalText(help_text="Without it: all sizes.")


@extend_schema(tags=["ui-preferences"])
class ColumnWidths(APIView):
    permission_classes = [MaySee]

    @extend_schema(
        operation_id="get_column_widths",
        parameters=[WidthsQuery],
        responses=ColumnWidthsAnswer,
    )
    def get(self, request: Request) -> Response:
        """Return the widths of a table's columns on windows of that size."""
        params = WidthsQuery.read(request)
        table, size = params["table"], params["size"]
        saved = _widths(config.load(_preferences())).get(f"{table}@{size}")
        widths = saved.get("widths") if isinstance(saved, dict) else None
        return Response({"table": table, "size": size, "widths": widths or {}})

    @extend_schema(operation_id="save_column_widths", request=ColumnWidthsRequest, responses=Ok)
    def post(self, request: Request) -> Response:
        entry = {**ColumnWidthsRequest.read(request), "updated_at": time.time()}
        key = f"{entry.pop('table')}@{entry.pop('size')}"
        _remember(lambda data: {"column_widths": _widths(data) | {key: entry}})
        return Response({"ok": True, "message": "Column width preferences saved"})

    @extend_schema(
        operation_id="reset_column_widths",
        parameters=[ResetQuery],
        responses={200: Ok},
    )
    def delete(self, request: Request) -> Response:
        params = ResetQuery.read(request)
        table, size = params["table"], params.get("size")

        def without_table(data: dict[str, Any]) -> dict[str, Any]:
            start = f"{table}@"
            return {
                "column_widths": {
                    key: entry
                    for key, entry in _widths(data).items()
                    if not (key == f"{start}{size}" if size else key.startswith(start))
                }
            }

        _remember(without_table)
        return Response({"ok": True, "message": "Column width preferences reset"})


class DismissedAlertsAnswer(serializers.Serializer):
    dismissed_alerts = serializers.ListField(child=serializers.CharField())


class AlertRequest(Body):
    alert_id = Text(max_length=200)


@extend_schema(tags=["ui-preferences"])
class DismissedAlerts(APIView):
    permission_classes = [MaySee]

    @extend_schema(operation_id="list_dismissed_alerts", responses=DismissedAlertsAnswer)
    def get(self, request: Request) -> Response:
        return Response({"dismissed_alerts": _dismissed(config.load(_preferences()))})


@extend_schema(tags=["ui-preferences"])
class ChangeDismissedAlerts(APIView):
    permission_classes = [MaySee]

    @extend_schema(
        operation_id="change_dismissed_alerts",
        parameters=[
            OpenApiParameter(
                "verb", str, OpenApiParameter.PATH, enum=["dismiss", "undismiss", "clear"]
            )
        ],
        request=AlertRequest,
        responses=Ok,
    )
    def post(self, request: Request, verb: str) -> Response:
        """Dismiss an alert, show it again, or show all of them again."""
        if verb == "clear":
            _remember(lambda data: {"dismissed_alerts": []})
            return Response({"ok": True, "message": "All dismissed alerts cleared"})
        if verb not in ("dismiss", "undismiss"):
            raise NotFound("Not Found")
        alert = AlertRequest.read(request)["alert_id"]
        added = [alert] if verb == "dismiss" else []
        _remember(
            lambda data: {"dismissed_alerts": [a for a in _dismissed(data) if a != alert] + added}
        )
        done = "dismissed" if verb == "dismiss" else "restored"
        return Response({"ok": True, "message": f"Alert '{alert}' {done}"})


def _preferences() -> Any:
    return layout.user_config_dir() / "ui_preferences.json"


def _remember(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    try:
        config.change(lambda data: {**data, **change(data)}, _preferences())
    except (OSError, TimeoutError, config.ConfigError) as error:
        logger.error("%s could not be written: %s", _preferences(), error)
        raise ServerFailed("Failed to save UI preferences") from error


def _widths(data: dict[str, Any]) -> dict[str, Any]:
    widths = data.get("column_widths")
    return widths if isinstance(widths, dict) else {}


def _dismissed(data: dict[str, Any]) -> list[str]:
    alerts = data.get("dismissed_alerts")
    return [a for a in alerts if isinstance(a, str)] if isinstance(alerts, list) else []
