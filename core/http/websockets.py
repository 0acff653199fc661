"""The ASGI layers between the network and the WebSocket consumers."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import Any

from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from . import errors, rate_limits
from .client_address import client_address
from .doors import NOT_FOUND, json_error
from .origin_policy import comes_from_allowed_page, cross_site_refusal

CONCURRENT = 10
"""Open log streams per client, counted in each server process separately."""


def handshake(scope: dict[str, Any]) -> HttpRequest:
    """Return the HTTP request that asks for the WebSocket."""
    return ASGIRequest({**scope, "method": "GET"}, BytesIO())


async def refuse(response: HttpResponse, receive: Any, send: Any) -> None:
    """Answer the handshake with *response*: ASGI's "WebSocket Denial Response"."""
    await receive()  # websocket.connect
    headers = [(name.encode(), value.encode()) for name, value in response.items()]
    start = {"status": response.status_code, "headers": headers}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": response.content})


async def not_found(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Refuse a WebSocket at an address without a consumer (an ASGI application)."""
    await refuse(json_error(404, NOT_FOUND), receive, send)


class GuardWebSockets:
    """Refuse WebSockets of other sites' pages and host names, which browsers would allow."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        request = handshake(scope)
        try:
            allowed = bool(request.get_host()) and comes_from_allowed_page(request)
        except DisallowedHost as error:
            await refuse(errors.bad_request(request, error), receive, send)
        else:
            if allowed:
                await self._serve(scope, receive, send)
            else:
                await refuse(cross_site_refusal(request), receive, send)

    async def _serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve the WebSocket; answer trouble of the machine like any request if still possible."""
        is_answered = False

        async def note_and_send(message: dict[str, Any]) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self.app(scope, receive, note_and_send)
        except Exception as error:
            api_error = None if is_answered else errors.translated(error)
            if api_error is None:
                raise
            request = handshake(scope)
            await refuse(errors.refuse(request, api_error, error), receive, send)


class LimitWebSockets:
    """Allow CONCURRENT open connections per client; answer 429 to a further one."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        request = handshake(scope)
        client = client_address(request)
        if self._open[client] >= CONCURRENT and rate_limits.applies_to(client):
            verdict = rate_limits.Verdict(False, CONCURRENT, remaining=0, reset=1)
            await refuse(rate_limits.refusal(request, client, verdict), receive, send)
            return
        self._open[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


class DenyingWebSocketProtocol(WebSocketProtocol):
    """Daphne's protocol, which can refuse only with an empty 403, plus the denial response."""

    _denial: HttpResponse | None = None

    def handle_reply(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.http.response.start":
            headers = {name.decode(): value.decode() for name, value in message.get("headers", [])}
            self._denial = HttpResponse(status=message["status"], headers=headers)
        elif message["type"] == "websocket.http.response.body" and self._denial is not None:
            self._denial.write(message.get("body", b""))
            if not message.get("more_body"):
                self._deny(self._denial)
        else:
            super().handle_reply(message)

    def _deny(self, denial: HttpResponse) -> None:
        self.handshake_deferred.errback(ConnectionDeny(denial.status_code, denial.reason_phrase))
        del self.handshake_deferred
        self.server.protocol_disconnected(self)

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:
        if self._denial is None:
            super().sendHttpErrorResponse(code, reason, responseHeaders)
            return
        self._denial["Content-Length"] = len(self._denial.content)
        self._denial["Connection"] = "close"
        status_line = f"HTTP/1.1 {code} {reason}\r\n".encode()
        self.sendData(
            status_line + self._denial.serialize_headers() + b"\r\n\r\n" + self._denial.content
        )
