"""How far indexing the storage root has come, for people to see.

Counters of the process that does it; ``/api/health``, the terminal and the first page show them.
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
    """Run folders seen by the last scan."""

    indexed: int = 0
    """Of these, how many are up to date in the index."""

    failed: int = 0
    """Run folders that could not be indexed; they are read again when they change."""

    failures: dict[str, str] = field(default_factory=dict)
    """Some of these, and what is wrong with them; the server's log has all."""

    error: str = ""
    """Why nothing can be indexed just now (a full disk); empty while all is well."""

    def name_failures(self, failures: dict[str, str]) -> None:
        self.failed = len(failures)
        self.failures = dict(islice(failures.items(), MOST_NAMED))


current = Progress()


def share() -> None:
    """Let the other processes of a team server see the counters; to be repeated while they hold."""
    cache.set(SHARED, asdict(current), timeout=SHARED_SECONDS)


def snapshot() -> dict[str, Any]:
    try:
        shared = cache.get(SHARED)
    except Exception:  # whatever the cache's client raises when its server is away
        shared = None
    return shared or asdict(current)
