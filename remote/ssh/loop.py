"""The event loop that all SSH connections live on: one thread of its own.

A view waits for an answer in its own thread, so a slow host holds up nobody else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what *coroutine* returns, or raise what it raises; the calling thread waits."""
    return asyncio.run_coroutine_threadsafe(coroutine, _running()).result()


def _running() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="ssh", daemon=True).start()
        return _loop
