"""Whole lines into files that grow, and that other processes may be writing as well."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from itertools import count
from pathlib import Path
from threading import RLock

KEPT_BYTES = 64 * 1024 * 1024
"""How much of what a full disk refuses is kept in memory to be written later, per file."""

_HIGHEST = 1 << 14
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)

write = os.write


def text_line(text: object) -> bytes:
    """Return *text* as ``logs.txt`` holds it: behind the local time."""
    return f"{time.strftime('%H:%M:%S')} | {text}\n".encode("utf-8", "ignore")


class LineWriter:
    """Appends whole lines to one file, each with one ``write`` and without a lock file.

    ``O_APPEND`` keeps the lines of several processes apart, and what ``write`` has taken survives
    the death of this process. Lines that the system refuses (disk full, quota, I/O error) wait in
    memory, in order, and go first the next time; a fragment that such a failure, or somebody's
    death, left at the end of the file is closed with a newline and never swallows a good line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropped = 0
        """Lines lost because more than ``KEPT_BYTES`` were waiting."""
        self.fd = -1
        """Where to ``write`` a line; -1, which the system refuses, while it would be out of turn:
        before the first line opens the file, and while lines wait."""
        self._open_fd = -1
        self._identity: tuple[int, int] | None = None
        self._is_kept_open = True
        self._is_flushing = False
        self._torn = True  # the file may end in the middle of a line
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lock = RLock()  # a signal handler may log while its thread holds it

    def append(self, line: bytes) -> bool:
        """Write *line*, which ends in a newline; False if it has to wait."""
        try:
            written = write(self.fd, line)
        except OSError:
            written = 0
        return written == len(line) or self.append_later(line, written)

    def append_later(self, line: bytes, written: int) -> bool:
        """Queue *line*, of which *written* bytes were taken, and flush; False if it has to wait."""
        with self._lock:
            self.fd = -1
            self._torn |= written > 0
            self._keep(_rest(line, written))
            return self.flush()

    def flush(self) -> bool:
        """Write what waits; False if something still does."""
        with self._lock:
            if self._is_flushing:  # a signal handler: whom it interrupted goes on with its line
                return True
            self._is_flushing = True
            try:
                while self._waiting:
                    self._write_first()
            except OSError:
                return False
            finally:
                self._is_flushing = False
            if self._is_kept_open:
                self.fd = self._open_fd
            else:
                self._let_go()
            return True

    def check(self) -> None:
        """Notice what became of the file meanwhile, and write what waits."""
        with self._lock:
            if self._open_fd >= 0 and not self._is_ours(linked=True):
                self._let_go()
            self.flush()

    def close(self) -> None:
        """Put what waits on the disk, if it takes it, and hold no descriptor from now on."""
        with self._lock:
            self.flush()
            try:
                if self._open_fd >= 0:
                    os.fsync(self._open_fd)
            except OSError:
                pass  # a file system that cannot, or a descriptor that is gone
            self._is_kept_open = False
            self._let_go()

    def after_fork(self) -> None:
        """In a child: what waits is the parent's to write, and its threads hold no lock here."""
        self._lock = RLock()
        self._is_flushing = False
        self._waiting.clear()
        self._waiting_bytes = 0
        self.fd = self._open_fd

    @property
    def waiting(self) -> int:
        """The number of lines that wait to be written."""
        return len(self._waiting)

    def _keep(self, line: bytes) -> None:
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        while self._waiting_bytes > KEPT_BYTES and len(self._waiting) > 1:
            self._waiting_bytes -= len(self._waiting.popleft())
            self.dropped += 1

    def _write_first(self) -> None:
        line = self._waiting[0]
        if not self._is_ours():
            self._let_go()
            self._open()
        newline = b"\n" if self._torn and not _ends_whole(self.path) else b""
        written = write(self._open_fd, newline + line)
        self._torn = written < len(newline + line)
        if self._torn:
            self._waiting[0] = _rest(line, written - len(newline))
            self._waiting_bytes -= len(line) - len(self._waiting[0])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._waiting_bytes -= len(self._waiting.popleft())

    def _open(self) -> None:
        descriptor = _out_of_reach(os.open(self.path, _FLAGS, 0o666))
        self._identity = _identity(descriptor)
        self._open_fd = descriptor
        self._torn = True

    def _is_ours(self, *, linked: bool = False) -> bool:
        """Whether the descriptor still is that of our file; *linked*: which some folder has."""
        try:
            info = os.fstat(self._open_fd)
        except OSError:  # closed behind our back, or the file is gone from its server
            return False
        return (info.st_dev, info.st_ino) == self._identity and (not linked or info.st_nlink > 0)

    def _let_go(self) -> None:
        """Close the descriptor, unless the number is somebody else's by now."""
        self.fd = -1
        try:
            if self._open_fd >= 0 and self._is_ours():
                os.close(self._open_fd)
        except OSError:
            pass
        self._open_fd = -1

    def __del__(self) -> None:
        self._let_go()


def _identity(descriptor: int) -> tuple[int, int]:
    info = os.fstat(descriptor)
    return info.st_dev, info.st_ino


_numbers = count()


def _out_of_reach(descriptor: int) -> int:
    """Give *descriptor* a number near the upper end of those that a process may have.

    Somebody may close it: a program that becomes a daemon, a library that closes a number twice.
    The system then hands the lowest free number to the next who opens a file, and so never ours,
    and a line of the log cannot land in a checkpoint. No two of ours follow each other on one
    number either. The table of descriptors is as long as its highest one: hence not the very end.
    """
    try:
        import fcntl
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        top = _HIGHEST if limit == resource.RLIM_INFINITY else min(limit, _HIGHEST)
        lowest = top - 1 - next(_numbers) % max(1, top // 8)
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    except (ImportError, OSError, ValueError):
        return descriptor
    os.close(descriptor)
    return moved


def _rest(line: bytes, written: int) -> bytes:
    """What must still be written of *line*: all of it behind a fragment, or its newline only,
    which closing the fragment adds."""
    return b"" if written == len(line) - 1 else line


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
