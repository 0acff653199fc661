import os
from importlib import import_module
from typing import Any

from core import memory

memory.keep_flat()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.local")

import django

django.setup(set_prefix=False)  # loads the apps, which the modules below need

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from daphne.ws_protocol import WebSocketFactory
from django.conf import settings
from django.urls import re_path

from runs.logs.routing import websocket_urlpatterns

from core.http import long_requests
from core.http.local_user import LocalUserForWebSockets
from core.http.threads import Handler, own_thread
from core.http.websockets import (
    DenyingWebSocketProtocol,
    GuardWebSockets,
    LimitWebSockets,
    not_found,
)

WebSocketFactory.protocol = DenyingWebSocketProtocol
long_requests.install()

everything_else: Any = not_found  # Django's stubs know no routes to consumers
consumers = URLRouter([*websocket_urlpatterns, re_path("", everything_else)])
by_protocol = ProtocolTypeRouter(
    {
        "http": Handler(),
        "websocket": GuardWebSockets(
            LimitWebSockets(AuthMiddlewareStack(LocalUserForWebSockets(consumers)))
        ),
    }
)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve a request under the sub-path of the settings; daphne would believe any header."""
    sub_path = settings.FORCE_SCRIPT_NAME or ""
    is_below = scope["path"].startswith(f"{sub_path}/")
    scope = {**scope, "root_path": sub_path if is_below else ""}
    if scope["type"] != "http":
        await by_protocol(scope, receive, send)
        return
    async with own_thread():
        await by_protocol(scope, receive, send)


import_module(settings.ROOT_URLCONF)  # before the first request, so that errors show at the start
memory.freeze()
