"""Many folders of a host told by one run of its ``find``, instead of four requests for each.

Where there is no shell with GNU's ``find`` and ``xargs``, folders are asked for over SFTP
(``listing``). Names go to ``find`` by its input, not by a command line, and what it tells is judged
like a listing: nothing is a folder that did not come below one, in the order that ``find`` has.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncssh

from runicorn import layout

from . import listing
from .transfer import Source

MANY = 8
"""From so many folders on: a shell may read a person's profile each time that it starts."""

RUN_DEPTH = 4
"""Levels from the root to a run: project, experiment, ``runs``, itself."""

ARTIFACT_DEPTH = 4
"""From the artifacts to the documents of a version: type, name, version, document."""

MOST_RECORDS = 2_000_000
"""A host that tells more is asked folder by folder, of which each has its limit."""

LONGEST_RECORD = 65536

FORMAT = r"%y %s %T@ %p\0"
_RECORD = re.compile(rb"(\w) (\d+) (-?\d+)(?:\.\d*)? \.(?:/(.*))?", re.DOTALL)

FIND = [
    *("-name", ".?*", "-not", "-name", layout.DELETED, "-prune", "-o"),
    # Of an experiment its runs, whatever else may lie beside them.
    *("-path", "./*/*/*", "-not", "-path", "./*/*/runs", "-not", "-path", "./*/*/runs/*"),
    *("-not", "-path", "./runs/*", "-not", "-path", "./artifacts/*", "-prune", "-o"),
    *("-printf", FORMAT),
]
NO_ARTIFACTS = ["-path", "./artifacts", "-prune", "-o"]

CLEAN, SOME_FAILED = 0, 123
"""What ``xargs`` ends with: the second where folders could not be read, or went while they were."""


async def look(source: Source, depth: int, folders: Sequence[str] = ()) -> Tree | None:
    """What lies below *folders*, or the root without its artifacts, *depth* levels down: folders
    of the last level seem empty. None where it cannot be told."""
    if not source.has_find:
        return None
    tree = Tree([b"./" + folder.encode() for folder in folders] or [b"."])
    tests = shlex.join(FIND if folders else NO_ARTIFACTS + FIND)
    try:
        find = f'exec find "$@" -maxdepth {depth} {tests}'
        names = b"".join(start + b"\0" for start in tree.starts)
        status = await source.run(f"xargs -0 sh -c {shlex.quote(find)} find", names, tree.feed)
        tree.end()
    except asyncssh.ChannelOpenError:
        return None  # too many at once; the next look may have one
    except (asyncssh.Error, OSError, ValueError):
        source.has_find = False
        return None
    if status not in (CLEAN, SOME_FAILED) or not (folders or tree.folders):
        source.has_find = False
        return None
    if status == SOME_FAILED:
        tree.distrust_empty()
    return tree


@dataclass
class Tree:
    """Folders by their paths below the root, each with what is in it."""

    starts: list[bytes]
    folders: dict[bytes, list[listing.Found]] = field(default_factory=dict)
    crowds: set[bytes] = field(default_factory=set)
    """Folders of which not all is told."""
    _buffer: bytes = b""
    _count: int = 0

    def __post_init__(self) -> None:
        self._starts = {start[2:] for start in self.starts}

    def feed(self, data: bytes) -> None:
        *records, self._buffer = (self._buffer + data).split(b"\0")
        self._count += len(records)
        if len(self._buffer) > LONGEST_RECORD or self._count > MOST_RECORDS:
            raise ValueError("more than find tells")
        for record in records:
            match = _RECORD.fullmatch(record)
            if match is None:  # what a profile prints, say
                raise ValueError("not what find tells")
            self._add(match[1], match[4] or b"", int(match[2]), int(match[3]))

    def _add(self, kind: bytes, path: bytes, size: int, mtime: int) -> None:
        is_dir = kind == b"d"
        if path in self._starts:
            if is_dir:
                self.folders[path] = []
            return
        folder, _, last = path.rpartition(b"/")
        entries = self.folders.get(folder)
        name = listing.plain_name(last)
        if entries is None or name is None or kind not in (b"d", b"f", b"l"):
            return
        if len(entries) >= listing.MOST_ENTRIES and name not in listing.KNOWN:
            self.crowds.add(folder)
            return
        entries.append(listing.Found(name, is_dir, size, max(mtime, 0), kind == b"l"))
        if is_dir:
            self.folders[path] = []

    def end(self) -> None:
        if self._buffer:
            raise ValueError("not what find tells")

    def distrust_empty(self) -> None:
        """Some folder could not be read: those that seem empty have to be asked for."""
        self.folders = {path: found for path, found in self.folders.items() if found}
