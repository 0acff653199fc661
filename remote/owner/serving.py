"""The owner's side where it is a worker: take commands, answer them, tell that it lives."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, connections
from django.db.models.functions import Now

from ..exceptions import RemoteError
from ..models import Command, Heartbeat
from . import asking, calls, sealing, state

logger = logging.getLogger("runicorn.remote")

LOOK_SECONDS = 0.05
"""How often commands are looked for."""

BEAT_SECONDS = 1
MOST_AT_ONCE = 32

UNEXPECTED = "The worker met an error that it did not expect: its log says which"


class Server(threading.Thread):
    """Serves the other processes until ``stop()``."""

    def __init__(self) -> None:
        super().__init__(name="remote", daemon=True)
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, "remote")
        self._next_beat = 0.0
        self._last_beat = 0.0

    def run(self) -> None:
        asking.become_owner()
        is_begun = False
        while not self._stopping.is_set():
            try:
                if not is_begun:
                    Command.objects.all().delete()  # asked of an earlier process
                    is_begun = True
                self._beat()
                self._take()
            except DatabaseError as error:
                logger.warning("Commands cannot be read: %s", error)
                self._stopping.wait(BEAT_SECONDS)
            connections.close_all()  # others of this process may need one meanwhile
            self._stopping.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """End all connections, and say so in the rows."""
        self._stopping.set()
        self.join(timeout=10)
        self._threads.shutdown(wait=False, cancel_futures=True)
        calls.end()
        state.mark_lost()
        Heartbeat.objects.all().delete()

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._next_beat:
            return
        if now - self._last_beat > asking.SILENCE_SECONDS:
            state.forget()  # others took us for lost, and said so in the rows
        state.publish()
        Heartbeat.objects.update_or_create(pk=1, defaults={"seen_at": Now()})
        old = Command.objects.filter(asked_at__lt=Now() - timedelta(seconds=sealing.SECONDS))
        old.filter(taken_at=None).delete()
        old.exclude(answer=None).delete()  # their askers are gone
        self._last_beat, self._next_beat = now, time.monotonic() + BEAT_SECONDS

    def _take(self) -> None:
        for command in Command.objects.filter(taken_at=None).order_by("asked_at"):
            Command.objects.filter(pk=command.pk).update(sealed="", taken_at=Now())
            self._threads.submit(_answer, command)


def _answer(command: Command) -> None:
    try:
        answer = _perform(command.name, command.sealed)
        state.publish()  # the asker sees what was changed
        Command.objects.filter(pk=command.pk).update(answer=sealing.seal(answer))
    except Exception:  # the thread is the last to hear of it
        logger.exception("A command could not be answered: %s", command.name)
    finally:
        connections.close_all()


def _perform(name: str, sealed: str) -> dict[str, Any]:
    try:
        return {"result": calls.CALLS[name].function(**sealing.unseal(sealed))}
    except RemoteError as error:
        return {"error": error.to_json()}
    except Exception:
        logger.exception("%s failed", name)
        return {"error": RemoteError(UNEXPECTED).to_json()}
