"""The pool of contents: one file per distinct content, hard-linked into every version with it.

``<pool>/<first two digits>/<sha256>``. A content enters the pool by being linked to its name when
it is complete, and leaves it only when no version links to it, so:

- no reader ever finds a part of a content under its name, whatever is killed meanwhile;
- a content that is being saved is safe from a clean-up the moment it is linked into the new
  version, although that version is not there yet (``release``).

Where a file system has no hard links, versions hold copies and the pool is only a cache of them.
Contents are not flushed to the disk one by one: they survive a killed process, not a power cut.

A second process loads this file for its share of many small ones (``helper.py``), and is to be at
work before the first has done them alone. So it imports only what is there within milliseconds.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    Progress = Callable[[int], None]
    """Told how many bytes have been read since it was last told."""

BLOCK = 256 << 10
"""Bytes read at once: of larger blocks each would be fresh memory from the system, page by page."""

_ASIDE = ".aside-"
_COPY = ".copy-"


class Stored:
    """What became of a file that was saved."""

    __slots__ = ("digest", "modified_at", "size")

    def __init__(self, digest: str, size: int, modified_at: float | None) -> None:
        self.digest, self.size, self.modified_at = digest, size, modified_at


class Pool:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._base = str(folder)
        self._folders: set[str] = set()
        self._is_new = False
        """Whether the last content was: the next is likely to be what the last was, and then it
        is not looked for first."""

    def path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest

    def size(self, digest: str) -> int | None:
        """Of the content, in bytes; None if it is not here."""
        try:
            return os.stat(self._name(digest)).st_size
        except OSError:
            return None

    def has(self, digest: str, size: int) -> bool:
        return self.size(digest) == size

    def store(self, source: str | Path, target: str, *, is_likely: Callable[[int], bool]) -> Stored:
        """Make *target* (which does not exist) the content of *source*, by a link if it is known.

        *is_likely*: whether the pool is likely to have a large file of so many bytes, so that it
        is worth hashing it before it is copied.
        """
        file, info = open_regular(source)
        try:
            expected = info.st_size
            if expected > BLOCK:
                return self._store_large(file, info, target, is_likely(expected))
            data = os.read(file, expected + 1)
            if len(data) != expected:  # one more was asked for, and this is not the end
                data = _read_on(file, data)
        finally:
            os.close(file)
        digest, size = hashlib.sha256(data).hexdigest(), len(data)
        if self._is_new or not self.link(digest, size, target):
            copy = _create(target, info)
            try:
                write_all(copy, data)
            finally:
                os.close(copy)
            self._is_new = self.enter(digest, size, target)
        return Stored(digest, size, info.st_mtime)

    def _store_large(self, file: int, info: os.stat_result, target: str, is_known: bool) -> Stored:
        if is_known:
            digest, size = hash_file(file)
            if self.link(digest, size, target):
                return Stored(digest, size, info.st_mtime)
            os.lseek(file, 0, os.SEEK_SET)
        from .copying import copy_hashed

        copy = _create(target, info)
        try:
            digest, size = copy_hashed(file, copy, target)
        finally:
            os.close(copy)
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
            from shutil import copy2

            try:
                copy2(name, target)
            except FileNotFoundError:
                return False
        if os.stat(target).st_size == size:
            return True
        os.unlink(target)  # cut short by another program that was killed: replaced by enter
        return False

    def enter(self, digest: str, size: int, target: str) -> bool:
        """Take the complete *target* into the pool, or let it be the pool's file of this content.

        Returns whether the content is new there.
        """
        name = self._name(digest)
        if digest[:2] not in self._folders:
            os.makedirs(os.path.dirname(name), exist_ok=True)
            self._folders.add(digest[:2])
        try:
            os.link(target, name)
        except FileExistsError:
            if self._give_way(digest, size, target):
                return False
            self._copy_in(target, name)  # it was cut short by another program, or is gone again
        except FileNotFoundError:  # somebody removed the folder
            os.makedirs(os.path.dirname(name), exist_ok=True)
            self._copy_in(target, name)
        except OSError:
            self._copy_in(target, name)
        return True

    def _give_way(self, digest: str, size: int, target: str) -> bool:
        """Let *target* be the pool's file of the same content; False if that is not whole."""
        name = self._name(digest)
        try:
            kept = os.stat(name)
        except FileNotFoundError:
            return False
        if kept.st_size != size:
            return False
        if not os.path.samestat(kept, os.stat(target)):
            spare = _temporary(name)
            if not self.link(digest, size, spare):
                return False
            os.replace(spare, target)
        return True

    def _copy_in(self, target: str, name: str) -> None:
        temporary = _temporary(name)
        try:
            try:
                os.link(target, temporary)
            except OSError:
                from shutil import copy2

                copy2(target, temporary)
            os.replace(temporary, name)
        except BaseException:
            _unlink(temporary)
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
                        _unlink(copy.path)
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
        return f"{self._base}/{digest[:2]}/{digest}"


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _temporary(name: str) -> str:
    """Beside *name*, for what is collected if it is left there."""
    return os.path.join(os.path.dirname(name), _COPY + os.urandom(16).hex())


def _unlink(name: str) -> None:
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass


def _is_old(entry: os.DirEntry[str]) -> bool:
    return time.time() - entry.stat(follow_symlinks=False).st_ctime > 3600


# -- reading, writing and hashing, by file descriptor ------------------------------------------

_BINARY: int = getattr(os, "O_BINARY", 0)
_READ: int = os.O_RDONLY | _BINARY | getattr(os, "O_NONBLOCK", 0)


def open_regular(path: str | os.PathLike[str]) -> tuple[int, os.stat_result]:
    """A descriptor to read *path* with, and what the file system says of it.

    Raises OSError, also for what is no regular file: a pipe would be waited at for ever.
    """
    file = os.open(path, _READ)
    info = os.fstat(file)
    if not stat.S_ISREG(info.st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return file, info


def _create(target: str, info: os.stat_result) -> int:
    """A new file with the mode of its source."""
    mode = stat.S_IMODE(info.st_mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR
    return os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, mode)


def _read_on(file: int, data: bytes) -> bytes:
    """*data* and what comes after it: the file grew, or a signal came between."""
    while more := os.read(file, BLOCK) if data else b"":
        data += more
    return data


def write_all(file: int, data: bytes | memoryview) -> None:
    """``os.write`` may take less than it is given."""
    if (written := os.write(file, data)) < len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(file, view) :]


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
