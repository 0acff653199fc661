"""How far a sync is, and how fast."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from runicorn.remote_storage import Download

WINDOW = 5
"""Seconds that the speed is about."""


class Progress:
    """Of one pass over everything, from ``begin`` to ``end``; between passes it shows the last."""

    def __init__(self) -> None:
        self.status = "idle"
        self.known_files = 0
        """Files that were fetched so far, whatever for."""
        self.received_bytes = 0
        """All that came since the start."""
        self._lately: deque[tuple[float, int]] = deque()
        self.begin()
        self.status = "idle"

    def begin(self) -> None:
        self.status = "running"
        self.started_at = time.time()
        self.completed_at: float | None = None
        self.total_files = self.synced_files = self.total_bytes = self.synced_bytes = 0
        self.current_file: str | None = None

    def expect(self, downloads: Sequence[Download]) -> None:
        self.total_files += len(downloads)
        self.total_bytes += sum(one.size for one in downloads)
        self.known_files += len(downloads)

    def came(self, download: Download) -> None:
        self.synced_files += 1
        self.synced_bytes += download.received
        self.received_bytes += download.received
        self.current_file = download.source
        self._lately.append((time.monotonic(), download.received))

    def bytes_per_second(self) -> int:
        """Over the last seconds."""
        now = time.monotonic()
        while self._lately and self._lately[0][0] < now - WINDOW:
            self._lately.popleft()
        if not self._lately:
            return 0
        took = max(now - self._lately[0][0], 1)
        return round(sum(size for _, size in self._lately) / took)

    def end(self) -> None:
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
