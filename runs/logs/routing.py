from django.urls import path

from .consumers import LogConsumer

websocket_urlpatterns = [
    path("api/runs/<str:run_id>/logs/ws", LogConsumer.as_asgi(), name="run-log"),
]
