"""A pool that keeps threads from one request to the next.

Django gives each request a thread of its own, which ends with it: the next one has to open a new
database connection, read the schema again and begin with an empty cache. Here a request takes the
thread that became free last, and a new one only if all are busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase


class Handler(ASGIHandler):
    """An ASGI handler that switches to the request's thread once, for middleware and view.

    All of them are synchronous here. Django's own handler begins and ends their chain on the event
    loop, which costs four more switches.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        """Release the content once it is sent: it may be megabytes.

        The disconnect that follows every response leaves it in a reference cycle until the garbage
        is collected.
        """
        await super().send_response(response, send)
        if isinstance(response, HttpResponse):
            response.content = b""


MAX_IDLE = 4
"""The number of threads kept for the next requests; others end after a peak."""

_idle: list[ThreadPoolExecutor] = []
"""Executors of one thread each. Used on the event loop only."""


@asynccontextmanager
async def own_thread() -> AsyncIterator[None]:
    """Run Django's work for a request on one thread, which no other request uses meanwhile."""
    thread = _idle.pop() if _idle else ThreadPoolExecutor(1, "request")
    try:
        async with ThreadSensitiveContext(executor=thread):
            yield
    finally:
        loop = asyncio.get_running_loop()

        def is_free(_: Future[None]) -> None:
            loop.call_soon_threadsafe(_keep, thread)

        # The view of a client that hung up may still be running: the thread is free after that.
        thread.submit(_nothing).add_done_callback(is_free)


def _nothing() -> None:
    pass


def _keep(thread: ThreadPoolExecutor) -> None:
    if len(_idle) < MAX_IDLE:
        _idle.append(thread)
    else:
        thread.submit(connections.close_all)
        thread.shutdown(wait=False)


def close() -> None:
    """End the threads and their database connections, after the last request."""
    while _idle:
        thread = _idle.pop()
        thread.submit(connections.close_all)
        thread.shutdown()
