"""The live log of a run: backlog, then every new line (``contract/metrics.md`` §5)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from . import folders, live, logs
from .models import Run

logger = logging.getLogger("runicorn.live")

BACKLOG_LINES = 10_000
FRAGMENT_SECONDS = 2
"""A line without its end is sent once it has not grown for this long."""

LONGEST_FRAGMENT = 2**20
"""Bytes of a line without its end that are held back at most."""

IDLE_SECONDS = 3600


class LogConsumer(AsyncWebsocketConsumer):
    """Text frames, one a line, server to client only; what the client sends is ignored.

    Announcements carry the offset of their bytes. Whoever is too slow for the channel layer sees
    the gap, and reads on in the database from where it was.
    """

    async def connect(self) -> None:
        await self.accept()
        live.connected()
        self._grown = asyncio.Event()
        self._waiting: list[tuple[int, bytes]] = []
        self._known_end = 0
        self._replaced = False
        self._follower = asyncio.create_task(self._follow())

    async def disconnect(self, code: int) -> None:
        if follower := getattr(self, "_follower", None):
            follower.cancel()
        if group := getattr(self, "_group", None):
            live.followed.subtract([self._run_pk])
            live.followed += Counter()  # drops the zeros
            await self.channel_layer.group_discard(group, self.channel_name)

    async def log_grew(self, message: dict[str, Any]) -> None:
        self._known_end = max(self._known_end, message["end"])
        if "data" in message and len(self._waiting) < 1000:
            self._waiting.append((message["offset"], message["data"]))
        self._grown.set()

    async def log_replaced(self, message: dict[str, Any]) -> None:
        self._replaced = True
        self._waiting.clear()
        self._known_end = 0
        self._grown.set()

    # -- following -----------------------------------------------------------------------------

    async def _follow(self) -> None:
        try:
            run = await self._find_run()
            if run is None:
                await self.send("[error] run not found")
            else:
                # Join first, then catch up: nothing can be missed in between.
                self._run_pk, self._group = run.pk, live.log_group(run.pk)
                live.followed.update([run.pk])
                await self.channel_layer.group_add(self._group, self.channel_name)
                await self._send_log(run)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("The log of %s cannot be followed", self._run_id)
            await self.send(f"[error] {type(error).__name__}: the log cannot be followed just now")
        await self.close(1000)

    @property
    def _run_id(self) -> str:
        return self.scope["url_route"]["kwargs"]["run_id"]

    @database_sync_to_async
    def _find_run(self) -> Run | None:
        runs = Run.objects.visible_to(self.scope.get("user")).active()
        run = folders.refresh(runs.by_id(self._run_id))
        return run if run is not None and not run.is_deleted else None

    async def _send_log(self, run: Run) -> None:
        """Returns after an hour without a new line."""
        position, rest = await self._send_backlog(run)
        if position is None:
            await self.send("[info] No logs available yet. Waiting for logs to be created...")
        while True:
            timeout = FRAGMENT_SECONDS if rest else IDLE_SECONDS
            try:
                await asyncio.wait_for(self._grown.wait(), timeout)
            except TimeoutError:
                if not rest:
                    await self.send("[info] Connection timeout after 1 hour of inactivity")
                    return
                await self._send_lines(logs.split_lines(rest + b"\n")[0])
                rest = b""
                continue
            self._grown.clear()
            if self._replaced:
                self._replaced = False
                position, rest = await self._send_backlog(run)
                position = position or 0
            elif position is None:
                await self.send("[info] Logs are now available, streaming...")
                position = 0
            position, rest = await self._catch_up(run, position or 0, rest)

    async def _send_backlog(self, run: Run) -> tuple[int | None, bytes]:
        """Send what is there; the offset reached (None: no log) and the unfinished line."""
        tail = await database_sync_to_async(logs.read_tail)(run, BACKLOG_LINES)
        if tail.is_cut:
            await self.send(f"[info] Showing last {BACKLOG_LINES} lines. Full log file: logs.txt")
        await self._send_lines(tail.lines)
        return (tail.end if tail.exists else None), tail.rest

    async def _catch_up(self, run: Run, position: int, rest: bytes) -> tuple[int, bytes]:
        while True:
            waiting, self._waiting = self._waiting, []
            for offset, data in waiting:
                if offset <= position < offset + len(data):
                    rest = await self._send_whole(rest + data[position - offset :])
                    position = offset + len(data)
            if position >= self._known_end or self._replaced:
                return position, rest
            if not self._waiting:
                data = await database_sync_to_async(logs.read_from)(run, position)
                if not data:
                    return position, rest
                rest = await self._send_whole(rest + data)
                position += len(data)

    async def _send_whole(self, data: bytes) -> bytes:
        """Send the whole lines of *data*; return the rest."""
        lines, rest = logs.split_lines(data)
        await self._send_lines(lines)
        if len(rest) > LONGEST_FRAGMENT:
            await self._send_lines(logs.split_lines(rest + b"\n")[0])
            return b""
        return rest

    async def _send_lines(self, lines: list[str]) -> None:
        for number, line in enumerate(lines):
            await self.send(line)
            if number % 200 == 199:
                await asyncio.sleep(0)  # others want to be served too
