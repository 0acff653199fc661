"""Copy large files, and hash the copy while the kernel goes on copying."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from .blobs import READ_BYTES, write_all

_COPY_BYTES = 32 << 20
"""Bytes that the kernel copies in one call."""

_HASH_BYTES = 1 << 20
"""Bytes hashed in one call: between two calls the thread may have to wait for the others."""


def copy_hashed(file: int, copy: int, target: str) -> tuple[str, int]:
    """Copy an open file to the open, empty *target*; return the sha256 and size of the copy.

    The copy is hashed, since the source may change at any time. A second thread does it while the
    kernel goes on copying.
    """
    progress = _CopyProgress()
    with ThreadPoolExecutor(1) as thread:
        hashed = thread.submit(_hash_behind, target, progress)
        try:
            while _copy_some(file, copy):
                progress.advance(os.lseek(copy, 0, os.SEEK_CUR))
        finally:
            progress.end()
        return hashed.result()


class _CopyProgress:
    """The number of bytes copied so far, shared with the thread that hashes them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = 0
        self._is_over = False

    def advance(self, count: int) -> None:
        with self._changed:
            self._bytes = count
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def wait_beyond(self, count: int) -> int:
        """Wait for more than *count* bytes; return how many there are, or *count* at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes > count or self._is_over)
            return self._bytes


def _hash_behind(target: str, progress: _CopyProgress) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_HASH_BYTES))
    with open(target, "rb", buffering=0) as written:
        while (end := progress.wait_beyond(size)) > size:
            while size < end:
                if not (count := written.readinto(buffer[: end - size])):
                    raise OSError(errno.EIO, "The copy was cut short", target)
                digest.update(buffer[:count])
                size += count
    return digest.hexdigest(), size


def _copy_some(file: int, copy: int) -> bool:
    """Copy some bytes from the positions of both files; return False at the end."""
    if hasattr(os, "copy_file_range"):
        try:
            if os.copy_file_range(file, copy, _COPY_BYTES):
                return True
        except OSError:  # two file systems, or one that cannot
            pass
    count = 0
    while count < _COPY_BYTES and (data := os.read(file, READ_BYTES)):
        write_all(copy, data)
        count += len(data)
    return count > 0
