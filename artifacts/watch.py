"""Keep the index up to date without requests: for the admin, and after a start."""

from __future__ import annotations

import logging
import threading
import time

from django.db import close_old_connections

from . import index, uploads, usage

logger = logging.getLogger("runicorn.indexer")

PAUSE_SECONDS = 2
"""Seconds between checks of all artifacts; at least twenty times what a check takes."""

CLEARING_SECONDS = 3600
"""Seconds between searches for abandoned uploads."""


class ArtifactIndexer(threading.Thread):
    """Index artifacts until ``stop()``."""

    def __init__(self) -> None:
        super().__init__(name="artifact-indexer", daemon=True)
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10)

    def run(self) -> None:
        is_new, next_clearing = True, 0.0
        while not self._stopping.is_set():
            start = time.monotonic()
            try:
                if is_new:
                    usage.catch_up()
                    is_new = False
                index.catch_up()
                if start >= next_clearing:
                    next_clearing = start + CLEARING_SECONDS
                    uploads.collect_stale()
            except Exception:
                logger.exception("Indexing artifacts failed; trying again")
                close_old_connections()
            self._stopping.wait(max(PAUSE_SECONDS, 20 * (time.monotonic() - start)))
