"""The files of a run: the only way to read and write them.

They are in the run's folder below the storage root. No link is followed, neither in the folder nor
to it. A document that cannot be parsed is *damaged*, which differs from missing, and is never
overwritten.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runicorn import files, layout

READ_BYTES = 8 * 2**20
LARGEST_DOCUMENT = 64 * 2**20


class Gap(Exception):
    """Bytes before the offered ones are missing; continue from ``expected``."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"Continue from offset {expected}.")
        self.expected = expected


def fingerprint(info: os.stat_result) -> str:
    """Return a text that changes with the file: its size, its time and its inode."""
    return f"{info.st_size}:{info.st_mtime_ns}:{info.st_ino}"


class RunFiles:
    """The files of the run in *folder*.

    Methods raise OSError if the disk fails, FileNotFoundError for missing files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- reading

    def listed(self) -> dict[str, os.stat_result] | None:
        """Return the run's own files, and the folder as ``.``; None if it is not a run's folder."""
        try:
            folder = os.lstat(self.folder)
            if not stat.S_ISDIR(folder.st_mode):
                return None
            listed = {".": folder}
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if layout.is_run_file(entry.name):
                        info = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(info.st_mode):
                            listed[entry.name] = info
            return listed if not listed.keys().isdisjoint(layout.RUN_FILES) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self) -> set[str]:
        return (self.listed() or {}).keys() - {"."}

    def size(self, name: str) -> int:
        return files.stat_inside(self.folder, name).st_size

    def open(self, name: str) -> Any:
        """Open a file for reading; *name* may be in a folder of the run, such as ``media``."""
        return files.open_inside(self.folder, name)

    def read(self, name: str, offset: int = 0, limit: int = LARGEST_DOCUMENT) -> bytes:
        with self.open(name) as file:
            file.seek(offset)
            return file.read(limit)

    def document(self, name: str) -> dict[str, Any]:
        """Return the object in a document; empty if it is missing.

        Raises layout.DamagedDocument.
        """
        try:
            content = self.read(name)
        except FileNotFoundError:
            return {}
        document = layout.parse_json(content)
        if document is None:
            raise layout.DamagedDocument(self.folder / name)
        return document

    # -- writing

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock that all programs use to read, change and write *name*."""
        with layout.locked_in_run(self.folder / name):
            yield

    def append(self, name: str, offset: int, data: bytes) -> int:
        """Write *data*, which begins at *offset*, to the end of a stream; return its new size.

        Bytes that exist already are skipped. Raises Gap if bytes before *offset* are missing.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        self._check_folder()
        with self.locked(name):
            descriptor = os.open(self.folder / name, flags, layout.new_file_mode())
            try:
                size = os.fstat(descriptor).st_size
                if offset > size:
                    raise Gap(size)
                remaining = memoryview(data)[size - offset :]
                while remaining:
                    written = os.write(descriptor, remaining)
                    remaining = remaining[written:]
                    size += written
                return size
            finally:
                os.close(descriptor)

    def replace(self, name: str, content: bytes) -> None:
        """Write a document as a whole: readers see the old content or the new, never a part."""
        self._check_folder()
        layout.write_bytes(self.folder / name, content)

    def remove(self, name: str) -> None:
        self._check_folder()
        (self.folder / name).unlink(missing_ok=True)

    def _check_folder(self) -> None:
        if not stat.S_ISDIR(os.lstat(self.folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "A run's folder is no link", str(self.folder))
