"""Where the members of an archive belong, and which belong nowhere."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from .. import layout

READ_BYTES = 2**20
ARTIFACTS = "artifacts"
VERSIONS = "versions.json"
RECORD = ".experiment.json"
"""In a run's folder in an archive, and only there: its tags, notes and marks."""

_LONGEST_PATH = 2000
_DEEPEST_PATH = 40


@dataclass(frozen=True)
class Place:
    """Where a member belongs: a file or folder *inner* below the run or version *directory*."""

    directory: str
    inner: str

    def __str__(self) -> str:
        return f"{self.directory}/{self.inner}".rstrip("/")

    @property
    def is_record(self) -> bool:
        return self.inner == RECORD and is_run(self.directory)

    @property
    def is_index(self) -> bool:
        return self.inner == VERSIONS and self.directory.count("/") == 2


def is_run(directory: str) -> bool:
    """Whether a folder of a report is a run's; else it is an artifact version's."""
    return not directory.startswith(f"{ARTIFACTS}/")


FOREIGN = "it belongs to no run and no artifact"
TWICE = "it is in the archive twice"
ALIKE = "this disk cannot tell its name from another's in the archive"


def place_of(name: str) -> Place | str:
    """Where a member called *name* goes, or why it goes nowhere."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if length > _LONGEST_PATH:
        return "its path is too long"
    if "\\" in name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "its name has characters that no run uses"
    if name.startswith("/") or (os.name == "nt" and ":" in name):
        return "its path is absolute"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "its path leads out of the storage folder"
    if len(parts) > _DEEPEST_PATH or any(len(part.encode()) > 255 for part in parts):
        return "its path is too long"
    depth = _depth(parts)
    if depth is None:
        return FOREIGN
    try:
        for kind, part in zip(("project", "name", "", "run"), parts, strict=False):
            if part not in (layout.RUNS, ARTIFACTS):
                layout.check_name(kind, part)
    except ValueError as error:
        return str(error)
    return Place("/".join(parts[:depth]), "/".join(parts[depth:]))


def _depth(parts: list[str]) -> int | None:
    """How many of *parts* name the run, the artifact version, or the artifact of an index."""
    if parts[:1] == [ARTIFACTS]:
        if len(parts) == 4 and parts[3] == VERSIONS:
            return 3
        return 4 if len(parts) >= 4 and _is_version(parts[3]) else None
    for depth in (2, 4):
        if len(parts) >= depth and layout.split_run_dir("/".join(parts[:depth])):
            return depth
    return None


def _is_version(text: str) -> bool:
    return text.startswith("v") and text[1:].isascii() and text[1:].isdigit() and len(text) < 12


def parents(inner: str) -> set[str]:
    """The folders above *inner*; the first is the run's own, ``""``."""
    parts = inner.split("/") if inner else []
    return {"/".join(parts[:n]) for n in range(len(parts))}


class Spellings:
    """Names that a file system takes for the same, although an archive has them side by side."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def is_taken(self, path: str) -> bool:
        """Whether *path*, or a folder above it, was written otherwise before."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            head = "/".join(parts[:depth])
            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", head).casefold())
            if self._first.setdefault(folded, head) != head:
                return True
        return False


def is_case_blind(folder: Path) -> bool:
    """Whether the file system of *folder* takes ``a`` and ``A`` for one name.

    Such a one may also take two ways to write ``é`` for one.
    """
    for path in (folder, *folder.parents):
        if (other := path.name.swapcase()) != path.name and path.exists():
            try:
                return path.with_name(other).samefile(path)
            except OSError:
                return False
    return os.name == "nt"
