"""A thread that looks after the runs of this process while the script does something else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("runicorn")

_thread: threading.Thread | None = None


def start(look: Callable[[], None], interval_s: float) -> None:
    """Call *look* every *interval_s* seconds from now on; a second call changes nothing."""
    global _thread
    if _thread is None:
        _thread = threading.Thread(
            target=_run, args=(look, interval_s), name="runicorn-keeper", daemon=True
        )
        try:
            _thread.start()
        except RuntimeError:  # as many threads as this process may have: it does without
            _thread = None


def after_fork() -> None:
    """In a child, which has no threads: the next run starts another one."""
    global _thread
    _thread = None


def _run(look: Callable[[], None], interval_s: float) -> None:
    is_over = threading.Event()
    while not is_over.wait(interval_s):
        try:
            look()
        except Exception as error:  # never the training's affair
            logger.debug("Looking after the runs failed: %s", error)
