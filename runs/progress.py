"""How far the taking in of the storage root has come, for people to see.

Counters of this process; ``/api/health``, the terminal and the first page read them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Progress:
    state: str = "stopped"
    """``stopped``, ``scanning`` (existing runs are being taken in) or ``watching``."""

    found: int = 0
    """Run folders seen by the last scan."""

    taken_in: int = 0
    """Of these, how many are up to date in the index."""

    failed: int = 0
    """Run folders that could not be read; each is named in the server's log."""


current = Progress()


def snapshot() -> dict[str, Any]:
    return asdict(current)
