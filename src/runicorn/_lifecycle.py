"""How the process ends, and what that says about its runs.

| the process                                 | its unfinished runs become |
|---------------------------------------------|----------------------------|
| reaches its end, exits with code 0 or None  | ``finished``               |
| dies of an exception, exits with another    | ``failed``                 |
| is stopped by Ctrl-C, SIGTERM or SIGHUP     | ``interrupted``            |
| vanishes (``kill -9``, power)               | ``failed``, by the server  |
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

from . import _exit_code, _keeper


class Run(Protocol):
    """The part of a run that the end of its process concerns."""

    def finish(self, status: str) -> None: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...
    def after_fork(self) -> None: ...
    def look_after(self) -> None: ...


LOOK_S = 10.0
"""How often the runs of this process are looked after."""

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

_known: WeakSet[Run] = WeakSet()
_unfinished: set[Run] = set()
_installed = False
_is_worker = False
"""A forked worker of multiprocessing swallows its error and leaves through ``os._exit``."""
_earlier_error: Any = None
"""The unhandled error that the interpreter had already reported when the newest run began."""
_writing = 0
"""More than 0 while a signal has to wait."""
_postponed: int | None = None
"""The signal that waits."""


def watch(run: Run) -> None:
    """Finish *run* when the process ends, unless :func:`forget` is called before."""
    global _earlier_error
    _earlier_error = _unhandled_error()
    _exit_code.forget()
    _known.add(run)
    _unfinished.add(run)
    _install()
    _keeper.start(_look_after_all, LOOK_S)


def _look_after_all() -> None:
    for run in list(_unfinished):
        run.look_after()


def forget(run: Run) -> None:
    _unfinished.discard(run)


def status_after(error: BaseException | None) -> str:
    """The status of a run whose block or process was left by *error* (None: by its end)."""
    if error is None:
        return "finished"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit) and (error.code is None or error.code == 0):
        return "finished"
    return "failed"


def _install() -> None:
    global _installed, _is_worker
    if not _installed:
        _installed = True
        atexit.register(_at_exit)
        _exit_code.listen()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
    if "multiprocessing" in sys.modules:
        from multiprocessing import current_process, parent_process

        method = getattr(current_process(), "_start_method", None)
        if parent_process() is not None and method != "spawn" and not _is_worker:
            _is_worker = True
            setattr(os, "_exit", _finishing(os._exit))  # noqa: B010
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _on_signal)


def _finishing(leave: Callable[[int], NoReturn]) -> Callable[[int], NoReturn]:
    @functools.wraps(leave)
    def _exit(status: int) -> NoReturn:
        try:
            _finish_all(status_after(SystemExit(status)))
        finally:
            leave(status)

    return _exit


def _at_exit() -> None:
    if not _is_worker:
        _finish_all(_status_at_exit())


def _finish_all(status: str) -> None:
    for run in list(_unfinished):
        run.finish(status)
    for run in list(_known):
        run.close()


def _status_at_exit() -> str:
    if hasattr(sys, "ps1"):  # at a prompt an error ends a line, not the session
        return "finished"
    error = _unhandled_error()
    if _exit_code.last() is not _exit_code.UNKNOWN:
        error = SystemExit(_exit_code.last())
    elif error is _earlier_error:
        error = None
    return status_after(error)


def _unhandled_error() -> Any:
    """What the interpreter keeps of the error that ended the program; unlike ``sys.excepthook``
    nobody can replace it and forget us."""
    return getattr(sys, "last_value", None)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Note it and die of the signal all the same, as a process without us would."""
    global _writing, _postponed
    if _writing:
        _postponed = number
        return
    _writing += 1  # the same signal once more must not cut this short
    try:
        for run in list(_unfinished):
            run.interrupt()
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Put off our signal handler: it would wait for the lock that its own thread holds here."""
    global _writing
    if threading.current_thread() is not threading.main_thread():  # the only one with handlers
        yield
        return
    _writing += 1
    try:
        yield
    finally:
        _writing -= 1
        if not _writing and _postponed is not None:
            _on_signal(_postponed, None)


def _after_fork() -> None:
    """A child may log to its parent's runs; to finish them is the parent's business."""
    _unfinished.clear()
    _keeper.after_fork()
    for run in list(_known):
        run.after_fork()
