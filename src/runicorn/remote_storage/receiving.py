"""Receive one file: decide where reading starts, and when the copy counts.

Streams (``layout.STREAMS``) only grow: their copy is continued where it ends, after a look at
whether it is still the beginning of what is there. Everything else is replaced in one step, by the
whole file as it is when it is read, which may be later than it was listed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

from .. import layout

OVERLAP = 256
"""Bytes before the end of a copied stream that are compared before more is appended."""

TAIL = 4096
"""Bytes that ``tail_hash`` of a manifest is about."""

LARGEST_GROWTH = 64 * 2**20
"""A document may be larger than it was when it was listed, by this much."""

LATEST = 2**33
"""The highest time that every file system can keep; a host may claim any."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_numbers = itertools.count()


class Differs(OSError):
    """The copy here differs from the file there and has been dropped: read from the beginning."""


class Incomplete(OSError):
    """The file ended before it should have: it is being written, and the next look decides."""


class Download:
    """``begin()``, read from the offset that it returns to *size*, ``write()`` it, ``finish()``;
    after Differs once more; ``abandon()`` if anything else goes wrong.

    *source* is relative to the root there. *is_listed*: a listing of its folder has shown a plain
    file there, no link. *is_resumed*: the received part stays after a cut and goes on, although
    the file is no stream. *home*: a folder that has to exist and is not made, since it was removed
    on purpose.
    """

    def __init__(
        self,
        source: str,
        target: Path,
        size: int,
        mtime: float,
        *,
        tail_hash: str | None = None,
        sha256: str | None = None,
        is_listed: bool = False,
        is_resumed: bool = False,
        home: Path | None = None,
    ) -> None:
        self.source, self.target = source, target
        self.size = size
        self.mtime = min(max(mtime, 0), LATEST)
        self.tail_hash, self.sha256 = tail_hash, sha256
        self.is_listed = is_listed
        self._home = home
        self.is_stream = is_resumed or target.name in layout.STREAMS
        self.is_open_ended = not self.is_stream and not sha256
        self.received = 0
        """Bytes that are new here."""
        self.was_appended = False
        self.is_done = False
        self._file = -1
        self._at = 0
        self._expected = b""
        self._temporary: Path | None = None
        self._hash = hashlib.sha256() if sha256 else None

    def is_needed(self) -> bool:
        """Return whether the copy is missing, or has another size or time."""
        try:
            info = os.lstat(self.target)
        except (FileNotFoundError, NotADirectoryError):
            return True
        if self.is_stream and info.st_size > self.size and not self.is_listed:
            return not self._is_ahead()
        return (info.st_size, int(info.st_mtime)) != (self.size, int(self.mtime))

    def _is_ahead(self) -> bool:
        """Return whether the copy has all that a manifest lists, and more followed since."""
        try:
            with self.target.open("rb") as file:
                return not self.size or self._tail(file.fileno()) == self.tail_hash
        except OSError:
            return False

    def begin(self) -> int:
        if self._file < 0:
            self._open()
        return self._at

    def _open(self) -> None:
        if self.is_stream:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK | _BINARY
            self._file = self._open_in_folder(self.target, flags)
            size = os.fstat(self._file).st_size
            if size > self.size and not self.is_listed and self._is_ahead():
                size = self.size
            elif size > self.size:
                os.ftruncate(self._file, 0)
                size = 0
            self.was_appended = size > 0
            length = min(OVERLAP, size)
            self._at = size - length
            self._expected = os.pread(self._file, length, self._at) if length else b""
            if self.sha256:
                self._hash = hashlib.sha256()
                os.lseek(self._file, 0, os.SEEK_SET)
                while block := os.read(self._file, 1 << 20):
                    self._hash.update(block)
        else:
            name = f".{self.target.name[:100]}.{os.getpid()}-{next(_numbers)}.tmp"
            self._temporary = self.target.with_name(name)
            self._at = 0  # an earlier part was abandoned
            self._hash = hashlib.sha256() if self.sha256 else None
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY
            self._file = self._open_in_folder(self._temporary, flags)

    def _open_in_folder(self, path: Path, flags: int) -> int:
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            if self._home and not self._home.is_dir():
                raise
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)

    def write(self, data: bytes | memoryview) -> None:
        if self._expected:
            length = min(len(self._expected), len(data))
            if data[:length] != self._expected[:length]:
                self._start_anew()
            self._expected = self._expected[length:]
            self._at += length
            data = data[length:]
        if self.is_open_ended:
            if self._at + len(data) > self.size + LARGEST_GROWTH:
                raise Incomplete(f"{self.source}: grows without end")
        elif len(data) > self.size - self._at:
            data = data[: self.size - self._at]  # a host that sends more than it said
        if self._hash:
            self._hash.update(data)
        view = memoryview(data)
        while view:
            written = os.write(self._file, view)
            view = view[written:]
            self._at += written
            self.received += written

    @property
    def missing(self) -> int:
        """Bytes to ask for from where it is now: one more than expected shows a file that grew."""
        if self.is_open_ended:
            return max(self.size - self._at, 0) + 1
        return self.size - self._at

    def finish(self) -> None:
        if not self.is_open_ended and (self.missing or self._expected):
            self._close()
            raise Incomplete(f"{self.source}: {self.missing} of {self.size} bytes did not come")
        if self._hash and self._hash.hexdigest() != self.sha256:
            if self.is_stream:
                os.ftruncate(self._file, 0)
            self._close()
            raise OSError(f"{self.source}: the content is not what its digest says")
        if self.tail_hash and self.is_stream and self.tail_hash != self._tail(self._file):
            if self.was_appended:
                self._start_anew()
            self._close()
            raise Incomplete(f"{self.source}: its end is not what the manifest says")
        path = self._temporary or self.target
        os.utime(self._file if os.utime in os.supports_fd else path, (self.mtime, self.mtime))
        os.close(self._file)
        self._file = -1
        if self._temporary:
            try:
                self._temporary.replace(self.target)
            except OSError:
                self._close()
                raise
        self.is_done = True

    def _tail(self, file: int) -> str:
        start = max(0, self.size - TAIL)
        tail = os.pread(file, self.size - start, start)
        return hashlib.md5(tail, usedforsecurity=False).hexdigest()

    def _start_anew(self) -> None:
        os.ftruncate(self._file, 0)
        if self._hash:
            self._hash = hashlib.sha256()
        self._at, self._expected, self.was_appended = 0, b"", False
        raise Differs(f"{self.source}: not what it was")

    def abandon(self) -> None:
        """Leave it. What came of a stream stays, and is gone on from next time."""
        if self._file >= 0:
            self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._temporary:
            self._temporary.unlink(missing_ok=True)
