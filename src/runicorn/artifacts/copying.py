"""Copying large files: hashed while the kernel copies on."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from .pool import BLOCK, write_all

_PIECE = 32 << 20
_HASHED = 1 << 20
"""Bytes hashed at once beside other threads: between two blocks it may wait for them."""


def copy_hashed(file: int, copy: int, target: str) -> tuple[str, int]:
    """Copy all of one open file to another, *target*, which is empty; (sha256, bytes) of the copy.

    Of the copy, which nobody else writes to: the source may change at any time. A second thread
    hashes what has been copied while the kernel copies on.
    """
    copied = _Copied()
    with ThreadPoolExecutor(1) as thread:
        hashed = thread.submit(_hash_behind, target, copied)
        try:
            while _copy_piece(file, copy):
                copied.reached(os.lseek(copy, 0, os.SEEK_CUR))
        finally:
            copied.ended()
        return hashed.result()


class _Copied:
    """How far a copy is, for whoever waits to read it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = 0
        self._is_over = False

    def reached(self, count: int) -> None:
        with self._changed:
            self._bytes = count
            self._changed.notify()

    def ended(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def beyond(self, count: int) -> int:
        """Waits until there is more than *count*; then all there is. *count* at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes > count or self._is_over)
            return self._bytes


def _hash_behind(target: str, copied: _Copied) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    block = memoryview(bytearray(_HASHED))
    with open(target, "rb", buffering=0) as written:
        while (end := copied.beyond(size)) > size:
            while size < end:
                if not (count := written.readinto(block[: end - size])):
                    raise OSError(errno.EIO, "The copy was cut short", target)
                digest.update(block[:count])
                size += count
    return digest.hexdigest(), size


def _copy_piece(file: int, copy: int) -> bool:
    """Copy a piece from where both files stand; False at the end."""
    if hasattr(os, "copy_file_range"):
        try:
            if os.copy_file_range(file, copy, _PIECE):
                return True
        except OSError:  # two file systems, or one that cannot
            pass
    count = 0
    while count < _PIECE and (block := os.read(file, BLOCK)):
        write_all(copy, block)
        count += len(block)
    return count > 0
