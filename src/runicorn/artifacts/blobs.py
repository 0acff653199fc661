"""The store of contents: one file per distinct content, hard-linked into every version with it.

``<folder>/<first two digits>/<sha256>``. A content enters the store when it is complete, by a link
under its name, and leaves it only when no version links to it, so:

- a reader never finds a part of a content under its name, whatever is killed meanwhile;
- a content that is being saved is safe from a clean-up from the moment it is linked into the new
  version, before that version itself appears (``release``).

On a file system without hard links, versions hold copies and the store is only a cache of them.
Contents are not flushed to the disk one by one: they survive a killed process, not a power cut.

Worker processes load this file alone (``copy_worker.py``) and must be at work within milliseconds,
so it imports only modules that load that fast.
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
    """Called with the number of bytes read since the last call."""
    CopyLarge = Callable[[int, int, str], tuple[str, int]]
    """Copies an open file to an open, empty one at a path; returns the copy's sha256 and size."""

READ_BYTES = 256 << 10
"""Bytes read at once. A larger buffer would be fresh memory from the system, page by page."""

_ASIDE = ".aside-"
_COPY = ".copy-"


class Stored:
    """The outcome of saving a file."""

    __slots__ = ("digest", "modified_at", "size")

    def __init__(self, digest: str, size: int, modified_at: float | None) -> None:
        self.digest, self.size, self.modified_at = digest, size, modified_at


class BlobStore:
    """The contents below *folder*. *copy_large* copies the files too large for one read."""

    def __init__(self, folder: Path, copy_large: CopyLarge | None = None) -> None:
        self.folder = folder
        self._copy_large = copy_large
        self._base = str(folder)
        self._folders: set[str] = set()
        self._is_new = False
        """Whether the last content was new. The next one is likely to be new as well, and is then
        not looked up first."""

    def path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest

    def size(self, digest: str) -> int | None:
        """Return the content's size in bytes; None if it is not here."""
        try:
            return os.stat(self._name(digest)).st_size
        except OSError:
            return None

    def has(self, digest: str, size: int) -> bool:
        return self.size(digest) == size

    def store(self, source: str | Path, target: str, *, is_likely: Callable[[int], bool]) -> Stored:
        """Make *target*, which must not exist, the content of *source*: a link if it is stored.

        *is_likely* tells whether a large file of the given size is likely to be stored already, so
        that hashing it before it is copied pays.
        """
        file, info = open_regular(source)
        try:
            expected = info.st_size
            if expected > READ_BYTES:
                return self._store_large(file, info, target, is_likely(expected))
            data = os.read(file, expected + 1)
            if len(data) != expected:  # one byte more was asked for: the file's end must show
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

    def _store_large(self, file: int, info: os.stat_result, target: str, is_likely: bool) -> Stored:
        if is_likely:
            digest, size = hash_file(file)
            if self.link(digest, size, target):
                return Stored(digest, size, info.st_mtime)
            os.lseek(file, 0, os.SEEK_SET)
        copy = _create(target, info)
        try:
            if self._copy_large:
                digest, size = self._copy_large(file, copy, target)
            else:
                digest, size = copy_and_hash(file, copy)
        finally:
            os.close(copy)
        self.enter(digest, size, target)
        return Stored(digest, size, info.st_mtime)

    def link(self, digest: str, size: int, target: str) -> bool:
        """Make *target* the content if it is stored whole; return whether it is."""
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
        """Add the complete *target* to the store, or make it the stored file of this content.

        Return whether the content is new in the store.
        """
        name = self._name(digest)
        if digest[:2] not in self._folders:
            os.makedirs(os.path.dirname(name), exist_ok=True)
            self._folders.add(digest[:2])
        try:
            os.link(target, name)
        except FileExistsError:
            if self._replace_by_stored(digest, size, target):
                return False
            self._copy_in(target, name)  # it was cut short by another program, or is gone again
        except FileNotFoundError:  # the folder was removed
            os.makedirs(os.path.dirname(name), exist_ok=True)
            self._copy_in(target, name)
        except OSError:
            self._copy_in(target, name)
        return True

    def _replace_by_stored(self, digest: str, size: int, target: str) -> bool:
        """Make *target* the stored file of the same content; False if that one is not whole."""
        name = self._name(digest)
        try:
            stored = os.stat(name)
        except FileNotFoundError:
            return False
        if stored.st_size != size:
            return False
        if not os.path.samestat(stored, os.stat(target)):
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
        """Remove those of *digests* that no version links to; return the bytes freed.

        A content is first moved aside, where it cannot be linked to any more, and only then are its
        links counted: if it was linked to before that, it is moved back.
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
        """Remove or move back a content that was moved aside; return the bytes freed."""
        try:
            info = os.stat(aside)
            if info.st_nlink > 1:
                os.makedirs(os.path.dirname(self._name(digest)), exist_ok=True)
                try:
                    os.link(aside, self._name(digest))
                except FileExistsError:
                    pass  # it was saved again meanwhile
            os.unlink(aside)
        except FileNotFoundError:  # another process settled it
            return 0
        return info.st_size if info.st_nlink == 1 else 0

    def collect_leftovers(self) -> int:
        """Finish the work of killed clean-ups and remove half copies; return the bytes freed."""
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
        """Yield the digest and the file status of every content."""
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
    """Return a path beside *name* that ``collect_leftovers`` removes if it is left there."""
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
    """Open *path* for reading; return the descriptor and the file's status.

    Raises OSError, also for anything but a regular file: reading a pipe could wait for ever.
    """
    file = os.open(path, _READ)
    info = os.fstat(file)
    if not stat.S_ISREG(info.st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return file, info


def _create(target: str, info: os.stat_result) -> int:
    """Create a file with the mode of its source."""
    mode = stat.S_IMODE(info.st_mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR
    return os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, mode)


def _read_on(file: int, data: bytes) -> bytes:
    """Return *data* and the rest of the file, which grew or was read only in part."""
    while more := os.read(file, READ_BYTES) if data else b"":
        data += more
    return data


def write_all(file: int, data: bytes | memoryview) -> None:
    """Write all of *data*, of which one ``os.write`` may take only a part."""
    if (written := os.write(file, data)) < len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(file, view) :]


def hash_file(file: int, progress: Progress | None = None) -> tuple[str, int]:
    """Return the sha256 and the number of bytes of an open file, from its position to its end."""
    digest, size = hashlib.sha256(), 0
    while data := os.read(file, READ_BYTES):
        digest.update(data)
        size += len(data)
        if progress:
            progress(len(data))
    return digest.hexdigest(), size


def copy_and_hash(file: int, copy: int, progress: Progress | None = None) -> tuple[str, int]:
    """Copy one open file to another; return the sha256 and the number of the copied bytes."""
    digest, size = hashlib.sha256(), 0
    while data := os.read(file, READ_BYTES):
        digest.update(data)
        write_all(copy, data)
        size += len(data)
        if progress:
            progress(len(data))
    return digest.hexdigest(), size
