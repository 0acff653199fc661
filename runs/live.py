"""Tell connected clients what has just been committed. Nothing here may fail a commit.

The in-memory channel layer lives in the event loop of the server; the threads that take runs in
hand their messages over to it. A shared layer (Redis) is spoken to from a loop of our own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

from channels.layers import InMemoryChannelLayer, get_channel_layer

LARGEST_MESSAGE = 64 * 2**10
"""More than this is not sent along; whoever follows reads it from the database."""

followed: Counter[int] = Counter()
"""Runs whose log is followed through this process, and by how many."""

_server_loop: asyncio.AbstractEventLoop | None = None
_own_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()


def log_group(run_pk: int) -> str:
    return f"log.{run_pk}"


def log_grew(run_pk: int, offset: int, data: bytes) -> None:
    """The log of the run has *data* at *offset*."""
    message = {"type": "log.grew", "offset": offset, "end": offset + len(data)}
    if len(data) <= LARGEST_MESSAGE:
        message["data"] = data
    _send(log_group(run_pk), message)


def log_replaced(run_pk: int) -> None:
    """The log of the run starts anew."""
    _send(log_group(run_pk), {"type": "log.replaced"})


def connected() -> None:
    """Called by every consumer: its event loop is the one that the in-memory layer lives in."""
    global _server_loop
    _server_loop = asyncio.get_running_loop()


def log_reaches(run_pk: int, end: int) -> None:
    """The log of the run is known up to *end*: for followers of what another process took in."""
    if run_pk in followed:
        _send(log_group(run_pk), {"type": "log.grew", "offset": end, "end": end})


def _send(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    loop = _server_loop if isinstance(layer, InMemoryChannelLayer) else _shared_loop()
    if loop is not None and not loop.is_closed():
        asyncio.run_coroutine_threadsafe(layer.group_send(group, message), loop)


def _shared_loop() -> asyncio.AbstractEventLoop:
    global _own_loop
    with _lock:
        if _own_loop is None:
            _own_loop = asyncio.new_event_loop()
            threading.Thread(target=_own_loop.run_forever, name="live", daemon=True).start()
    return _own_loop
