import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.local")

from django.core.asgi import get_asgi_application

http = get_asgi_application()  # loads the apps, which the modules below need

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from daphne.ws_protocol import WebSocketFactory
from django.urls import re_path

from runs.routing import websocket_urlpatterns

from .owner import ActAsOwner
from .websockets import DenyingWebSocketProtocol, GuardWebSockets, LimitWebSockets, not_found

WebSocketFactory.protocol = DenyingWebSocketProtocol

consumers = URLRouter([*websocket_urlpatterns, re_path("", not_found)])
application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": GuardWebSockets(LimitWebSockets(AuthMiddlewareStack(ActAsOwner(consumers)))),
    }
)
