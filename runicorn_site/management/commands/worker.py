from __future__ import annotations

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection

from core import memory
from remote.owner.serving import Server
from runs.ingest import progress
from runs.ingest.indexer import Indexer

LOCK = 0x52554E49  # "RUNI"
RETRY_SECONDS = 5
SHARE_SECONDS = 1


class Command(BaseCommand):
    help = (
        "The background worker: indexes the runs of the storage root and holds the connections to "
        "hosts, until it is stopped."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        memory.keep_flat()
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        while not _is_the_only_one():
            if stopping.wait(RETRY_SECONDS):
                return
        indexer = Indexer(settings.RUNICORN_STORAGE_ROOT)
        indexer.start()
        remote = Server()
        remote.start()
        self.stdout.write(f"Indexing the runs in {settings.RUNICORN_STORAGE_ROOT}")
        while not stopping.wait(SHARE_SECONDS):
            progress.share()
        remote.stop()
        indexer.stop()


def _is_the_only_one() -> bool:
    """Return whether no other worker runs; a second one would only wait, so it stays in reserve.

    PostgreSQL releases the lock when this process ends, however it ends.
    """
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])
