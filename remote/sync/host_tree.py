"""What a host told of its folders: the entries of one, and the folders of a whole tree.

The host is not trusted: names are taken that are one component of a path here, and of files,
folders and links no more in one folder than a person could look at.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncssh

from runicorn import layout

MOST_ENTRIES = 10_000
"""More in one folder are passed over."""

MOST_RECORDS = 2_000_000
"""A host that tells more is asked folder by folder, of which each has its limit."""

LONGEST_RECORD = 65536

RUN_FILES = (*layout.DOCUMENTS, *layout.STREAMS)
"""These are looked for even in a folder that is too full for a listing."""

FORMAT = r"%y %s %T@ %p\0"
"""Of a record, for ``find -printf``."""

_RECORD = re.compile(rb"(\w) (\d+) (-?\d+)(?:\.\d*)? \.(?:/(.*))?", re.DOTALL)


class Entry(NamedTuple):
    name: str
    """In a listing of a whole run: its path in it."""
    is_dir: bool
    size: int
    mtime: int
    is_link: bool = False


def entry_of(name: str, attributes: asyncssh.SFTPAttrs) -> Entry | None:
    """Return what *attributes* describe; None for what is neither file, folder nor link."""
    mode = attributes.permissions or 0
    is_dir, is_link = stat.S_ISDIR(mode), stat.S_ISLNK(mode)
    if not (is_dir or is_link or stat.S_ISREG(mode)):
        return None
    return Entry(name, is_dir, attributes.size or 0, int(attributes.mtime or 0), is_link)


def plain_name(name: bytes) -> str | None:
    """Return *name* as text if it can be one component of a path here, whatever the host meant."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    return text if layout.is_plain_name(text) else None


@dataclass
class Tree:
    """Folders by their paths below the root, each with what is in it."""

    starts: list[bytes]
    folders: dict[bytes, list[Entry]] = field(default_factory=dict)
    crowds: set[bytes] = field(default_factory=set)
    """Folders of which some entries were left out."""
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
        name = plain_name(last)
        if entries is None or name is None or kind not in (b"d", b"f", b"l"):
            return
        if len(entries) >= MOST_ENTRIES and name not in RUN_FILES:
            self.crowds.add(folder)
            return
        entries.append(Entry(name, is_dir, size, max(mtime, 0), kind == b"l"))
        if is_dir:
            self.folders[path] = []

    def end(self) -> None:
        if self._buffer:
            raise ValueError("not what find tells")

    def distrust_empty(self) -> None:
        """Some folder could not be read: those that seem empty have to be asked for."""
        self.folders = {path: found for path, found in self.folders.items() if found}
