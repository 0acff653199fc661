"""The progress of indexing the storage root.

The indexing process counts; ``/api/health``, the terminal and the first page show the counters.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from django.core.cache import cache

SHARED = "ingest.progress"
SHARED_SECONDS = 10
MOST_NAMED = 20


@dataclass
class Progress:
    state: str = "stopped"
    """``stopped``, ``scanning`` (existing runs are being indexed) or ``watching``."""

    found: int = 0
    """The number of run folders that the last scan found."""

    indexed: int = 0
    """The number of these that are up to date in the index."""

    failed: int = 0
    """The number of run folders that could not be indexed; they are read again when they change."""

    failures: dict[str, str] = field(default_factory=dict)
    """Some of these, with the reasons; the server's log has all."""

    error: str = ""
    """Why nothing can be indexed at present (such as a full disk); empty otherwise."""

    def name_failures(self, failures: dict[str, str]) -> None:
        self.failed = len(failures)
        self.failures = dict(islice(failures.items(), MOST_NAMED))


current = Progress()


def share() -> None:
    """Share the counters with the other processes of a team server, for SHARED_SECONDS."""
    cache.set(SHARED, asdict(current), timeout=SHARED_SECONDS)


def snapshot() -> dict[str, Any]:
    try:
        shared = cache.get(SHARED)
    except Exception:  # any error of the cache's client when its server is down
        shared = None
    return shared or asdict(current)
