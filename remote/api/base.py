"""What the views of this app have in common."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from core.http.client_address import client_address
from core.http.exceptions import InvalidInput

from ..exceptions import HostKeyUnconfirmed, RemoteError, TooManyAttempts
from ..ssh import auth
from ..ssh.connections import Connection
from . import serializers

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
        if isinstance(error, TooManyAttempts):
            body = {"detail": str(error), "retry_after": error.retry_after}
            headers = {"Retry-After": str(error.retry_after)}
            return Response(body, status=error.status, headers=headers)
        if isinstance(error, RemoteError):
            return Response({"detail": self.explain(error)}, status=error.status)
        return super().handle_exception(error)

    def connect(self, request: Request, holder: str, body: dict[str, Any]) -> Connection:
        """The connection that *body* asks for."""
        login = login_of(request, body)
        client = client_address(request._request)
        address, credentials = login.address(), login.credentials()
        return auth.connect(holder, address, credentials, client=client, by=request.user)

    def explain(self, error: RemoteError) -> str:
        return str(error)


def valid(kind: type[Serializer], body: dict[str, Any]) -> Any:
    serializer = kind(data=body)
    serializer.is_valid(raise_exception=True)
    return serializer


def login_of(request: Request, body: dict[str, Any]) -> serializers.Login:
    """The login in *body*, completed by the saved connection that it may name."""
    if isinstance(name := body.get("saved"), str) and name:
        body = auth.from_saved(auth.saved(name, by=request.user), body)
    login: serializers.Login = valid(serializers.Login, body)
    return login


def query(request: Request, name: str) -> str:
    if not (value := request.query_params.get(name)):
        raise InvalidInput(f"{name} is required", ["query", name], "Field required")
    return value
