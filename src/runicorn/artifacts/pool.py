"""The pool of contents: one file per distinct content, hard-linked into every version with it.

``<pool>/<first two digits>/<sha256>``. A content enters the pool by being linked to its name when
it is complete, and leaves it only when no version links to it, so:

- no reader ever finds a part of a content under its name, whatever is killed meanwhile;
- a content that is being saved is safe from a clean-up the moment it is linked into the new
  version, although that version is not there yet (``release``).

Where a file system has no hard links, versions hold copies and the pool is only a cache of them.
Contents are not flushed to the disk one by one: they survive a killed process, not a power cut.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

BLOCK = 256 << 10
"""Bytes read at once: of larger blocks each would be fresh memory from the system, page by page."""

_PIECE = 32 << 20
_HASHED = 1 << 20
"""Bytes hashed at once beside other threads: between two blocks it may wait for them."""

_ASIDE = ".aside-"
_COPY = ".copy-"

Progress = Callable[[int], None]
"""Told how many bytes have been read since it was last told."""


@dataclass
class Stored:
    """What became of a file that was saved."""

    digest: str
    size: int
    modified_at: float | None


class Pool:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folders: set[str] = set()

    def path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest

    def has(self, digest: str, size: int) -> bool:
        try:
            return os.stat(self._name(digest)).st_size == size
        except OSError:
            return False

    def store(self, source: str | Path, target: str, *, is_likely: Callable[[int], bool]) -> Stored:
        """Make *target* (which does not exist) the content of *source*, by a link if it is known.

        *is_likely*: whether the pool is likely to have a large file of so many bytes, so that it
        is worth hashing it before it is copied.
        """
        file = os.open(source, os.O_RDONLY | _BINARY)
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", str(source))
            if info.st_size > BLOCK:
                return self._store_large(file, info, target, is_likely(info.st_size))
            data = read_all(file, info.st_size)
        finally:
            os.close(file)
        digest, size = hashlib.sha256(data).hexdigest(), len(data)
        if not self.link(digest, size, target):
            copy = _create(target, info)
            try:
                write_all(copy, data)
                _keep_time(copy, target, info)
            finally:
                os.close(copy)
            self.enter(digest, size, target)
        return Stored(digest, size, info.st_mtime)

    def _store_large(self, file: int, info: os.stat_result, target: str, is_known: bool) -> Stored:
        if is_known:
            digest, size = hash_file(file)
            if self.link(digest, size, target):
                return Stored(digest, size, info.st_mtime)
            os.lseek(file, 0, os.SEEK_SET)
        copy = _create(target, info)
        try:
            digest, size = copy_hashed(file, copy, target)
            _keep_time(copy, target, info)
        finally:
            os.close(copy)
        if self.has(digest, size):
            spare = f"{target}{_COPY}"
            os.rename(target, spare)
            if self.link(digest, size, target):
                os.unlink(spare)
                return Stored(digest, size, info.st_mtime)
            os.rename(spare, target)  # it was released this moment
        self.enter(digest, size, target)
        return Stored(digest, size, info.st_mtime)

    def link(self, digest: str, size: int, target: str) -> bool:
        """Make *target* the content, if the pool has it whole; returns whether it has."""
        name = self._name(digest)
        try:
            os.link(name, target)
        except FileNotFoundError:
            return False
        except FileExistsError:
            raise
        except OSError:  # too many links, or a file system without any
            try:
                shutil.copy2(name, target)
            except FileNotFoundError:
                return False
        if os.stat(target).st_size == size:
            return True
        os.unlink(target)  # cut short by another program that was killed: replaced by enter
        return False

    def share(self, digest: str, size: int, target: str) -> None:
        """Let *target*, which has this content, be the pool's file, or become it."""
        if self.has(digest, size):
            spare = f"{target}{_COPY}"
            if self.link(digest, size, spare):
                os.replace(spare, target)
                return
        self.enter(digest, size, target)

    def enter(self, digest: str, size: int, target: str) -> None:
        """Take the complete *target* into the pool under its digest."""
        name = self._name(digest)
        if digest[:2] not in self._folders:
            os.makedirs(os.path.dirname(name), exist_ok=True)
            self._folders.add(digest[:2])
        try:
            os.link(target, name)
        except FileExistsError:
            if os.stat(name).st_size != size:  # cut short by another program
                self._copy_in(target, name)
        except FileNotFoundError:  # somebody removed the folder
            os.makedirs(os.path.dirname(name), exist_ok=True)
            self._copy_in(target, name)
        except OSError:
            self._copy_in(target, name)

    def _copy_in(self, target: str, name: str) -> None:
        temporary = os.path.join(os.path.dirname(name), _COPY + uuid.uuid4().hex)
        try:
            try:
                os.link(target, temporary)
            except OSError:
                shutil.copy2(target, temporary)
            os.replace(temporary, name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    # -- letting go ----------------------------------------------------------------------------

    def release(self, digests: Iterable[str]) -> int:
        """Remove those contents that no version links to; return the bytes freed.

        A content is first moved aside, where nobody can link to it any more, and only then its
        links are counted: whoever linked to it before has it, and then it is moved back.
        """
        freed = 0
        for digest in digests:
            name = self._name(digest)
            try:
                if os.stat(name).st_nlink > 1:
                    continue
                aside = os.path.join(self.folder, _ASIDE + digest)
                os.rename(name, aside)
            except OSError:
                continue
            freed += self._settle(aside, digest)
        return freed

    def _settle(self, aside: str, digest: str) -> int:
        """Decide over a content that was moved aside; returns the bytes freed."""
        try:
            info = os.stat(aside)
            if info.st_nlink > 1:
                os.makedirs(os.path.dirname(self._name(digest)), exist_ok=True)
                try:
                    os.link(aside, self._name(digest))
                except FileExistsError:
                    pass  # saved anew meanwhile
            os.unlink(aside)
        except FileNotFoundError:  # another process settled it
            return 0
        return info.st_size if info.st_nlink == 1 else 0

    def collect_leftovers(self) -> int:
        """Settle what a killed clean-up left aside and remove half copies; bytes freed."""
        freed = 0
        for entry in _entries(self.folder):
            if entry.name.startswith(_ASIDE):
                freed += self._settle(entry.path, entry.name.removeprefix(_ASIDE))
            elif entry.is_dir(follow_symlinks=False):
                for copy in _entries(entry.path):
                    if copy.name.startswith(_COPY) and _is_old(copy):
                        freed += copy.stat().st_size
                        Path(copy.path).unlink(missing_ok=True)
        return freed

    def contents(self) -> Iterator[tuple[str, os.stat_result]]:
        """(digest, what the file system says) of everything in the pool."""
        for folder in _entries(self.folder):
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                for entry in _entries(folder.path):
                    if len(entry.name) == 64 and entry.is_file(follow_symlinks=False):
                        try:
                            yield entry.name, entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue

    def _name(self, digest: str) -> str:
        return f"{self.folder}/{digest[:2]}/{digest}"


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_old(entry: os.DirEntry[str]) -> bool:
    return time.time() - entry.stat(follow_symlinks=False).st_ctime > 3600


# -- reading, writing and hashing, by file descriptor ------------------------------------------

_BINARY: int = getattr(os, "O_BINARY", 0)


def _create(target: str, info: os.stat_result) -> int:
    """A new file with the mode of its source."""
    mode = stat.S_IMODE(info.st_mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR
    return os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, mode)


def _keep_time(file: int, target: str, info: os.stat_result) -> None:
    where = file if os.utime in os.supports_fd else target
    os.utime(where, ns=(info.st_atime_ns, info.st_mtime_ns))


def read_all(file: int, expected: int) -> bytes:
    """From where *file* stands to its end; *expected* bytes are likely."""
    data = os.read(file, expected + 1)
    if len(data) == expected:
        return data  # one more was asked for: this is the end
    while more := os.read(file, BLOCK) if data else b"":  # it grew, or a signal came between
        data += more
    return data


def write_all(file: int, data: bytes | memoryview) -> None:
    """``os.write`` may take less than it is given."""
    if (written := os.write(file, data)) < len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(file, view) :]


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


def hash_file(file: int, progress: Progress | None = None) -> tuple[str, int]:
    """(sha256, bytes) of an open file, from where it stands to its end."""
    digest, size = hashlib.sha256(), 0
    while block := os.read(file, BLOCK):
        digest.update(block)
        size += len(block)
        if progress:
            progress(len(block))
    return digest.hexdigest(), size


def copy_and_hash(file: int, copy: int, progress: Progress | None = None) -> tuple[str, int]:
    """Copy one open file to another; (sha256, bytes) of exactly what was copied."""
    digest, size = hashlib.sha256(), 0
    while block := os.read(file, BLOCK):
        digest.update(block)
        write_all(copy, block)
        size += len(block)
        if progress:
            progress(len(block))
    return digest.hexdigest(), size
