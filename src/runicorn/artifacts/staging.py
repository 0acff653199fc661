"""A version being built: a folder of its own beside the others, until it is renamed into place.

The builder holds a lock on the folder itself as long as it lives: no lock file to leave behind.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .records import FileEntry

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STAGING = ".staging-"
_MANY = 100
_THREADS = 4


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """A folder to build a version in. Renamed away or not, nothing of it remains."""
    made, lock = _new_staging(folder)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _new_staging(folder: Path) -> tuple[Path, int | None]:
    while True:
        staging = folder / f"{STAGING}{uuid.uuid4().hex}"
        staging.mkdir()
        if fcntl is None:
            return staging, None
        try:
            lock = os.open(staging, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if staging.exists():
            return staging, lock
        os.close(lock)  # taken for a leftover before it was locked


def is_abandoned(staging: str) -> bool:
    """Whether its builder is gone; where folders cannot be locked, after a day."""
    try:
        if fcntl is None:
            return time.time() - Path(staging).stat().st_mtime > 86400
        lock = os.open(staging, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)


def store_all(
    store: Callable[[str | Path, str], FileEntry],
    sources: Sequence[str | Path],
    paths: Sequence[str],
    folder: str,
) -> list[FileEntry]:
    """Store every file, of many several at once: most of the time is the file system's."""

    def one(source: str | Path, path: str) -> FileEntry:
        entry = store(source, f"{folder}/{path}")
        entry.path = path
        return entry

    if len(paths) < _MANY:
        return list(map(one, sources, paths))
    starts = range(0, len(paths), _MANY)

    def some(start: int) -> list[FileEntry]:
        part = slice(start, start + _MANY)
        return list(map(one, sources[part], paths[part]))

    with ThreadPoolExecutor(_THREADS) as threads:
        return [entry for part in threads.map(some, starts) for entry in part]


def find_clash(paths: Sequence[str]) -> str | None:
    """A path that is there twice, or that is the folder of another."""
    seen = set(paths)
    if len(seen) < len(paths):
        return next(path for path in paths if paths.count(path) > 1)
    folders = {path.rpartition("/")[0] for path in paths}
    for folder in folders - {""}:
        for end in range(len(folder) + 1):
            if folder[end : end + 1] in ("/", "") and folder[:end] in seen:
                return folder[:end]
    return None
