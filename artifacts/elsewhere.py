"""Versions whose files lie on another host: other apps add what knows of them and fetches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .models import Version

fetchers: list[Callable[[Version], None]] = []
"""Called with a version whose files somebody asks for; brings them here."""

holders: list[Callable[[Version], bool]] = []
"""Tell whether the version came from a host, which has its files."""

accounts: list[Callable[[], dict[str, Any]]] = []
"""What the statistics are to say of a host that is connected; nothing without one."""


def complete(version: Version) -> None:
    """See to it that the files of *version* are here."""
    for fetch in fetchers:
        fetch(version)


def has(version: Version) -> bool:
    """Whether the files of *version* are elsewhere only."""
    return not version.has_files and any(holds(version) for holds in holders)


def statistics() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for account in accounts:
        found |= account()
    return found
