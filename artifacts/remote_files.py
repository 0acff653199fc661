"""Versions whose files are on another host; an app that can fetch them fills these lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .models import Version

fetchers: list[Callable[[Version], None]] = []
"""Called with a version whose files are requested; they bring missing files here."""

remote_checks: list[Callable[[Version], bool]] = []
"""Return whether the version came from a host, which has its files."""

stats_sources: list[Callable[[], dict[str, Any]]] = []
"""Return the statistics of a connected host; an empty dictionary without one."""


def fetch(version: Version) -> None:
    """Make sure that the files of *version* are on this machine."""
    for fetcher in fetchers:
        fetcher(version)


def is_remote(version: Version) -> bool:
    """Return whether the files of *version* are only on another host."""
    return not version.has_files and any(is_from_host(version) for is_from_host in remote_checks)


def stats() -> dict[str, Any]:
    """Return the statistics of the connected hosts."""
    merged: dict[str, Any] = {}
    for source in stats_sources:
        merged |= source()
    return merged
