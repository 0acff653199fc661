"""Logins that wait for a person to confirm a host's key.

Their secrets stay in the owner's memory meanwhile; the page that asks has a number for them.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any

WAIT_SECONDS = 300
MOST = 100


@dataclass
class Waiting:
    asker: str
    holder: str
    login: dict[str, Any] = field(repr=False)
    client: str
    saved_as: dict[str, Any] | None = field(repr=False)
    host_key: dict[str, Any]
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.asked_at < WAIT_SECONDS


_lock = threading.Lock()
_waiting: dict[str, Waiting] = {}


def ask(waiting: Waiting) -> str:
    """Keep a login until somebody answers, and return the number of the question."""
    number = secrets.token_urlsafe(16)
    with _lock:
        recent = [item for item in _waiting.items() if item[1].is_recent]
        _waiting.clear()
        _waiting.update(recent[1 - MOST :])
        _waiting[number] = waiting
    return number


def answered(number: str, asker: str) -> Waiting | None:
    """Return the login that waits, once; None if it is too old or was somebody else's."""
    with _lock:
        waiting = _waiting.pop(number, None)
    if waiting is None or not waiting.is_recent or waiting.asker != asker:
        return None
    return waiting
