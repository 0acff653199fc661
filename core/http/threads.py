"""The threads that requests run on are kept from one request to the next.

Django gives each request a thread of its own, which ends with it: its connection to the database
has to be opened anew, read the schema again and begin with an empty cache. Here a request takes
the thread that became free last, and a new one only if all are busy.
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
    """Goes to the request's thread once, for middleware and view together.

    All of them are synchronous here. Django's own begins and ends their chain on the event loop,
    and changes sides four times more.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        """Forgets what was sent: it may be megabytes.

        Django keeps the response in a circle with the news that the client is gone, which comes
        after every answer, until the garbage is collected.
        """
        await super().send_response(response, send)
        if isinstance(response, HttpResponse):
            response.content = b""


KEPT = 4
"""Threads that wait for the next request; what a rush needed beyond that ends with it."""

_idle: list[ThreadPoolExecutor] = []
"""Each of one thread. Only touched on the event loop."""


@asynccontextmanager
async def own_thread() -> AsyncIterator[None]:
    """Within it, what Django does for a request runs on one thread that is nobody else's."""
    thread = _idle.pop() if _idle else ThreadPoolExecutor(1, "request")
    try:
        async with ThreadSensitiveContext(executor=thread):
            yield
    finally:
        loop = asyncio.get_running_loop()

        def is_free(_: Future[None]) -> None:
            loop.call_soon_threadsafe(_keep, thread)

        # The view of a client that hung up may still be at work: the thread is free after that.
        thread.submit(_nothing).add_done_callback(is_free)


def _nothing() -> None:
    pass


def _keep(thread: ThreadPoolExecutor) -> None:
    if len(_idle) < KEPT:
        _idle.append(thread)
    else:
        thread.submit(connections.close_all)
        thread.shutdown(wait=False)


def close() -> None:
    """After the last request: ends the threads, and with them their connections."""
    while _idle:
        thread = _idle.pop()
        thread.submit(connections.close_all)
        thread.shutdown()
