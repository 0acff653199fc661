"""Ask the owner: directly where it is this process, else by a row that the worker answers."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import connections, models, router
from django.db.models.functions import Now

from ..exceptions import OwnerAway, RemoteError
from ..models import Command, Heartbeat
from . import calls, sealing, state

SILENCE_SECONDS = 10
"""A worker that was not heard of for so long is away."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
"""Between two looks for the answer."""

_serving = threading.Event()
"""Set in the worker."""

Row = TypeVar("Row", bound=models.Model)


def is_here() -> bool:
    """Whether this process is the owner."""
    return not settings.RUNICORN_WORKER or _serving.is_set()


def become_owner() -> None:
    _serving.set()


def ask(name: str, /, **arguments: Any) -> Any:
    """Return what the function *name* of ``calls`` returns in the owner's process.

    Raises RemoteError as it does, and OwnerAway where nobody answers within its time.
    """
    call = calls.CALLS[name]
    if is_here():
        result = call.function(**arguments)
        state.publish()
        return result
    return _wait_for_answer(name, arguments, call.seconds)


def rows(model: type[Row]) -> models.QuerySet[Row]:
    """Return what the owner has of *model*, as it is now."""
    if is_here():
        state.publish()
    elif not _is_alive():
        state.mark_lost()
    return model._default_manager.all()


def _is_alive() -> bool:
    since = Now() - timedelta(seconds=SILENCE_SECONDS)  # by the clock of the database
    return Heartbeat.objects.filter(seen_at__gt=since).exists()


def _wait_for_answer(name: str, arguments: dict[str, Any], seconds: float) -> Any:
    if not _is_alive():
        raise OwnerAway("The worker of this server is not running: hosts are reached through it")
    command = Command.objects.create(name=name, sealed=sealing.seal(arguments), asked_at=Now())
    answers = Command.objects.filter(pk=command.pk).values_list("answer", flat=True)
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    try:
        while time.monotonic() < deadline:
            _lend_connection()
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)
            try:
                answer = answers.get()
            except Command.DoesNotExist:
                break  # a worker that has just started has forgotten it
            if answer:
                return _result(sealing.unseal(answer))
        raise OwnerAway("The worker of this server did not answer in time")
    finally:
        Command.objects.filter(pk=command.pk).delete()


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        raise RemoteError.from_json(answer["error"])
    return answer["result"]


def _lend_connection() -> None:
    """Others may use the connection to the database while this thread sleeps."""
    connection = connections[router.db_for_write(Command)]
    if not connection.in_atomic_block:
        connection.close()
