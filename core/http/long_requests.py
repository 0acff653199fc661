"""Answer requests that twisted, below daphne, would drop or refuse without a message.

Twisted closes the connection if the request line is longer than 16 KB, and answers malformed
requests with an empty 400. Here the line may have 64 KB, and every refusal has the shape of the
door that it was sent to.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from daphne.http_protocol import HTTPFactory
from django.conf import settings
from django.http import HttpRequest
from twisted.web import http

from .doors import door_of

LONGEST = 64 * 1024
"""The most bytes of a request line, and of it and all headers together."""

LINGER_SECONDS = 5
"""How long the rest of a refused request is read: closing earlier could lose the response."""


class Channel(http.HTTPChannel):
    MAX_LENGTH = totalHeadersSize = LONGEST

    _request_line = b""
    _is_refused = False

    def lineReceived(self, line: bytes) -> None:
        if self._receivedHeaderSize == 0:
            self._request_line = line
        if self._receivedHeaderSize + len(line) > LONGEST:
            self._refuse_headers()
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        if self._receivedHeaderSize == 0:
            self._request_line = line[:LONGEST]
            self._refuse(414, f"The address is too long: {LONGEST // 1024} KB at most. Name fewer.")
        else:
            self._refuse_headers()

    def _refuse_headers(self) -> None:
        self._refuse(431, f"The headers are too long: {LONGEST // 1024} KB at most.")

    def _respondToBadRequestAndDisconnect(self) -> None:
        self._refuse(400, "The request is malformed.")

    def _refuse(self, status: int, detail: str) -> None:
        if self._is_refused:
            return
        self._is_refused = True
        request = HttpRequest()
        request.method = "GET"
        request.path = request.path_info = _path(self._request_line)
        response = door_of(request).refuse(request, status, detail)
        response["Content-Length"] = str(len(response.content))
        response["Connection"] = "close"
        start = f"HTTP/1.1 {status} {response.reason_phrase}\r\n".encode()
        transport: Any = self.transport
        transport.write(start + response.serialize_headers() + b"\r\n\r\n" + response.content)
        for receiver in ("dataReceived", "lineReceived", "rawDataReceived"):
            setattr(self, receiver, _ignore)
        self.setTimeout(LINGER_SECONDS)
        transport.loseWriteConnection()


def _path(request_line: bytes) -> str:
    """Return the path that *request_line* asks for, below the sub-path; / if it names none."""
    parts = request_line.split(b" ", 2)
    target = parts[1].decode("latin-1") if len(parts) > 1 else "/"
    try:
        path = unquote_to_bytes(urlsplit(target).path).decode("utf-8", "replace")
    except ValueError:
        path = "/"
    path = path.removeprefix(settings.FORCE_SCRIPT_NAME or "")
    return path if path.startswith("/") else "/"


def _ignore(data: bytes) -> None:
    pass


def _make_channel(factory: Any) -> Any:
    return http._GenericHTTPChannelProtocol(Channel())


def install() -> None:
    """Make daphne use our connections."""
    HTTPFactory.protocol = _make_channel
