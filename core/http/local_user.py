"""The local user: by default, the person at the machine may do everything."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import AbstractBaseUser
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from .client_address import is_from_this_machine

USERNAME = "owner"


def local_user() -> AbstractBaseUser:
    """Return the user who runs the server; create it when first needed, without a password."""
    user, _ = get_user_model().objects.get_or_create(
        username=USERNAME,
        defaults={"is_staff": True, "is_superuser": True, "password": make_password(None)},
    )
    return user


class LocalUserMiddleware:
    """Treat a request from this machine as the local user's unless somebody has signed in.

    The user is looked up on first use: most API requests never need it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.RUNICORN_LOCAL_USER and is_from_this_machine(request):
            user = request.user
            lazy: Any = SimpleLazyObject(lambda: user if user.is_authenticated else local_user())
            request.user = lazy
        return self.get_response(request)


class LocalUserForWebSockets:
    """Do the same for WebSockets, around an ASGI application."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        handshake = ASGIRequest({**scope, "method": "GET"}, BytesIO())
        if (
            settings.RUNICORN_LOCAL_USER
            and not scope["user"].is_authenticated
            and is_from_this_machine(handshake)
        ):
            scope = {**scope, "user": await sync_to_async(local_user)()}
        await self.app(scope, receive, send)


class DjangoUser(BaseAuthentication):
    """Authenticate as the user that the middleware has set.

    No CSRF token is needed: ``origin_policy.refuse_cross_site`` keeps other sites out.
    """

    def authenticate(self, request: Request) -> tuple[Any, None]:
        return request._request.user, None
