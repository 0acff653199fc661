"""The index of an artifact's versions, brought together with that of an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import layout
from ._places import VERSIONS


def merge_index(artifact: Path, content: bytes) -> bool:
    """Add to ``versions.json`` the entries whose versions are there now; what it says stays.

    Returns whether it is now as in the archive.
    """
    from filelock import FileLock

    if not artifact.is_dir():
        return False
    theirs = layout.parse_json(content) or {}
    with FileLock(str(artifact / ".lock"), timeout=30):
        index = layout.read_json(artifact / VERSIONS)
        our_entries = _entries(index)
        added = {
            number: entry
            for number, entry in _entries(theirs).items()
            if number not in our_entries and (artifact / f"v{number}").is_dir()
        }
        if not added:
            return False
        if not index and len(added) == len(_entries(theirs)):
            layout.write_bytes(artifact / VERSIONS, content)
            return True
        numbers = our_entries | added
        aliases = {**_aliases(theirs), **_aliases(index)}
        layout.write_json(
            artifact / VERSIONS,
            {
                **{key: value for key, value in theirs.items() if not index},
                **index,
                "versions": [numbers[number] for number in sorted(numbers)],
                "aliases": {a: n for a, n in aliases.items() if n in numbers}
                | ({} if index else {"latest": max(numbers)}),
            },
        )
    return False


def _entries(index: dict[str, Any]) -> dict[int, dict[str, Any]]:
    versions = index.get("versions")
    return {
        entry["version"]: entry
        for entry in (versions if isinstance(versions, list) else [])
        if isinstance(entry, dict) and type(entry.get("version")) is int
    }


def _aliases(index: dict[str, Any]) -> dict[str, int]:
    aliases = index.get("aliases")
    return aliases if isinstance(aliases, dict) else {}
