"""Send committed log data to connected clients. Nothing here may make a commit fail.

The threads that index runs announce new data to the channel layer; in every serving process, one
``Feed`` per run receives it and passes it on to all followers of that run's log there.

The in-memory channel layer belongs to the event loop of the server, so announcements are handed
over to that loop. A shared layer (Redis) is used from a loop of our own.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Protocol

from channels.layers import InMemoryChannelLayer, get_channel_layer

LARGEST_MESSAGE = 64 * 2**10
"""The most bytes that a message carries; followers read larger ones from the database."""

_server_loop: asyncio.AbstractEventLoop | None = None
_own_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()


def log_grew(run_pk: int, offset: int, data: bytes) -> None:
    """Announce that the log of the run has *data* at *offset*."""
    message = {"type": "log.grew", "offset": offset, "end": offset + len(data)}
    if len(data) <= LARGEST_MESSAGE:
        message["data"] = data
    _announce(run_pk, message)


def log_reaches(run_pk: int, end: int) -> None:
    """Announce that the log reaches *end*, to followers of a log that another process indexed."""
    if run_pk in feeds:
        _announce(run_pk, {"type": "log.grew", "offset": end, "end": end})


def log_replaced(run_pk: int) -> None:
    """Announce that the log of the run starts again."""
    _announce(run_pk, {"type": "log.replaced"})


def _announce(run_pk: int, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    loop = _server_loop if isinstance(layer, InMemoryChannelLayer) else _shared_loop()
    if loop is not None and not loop.is_closed():
        asyncio.run_coroutine_threadsafe(layer.group_send(_group(run_pk), message), loop)


def _group(run_pk: int) -> str:
    return f"log.{run_pk}"


def _shared_loop() -> asyncio.AbstractEventLoop:
    global _own_loop
    with _lock:
        if _own_loop is None:
            _own_loop = asyncio.new_event_loop()
            threading.Thread(target=_own_loop.run_forever, name="live", daemon=True).start()
    return _own_loop


# -- following -----------------------------------------------------------------------------------


class Follower(Protocol):
    """A receiver of a log's messages. No method may wait for a slow reader."""

    async def grew(self, offset: int, end: int, data: bytes | None) -> None:
        """The log reaches *end*; *data*, if given, begins at *offset*."""

    async def replaced(self) -> None: ...

    async def ended(self) -> None:
        """There will be no more messages."""


class Feed:
    """Receives the messages of one run's log once per process, for all its followers."""

    def __init__(self, run_pk: int) -> None:
        self._group = _group(run_pk)
        self._followers: set[Follower] = set()
        self._ready = asyncio.Event()
        self._listener = asyncio.create_task(self._listen())

    async def add(self, follower: Follower) -> None:
        """Add *follower*; return once it cannot miss a message any more."""
        self._followers.add(follower)
        await self._ready.wait()

    async def end(self) -> None:
        for follower in tuple(self._followers):
            await follower.ended()

    def remove(self, follower: Follower) -> bool:
        """Remove *follower*; return whether it was the last one."""
        self._followers.discard(follower)
        if not self._followers:
            self._listener.cancel()
        return not self._followers

    async def _listen(self) -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(self._group, channel)
        self._ready.set()
        try:
            while True:
                message = await layer.receive(channel)
                for follower in tuple(self._followers):
                    if message["type"] == "log.replaced":
                        await follower.replaced()
                    else:
                        data = message.get("data")
                        await follower.grew(message["offset"], message["end"], data)
        finally:
            await layer.group_discard(self._group, channel)


feeds: dict[int, Feed] = {}
"""The feeds of this process by run. Used in the server's event loop only."""


async def follow(run_pk: int, follower: Follower) -> None:
    """Send messages of the run's log to *follower* from now on."""
    global _server_loop
    _server_loop = asyncio.get_running_loop()
    if run_pk not in feeds:
        feeds[run_pk] = Feed(run_pk)
    await feeds[run_pk].add(follower)


def unfollow(run_pk: int, follower: Follower) -> None:
    if run_pk in feeds and feeds[run_pk].remove(follower):
        del feeds[run_pk]


def end_all() -> None:
    """Tell all followers that their runs are no longer served."""
    if _server_loop is not None and not _server_loop.is_closed():
        for feed in list(feeds.values()):
            asyncio.run_coroutine_threadsafe(feed.end(), _server_loop)
