"""What the views of this app have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.client_address import client_address
from core.http.exceptions import InvalidInput
from core.http.permissions import SeeOrChange

from .. import actions
from ..exceptions import HostKeyUnconfirmed, RemoteError
from ..models import Session
from ..owner.asking import rows
from ..ssh.transport import Login

OBJECT = OpenApiTypes.OBJECT
PATH = OpenApiParameter("path", str, description="Home if empty; `~` is the home folder.")
CONNECTION = OpenApiParameter("connection_id", str, required=True, description="`user@host:port`")
SESSION = OpenApiParameter("session_id", str, required=True)


class RemoteView(APIView):
    """Answers a RemoteError with its own status."""

    permission_classes: Sequence[Any] = (SeeOrChange,)

    def handle_exception(self, error: Exception) -> Response:
        if isinstance(error, HostKeyUnconfirmed):
            detail = {
                "code": "HOST_KEY_CONFIRMATION_REQUIRED",
                "message": str(error),
                "host_key": error.host_key,
            }
            return Response({"detail": detail}, status=error.status)
        if not isinstance(error, RemoteError):
            return super().handle_exception(error)
        if (retry_after := getattr(error, "retry_after", None)) is None:
            return Response({"detail": self.explain(error)}, status=error.status)
        body = {"detail": str(error), "retry_after": retry_after}
        return Response(body, status=error.status, headers={"Retry-After": str(retry_after)})

    def explain(self, error: RemoteError) -> str:
        return str(error)

    def login(self, request: Request, data: dict[str, Any]) -> dict[str, Any]:
        """Return the login in *data*, and who asked for it, as actions take them."""
        login: Login = actions.login_with(data, by=request.user)
        client = client_address(request._request)
        return {"login": login, "client": client, "by": request.user}


def query(request: Request, name: str) -> str:
    if not (value := request.query_params.get(name)):
        raise InvalidInput(f"{name} is required", ["query", name], "Field required")
    return value


def open_session(identifier: str, loc: list[str | int]) -> Session:
    """Return the open session of that ``user@host:port``."""
    user, _, peer = identifier.rpartition("@")
    if not user or not peer.rpartition(":")[2].isdecimal():
        raise InvalidInput(f"Invalid connection_id format: {identifier}", loc)
    session = rows(Session).filter(pk=identifier, is_open=True).first()
    if session is None:
        raise NotFound(f"Connection not found or inactive: {identifier}")
    return session


def legacy_session(identifier: str) -> Session:
    """Return the session that has this id in the legacy API."""
    for session in rows(Session):
        if identifier in session.legacy_sessions:
            return session
    raise NotFound(f"Session {identifier} not found")
