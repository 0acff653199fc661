"""Bring the copy of a run's folder up to date with the folder on a host.

The host is not trusted: only plain files and folders with plain names are copied, no link is
followed on either side, and whatever is read is bounded by what the listing said.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import asyncssh

from runicorn import layout

DEPTH = 6
MOST_ENTRIES = 10_000
"""More in one folder are passed over."""

PIECE = 2**20
OVERLAP = 256
"""Bytes before the end of a copied stream that are compared before more is appended."""

SETTLED_SECONDS = 2
RECENT_SECONDS = 3600
"""SFTP tells times in whole seconds: a document that is this new is fetched once more a little
later, because it may have changed again within its second."""


LOST = (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
"""Of the errors, those that concern more than one file."""


class Found(NamedTuple):
    name: str
    is_dir: bool
    size: int
    mtime: int


@dataclass
class Counts:
    copied_files: int = 0
    appended_bytes: int = 0


@dataclass
class Copier:
    """Copies run folders below *root*; one for as long as they are followed."""

    root: Path
    report: Callable[[str], None]
    counts: Counts = field(default_factory=Counts)
    _fetched: dict[Path, float] = field(default_factory=dict)

    async def copy(self, sftp: asyncssh.SFTPClient, source: bytes, directory: str) -> int:
        """Bring *directory* below the root up to date; the time of its newest file there."""
        return await self._folder(sftp, source, self.root / directory, DEPTH)

    async def _folder(
        self, sftp: asyncssh.SFTPClient, source: bytes, target: Path, depth: int
    ) -> int:
        newest = 0
        target.mkdir(parents=True, exist_ok=True)
        for found in await list_plain(sftp, source):
            there, here = source + b"/" + found.name.encode(), target / found.name
            if found.is_dir:
                if depth > 1 and not found.name.startswith(".") and not here.is_symlink():
                    newest = max(newest, await self._folder(sftp, there, here, depth - 1))
                continue
            newest = max(newest, found.mtime)
            if found.name.startswith(".") and found.name != layout.DELETED:
                continue
            try:
                if found.name in layout.STREAMS:
                    await self._follow(sftp, there, here, found)
                else:
                    await self._replace(sftp, there, here, found)
            except asyncssh.SFTPNoSuchFile:
                continue  # gone since it was listed
            except LOST:
                raise
            except (asyncssh.SFTPError, OSError) as error:  # this file's own trouble
                self.report(f"{here}: {error}")
        return newest

    async def _follow(
        self, sftp: asyncssh.SFTPClient, source: bytes, path: Path, found: Found
    ) -> None:
        """Append what is new. A file that is not the one it was is read from its beginning."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK, 0o666)
        with os.fdopen(handle, "r+b", buffering=0) as copy:
            info = os.fstat(handle)
            if (info.st_size, int(info.st_mtime)) == (found.size, found.mtime):
                return
            size = info.st_size
            async with sftp.open(source, "rb") as file:
                if size > found.size or not await _is_same(file, handle, size):
                    copy.truncate(0)
                    size = 0
                while size < found.size:
                    data = cast(bytes, await file.read(min(PIECE, found.size - size), size))
                    if not data:
                        return  # it shrank meanwhile: the next look decides
                    os.write(handle, data)
                    size += len(data)
                    self.counts.appended_bytes += len(data)
        os.utime(path, (found.mtime, found.mtime))

    async def _replace(
        self, sftp: asyncssh.SFTPClient, source: bytes, path: Path, found: Found
    ) -> None:
        if self._is_current(path, found):
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as copy:
                async with sftp.open(source, "rb") as file:
                    size = 0
                    while size < found.size:
                        data = cast(bytes, await file.read(min(PIECE, found.size - size), size))
                        if not data:
                            break
                        copy.write(data)
                        size += len(data)
            Path(name).chmod(layout.new_file_mode())
            if size == found.size:  # else its time stays different, and it is fetched again
                os.utime(name, (found.mtime, found.mtime))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._fetched[path] = time.monotonic()
        self.counts.copied_files += 1

    def _is_current(self, path: Path, found: Found) -> bool:
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return False
        if (info.st_size, int(info.st_mtime)) != (found.size, found.mtime):
            return False
        if abs(time.time() - found.mtime) > RECENT_SECONDS:
            return True
        fetched = self._fetched.get(path)
        if fetched is None or (0 < fetched < time.monotonic() - SETTLED_SECONDS):
            self._fetched[path] = 0.0
            return False
        return True


_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


async def _is_same(file: asyncssh.SFTPClientFile, handle: int, size: int) -> bool:
    """Whether the last bytes of the copy are what the file has there."""
    length = min(OVERLAP, size)
    if not length:
        return True
    there = cast(bytes, await file.read(length, size - length))
    return there == os.pread(handle, length, size - length)


async def find_runs(sftp: asyncssh.SFTPClient, root: bytes) -> list[str]:
    """Every run folder below *root*, relative to it: the current layout and the legacy one."""
    runs = []
    for project in await _folders(sftp, root):
        if project == layout.RUNS:
            runs += [f"{layout.RUNS}/{run}" for run in await _folders(sftp, root + b"/runs")]
        elif layout.is_project_name(project):
            for name in await _folders(sftp, root + b"/" + project.encode()):
                parent = f"{project}/{name}/{layout.RUNS}"
                found = await _folders(sftp, root + b"/" + parent.encode())
                runs += [f"{parent}/{run}" for run in found]
    return runs


async def _folders(sftp: asyncssh.SFTPClient, folder: bytes) -> list[str]:
    try:
        found = await list_plain(sftp, folder)
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure):
        return []
    return [entry.name for entry in found if entry.is_dir and not entry.name.startswith(".")]


async def list_plain(sftp: asyncssh.SFTPClient, folder: bytes) -> list[Found]:
    """The files and folders in *folder* that can be copied; links are not."""
    found: list[Found] = []
    scan = cast(AsyncGenerator[asyncssh.SFTPName, None], sftp.scandir(folder))
    async with aclosing(scan) as entries:
        async for entry in entries:
            if len(found) >= MOST_ENTRIES:
                break
            mode = entry.attrs.permissions or 0
            name = plain_name(cast(bytes, entry.filename))
            if name is not None and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                size, mtime = entry.attrs.size or 0, entry.attrs.mtime or 0
                found.append(Found(name, stat.S_ISDIR(mode), size, int(mtime)))
    return found


def plain_name(name: bytes) -> str | None:
    """*name* as text if it can be one component of a path here, whatever the host meant by it."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    is_odd = (
        text in ("", ".", "..") or len(name) > 200 or any(c in "/\\\x7f" or c < " " for c in text)
    )
    return None if is_odd or (sys.platform == "win32" and ":" in text) else text
