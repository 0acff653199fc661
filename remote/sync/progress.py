"""How far a sync has come, and how fast it goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from runicorn.remote_storage import Download

WINDOW = 5
"""Seconds over which the speed is measured."""


class Progress:
    """The progress of one pass over everything; between passes it shows the last one."""

    def __init__(self) -> None:
        self.status = "idle"
        self.known_files = 0
        """Files that were fetched so far, in all passes."""
        self._received = 0
        self._coming: set[Download] = set()
        self._lately: deque[tuple[float, int]] = deque()
        self.begin()
        self.status = "idle"

    def begin(self) -> None:
        self.status = "running"
        self.started_at = time.time()
        self.completed_at: float | None = None
        self.total_files = self.synced_files = self.total_bytes = self._synced = 0
        self.current_file: str | None = None

    def expect(self, downloads: Sequence[Download]) -> None:
        self._note()
        self._coming.update(downloads)
        self.total_files += len(downloads)
        self.total_bytes += sum(one.size for one in downloads)
        self.known_files += len(downloads)

    def came(self, download: Download) -> None:
        self._coming.discard(download)
        self.synced_files += 1
        self._synced += download.received
        self._received += download.received
        self.current_file = download.source

    @property
    def synced_bytes(self) -> int:
        """Bytes of this pass, with those of files that are still on their way."""
        return self._synced + self._on_their_way()

    @property
    def received_bytes(self) -> int:
        """All bytes that came since the start."""
        return self._received + self._on_their_way()

    def _on_their_way(self) -> int:
        return sum(one.received for one in self._coming)

    def _note(self) -> None:
        now = time.monotonic()
        self._lately.append((now, self.received_bytes))
        while len(self._lately) > 1 and self._lately[1][0] < now - WINDOW:
            self._lately.popleft()

    def bytes_per_second(self) -> int:
        """Return the speed over the last seconds."""
        self._note()
        (before, had), (now, has) = self._lately[0], self._lately[-1]
        return round((has - had) / max(now - before, 1))

    def end(self) -> None:
        """End the pass; what did not come will be asked for again."""
        self._received = self.received_bytes
        self._coming.clear()
        if self.status == "running":
            self.status = "completed"
            self.completed_at = time.time()
            self.current_file = None

    def describe(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "started_at": self.started_at,
            "completed_at": self.completed_at,
            "total_files": self.total_files,
            "synced_files": self.synced_files,
            "total_bytes": self.total_bytes,
            "synced_bytes": self.synced_bytes,
            "received_bytes": self.received_bytes,
            "bytes_per_second": self.bytes_per_second(),
            "current_file": self.current_file,
        }
