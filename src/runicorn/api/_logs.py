"""A run's log as it is written, over a WebSocket that is opened again when it breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ._calls import path
from ._requests import FIRST_DELAY_S, LONGEST_DELAY_S
from .exceptions import ConnectionError, NotFoundError

_UNKNOWN = "[error] run not found"
_NOTES = (
    "[info] No logs available yet. Waiting for logs to be created...",
    "[info] Logs are now available, streaming...",
    "[info] Showing last 10000 lines. Full log file: logs.txt",
)
_CLOSED = "[info] Connection timeout after 1 hour of inactivity"
_BACKLOG = 10_000
"""Lines that a server sends of what was there before."""


class _Reader:
    """Which frames are new lines. Every connection begins with the backlog again."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.run_id = run_id
        base: str = client.base_url
        self.url = base.replace("http", "ws", 1) + path("runs", run_id, "logs", "ws")
        self.headers: dict[str, str] = dict(client.session.headers)
        self.retries: int = client.max_retries
        self.failures = 0
        self._lines = 0
        self._position = 0
        self._is_cut = False

    def connected(self) -> None:
        self._position = 0

    def is_new(self, frame: str) -> bool:
        if frame == _UNKNOWN:
            raise NotFoundError(f"Resource not found: run {self.run_id}", status_code=404)
        self.failures = 0
        if frame == _NOTES[2]:  # it begins later: as many lines as it leaves out are unknown
            self._position = max(0, self._lines - _BACKLOG)
            return False
        if frame in _NOTES or frame == _CLOSED:
            return False
        self._position += 1
        if self._position <= self._lines:
            return False
        self._lines = self._position
        return True

    def delay(self, error: Exception) -> float:
        """Seconds before the next attempt. Raises ConnectionError if there were too many."""
        if self.failures >= self.retries:
            raise ConnectionError(f"Request failed: {error}") from error
        self.failures += 1
        return float(min(FIRST_DELAY_S * 2 ** (self.failures - 1), LONGEST_DELAY_S))


def _options(client: Any, reader: _Reader) -> dict[str, Any]:
    return {
        "additional_headers": {
            name: value for name, value in reader.headers.items() if name == "authorization"
        },
        "open_timeout": client.timeout,
        "max_size": None,
        "proxy": None,
    }


def follow_logs(self: Any, run_id: str) -> Iterator[str]:
    """Each line of a run's log: the last 10,000 that are there, then every new one.

    Ends only when the server goes away for good (ConnectionError) or the caller stops; a broken
    connection is opened again and goes on where it was. Needs the ``websockets`` package.
    """
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    reader = _Reader(self, run_id)
    while True:
        try:
            with connect(reader.url, **_options(self, reader)) as socket:
                reader.connected()
                for frame in socket:
                    if reader.is_new(str(frame)):
                        yield str(frame)
            error: Exception = EOFError("the server closed the connection")
        except (OSError, WebSocketException) as caught:
            error = caught
        time.sleep(reader.delay(error))


async def afollow_logs(self: Any, run_id: str) -> AsyncIterator[str]:
    """:meth:`RunicornClient.follow_logs`, asynchronously."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    reader = _Reader(self, run_id)
    while True:
        try:
            async with connect(reader.url, **_options(self, reader)) as socket:
                reader.connected()
                async for frame in socket:
                    if reader.is_new(str(frame)):
                        yield str(frame)
            error: Exception = EOFError("the server closed the connection")
        except (OSError, WebSocketException) as caught:
            error = caught
        await asyncio.sleep(reader.delay(error))
