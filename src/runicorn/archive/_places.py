"""Where the members of an archive belong, and which belong nowhere."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import layout

READ_BYTES = 2**20
ARTIFACTS = "artifacts"
VERSIONS = "versions.json"
_LONGEST_PATH = 2000
_MOST_WRAPPERS = 8
_DEEPEST_PATH = 40


@dataclass(frozen=True)
class Place:
    """Where a member belongs: a file or folder *inner* below the run or version *directory*."""

    directory: str
    inner: str

    def __str__(self) -> str:
        return f"{self.directory}/{self.inner}".rstrip("/")

    @property
    def is_index(self) -> bool:
        return self.inner == VERSIONS and self.directory.count("/") == 2


def is_run(directory: str) -> bool:
    """Whether a folder of a report is a run's; else it is an artifact version's."""
    return not directory.startswith(f"{ARTIFACTS}/")


FOREIGN = "it belongs to no run and no artifact"
TWICE = "it is in the archive twice"
ALIKE = "this disk cannot tell its name from another's in the archive"


def parts_of(name: str) -> list[str] | str:
    """The parts of a member's path, or why it goes nowhere."""
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
    return parts


def wrapper_of(files: list[tuple[list[str], dict[str, Any]]]) -> list[str]:
    """The folders around everything in an archive, as "compress folder" makes one; mostly none.

    *files*: the parts of each file's path, and what it holds if it is a ``meta.json``. The first
    file that belongs somewhere decides for all. A project of 0.4 may have slashes, so that
    ``a/b/c/runs/<id>`` is one of ``a/b`` or lies in a wrapper ``a``: ``meta.json`` says which.
    """
    for has_meta in (True, False):
        for parts, meta in files:
            if bool(meta) != has_meta or parts[:1] == ["__MACOSX"]:
                continue
            depths = [
                depth
                for depth in range(min(len(parts) - 1, _MOST_WRAPPERS + 1))
                if _belongs_somewhere(parts[depth:])
            ]
            if depths:
                home = (
                    depth
                    for depth in depths
                    if parts[depth] != layout.RUNS
                    and layout.is_at_home("/".join(parts[depth:-1]), meta)
                )
                return parts[: next(home, depths[0])]
    return []


def _belongs_somewhere(parts: list[str]) -> bool:
    if parts[-1] in layout.RUN_FILES:
        return parts[0] != ARTIFACTS and layout.split_run_dir("/".join(parts[:-1])) is not None
    return parts[0] == ARTIFACTS and isinstance(_artifact_place(parts), Place)


def place_of(parts: list[str], run_folders: Container[str]) -> Place | str:
    """Where a member goes, or why it goes nowhere. *run_folders*: those of the whole archive.

    A run that lies in another run's folder travels as a part of that.
    """
    if parts[:1] == [ARTIFACTS]:
        return _artifact_place(parts)
    for depth in range(2, len(parts) + 1):
        if (directory := "/".join(parts[:depth])) in run_folders:
            return Place(directory, "/".join(parts[depth:]))
    return FOREIGN


def _artifact_place(parts: list[str]) -> Place | str:
    """A file of an artifact version, or the index of an artifact."""
    if is_index(parts):
        depth = 3
    elif len(parts) >= 4 and _is_version(parts[3]):
        depth = 4
    else:
        return FOREIGN
    try:
        for kind, part in (("type", parts[1]), ("name", parts[2])):
            layout.check_name(kind, part)
    except ValueError as error:
        return str(error)
    return Place("/".join(parts[:depth]), "/".join(parts[depth:]))


def is_index(parts: list[str]) -> bool:
    return len(parts) == 4 and parts[0] == ARTIFACTS and parts[3] == VERSIONS


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
