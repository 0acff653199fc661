"""The live log of a run: the backlog, then every new line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from core.http.errors import translated

from ..ingest import folder_source
from ..models import Run
from . import live, reading

logger = logging.getLogger("runicorn.live")

BACKLOG_LINES = 10_000
FRAGMENT_SECONDS = 2
"""A line without its end is sent once it has not grown for this long."""

LONGEST_FRAGMENT = 2**20
"""The most bytes of a line without its end that are held back."""

IDLE_SECONDS = 3600


class LogConsumer(AsyncWebsocketConsumer):
    """Sends text frames, one per line; messages of the client are ignored.

    ``_position`` is the offset up to which the log was read, ``_rest`` the unfinished line before
    it. Announced data is sent directly if it continues there. Any gap is read from the database,
    and meanwhile (``_is_reading``) announcements only say how far to read.
    """

    async def connect(self) -> None:
        await self.accept()
        self._run: Run | None = None
        self._position: int | None = None
        self._known_end = 0
        self._rest = b""
        self._is_reading = True
        self._fragment_timer: asyncio.TimerHandle | None = None
        self._last_line = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._begin())

    async def disconnect(self, code: int) -> None:
        if self._run is not None:
            live.unfollow(self._run.pk, self)
        self._cancel_fragment_timer()
        for task in self._tasks:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if (trouble := translated(error)) is not None:
                reason = str(trouble.detail)
            else:
                logger.exception("The log of a run cannot be followed")
                reason = f"{type(error).__name__}: the log cannot be followed just now"
            await self.send(f"[error] {reason}")
            await self.close(1000)

    # -- messages of the feed ------------------------------------------------------------------

    async def grew(self, offset: int, end: int, data: bytes | None) -> None:
        self._known_end = max(self._known_end, end)
        if self._is_reading:
            return
        if data is not None and self._position is not None and offset <= self._position < end:
            await self._send_new(data[self._position - offset :])
        elif self._position is None or end > self._position:
            self._is_reading = True
            self._start(self._read_on())

    async def replaced(self) -> None:
        self._known_end = 0
        if not self._is_reading:
            self._is_reading = True
            self._start(self._read_again())
        else:
            self._position = 0  # the reading under way finds the new log from its start

    async def ended(self) -> None:
        await self.send("[info] The server has moved to another storage folder")
        await self.close(1000)

    # -- reading -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        run = await self._find_run()
        if run is None:
            await self.send("[error] run not found")
            await self.close(1000)
            return
        # Follow first, then catch up, so that nothing is missed in between.
        self._run = run
        await live.follow(run.pk, self)
        self._start(self._close_when_idle())
        await self._read_again()

    @database_sync_to_async
    def _find_run(self) -> Run | None:
        run_id = self.scope["url_route"]["kwargs"]["run_id"]
        runs = Run.objects.visible_to(self.scope.get("user")).active()
        query = parse_qs(self.scope.get("query_string", b"").decode("utf-8", "replace"))
        run = folder_source.refresh(folder_source.look_up(runs, run_id, *query.get("dir", ())[:1]))
        return run if run is not None and not run.is_deleted else None

    async def _read_again(self) -> None:
        """Send the backlog, then the data that arrived meanwhile."""
        tail = await database_sync_to_async(reading.read_tail)(self._run, BACKLOG_LINES)
        if tail.is_cut:
            await self.send(f"[info] Showing last {BACKLOG_LINES} lines. Full log file: logs.txt")
        await self._send_lines(tail.lines)
        self._rest = b""
        self._hold_back(tail.rest)
        if tail.exists or self._position is not None:
            self._position = tail.end
        else:
            await self.send("[info] No logs available yet. Waiting for logs to be created...")
        await self._read_on()

    async def _read_on(self) -> None:
        """Read from the database until nothing is missing."""
        while self._known_end > (self._position or 0):
            if self._position is None:
                await self.send("[info] Logs are now available, streaming...")
                self._position = 0
            data = await database_sync_to_async(reading.read_from)(self._run, self._position)
            if not data:
                break
            await self._send_new(data)
        self._is_reading = False

    async def _send_new(self, data: bytes) -> None:
        """Send the complete lines in *data*, which follows ``_position``."""
        assert self._position is not None
        self._position += len(data)
        lines, rest = reading.split_lines(self._rest + data)
        self._hold_back(rest)
        await self._send_lines(lines)

    async def _send_lines(self, lines: list[str]) -> None:
        if lines:
            self._last_line = time.monotonic()
        for number, line in enumerate(lines):
            await self.send(line)
            if number % 200 == 199:
                await asyncio.sleep(0)  # let other tasks run

    # -- waiting -------------------------------------------------------------------------------

    def _hold_back(self, rest: bytes) -> None:
        """Hold back a line without its end until it has one, or no longer grows."""
        if rest != self._rest:
            self._cancel_fragment_timer()
            if rest:
                delay = FRAGMENT_SECONDS if len(rest) < LONGEST_FRAGMENT else 0
                loop = asyncio.get_running_loop()
                self._fragment_timer = loop.call_later(delay, self._give_up_waiting)
        self._rest = rest

    def _give_up_waiting(self) -> None:
        rest, self._rest = self._rest, b""
        self._start(self._send_lines(reading.split_lines(rest + b"\n")[0]))

    def _cancel_fragment_timer(self) -> None:
        if self._fragment_timer is not None:
            self._fragment_timer.cancel()
            self._fragment_timer = None

    async def _close_when_idle(self) -> None:
        while (seconds_left := self._last_line + IDLE_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(seconds_left)
        await self.send("[info] Connection timeout after 1 hour of inactivity")
        await self.close(1000)
