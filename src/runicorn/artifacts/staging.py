"""A version being built: a folder of its own beside the others, until it is renamed into place.

The builder holds a lock on the folder itself as long as it lives: no lock file to leave behind.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STAGING = ".staging-"


@contextmanager
def staging_folder(folder: Path) -> Iterator[tuple[Path, int | None]]:
    """Make a folder to build a version in; yield it and the descriptor of its lock, if any.

    It is removed at the end, unless it was renamed into place.
    """
    made, lock = _new_staging(folder)
    try:
        yield made, lock
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
    """Return whether its builder is gone; where folders cannot be locked, that is after a day."""
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


def find_clash(paths: Sequence[str]) -> str | None:
    """Return a path that occurs twice or is the folder of another, or None."""
    seen = set(paths)
    if len(seen) < len(paths):
        return next(path for path in paths if paths.count(path) > 1)
    folders = {path.rpartition("/")[0] for path in paths}
    for folder in folders - {""}:
        for end in range(len(folder) + 1):
            if folder[end : end + 1] in ("/", "") and folder[:end] in seen:
                return folder[:end]
    return None
