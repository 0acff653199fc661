"""Fetch many files over one connection at once.

Many whole files come as one stream of the host's ``tar``, and many ends of files through its
Python (``remote_tail``), where there is a shell with them; the rest, and everything elsewhere, over
SFTP with many requests in flight. The host is not trusted: only what was asked for is written, of
the size that was announced, and no link is followed to where the root does not reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import asyncssh

from runicorn.remote_storage import Differs, Download, Incomplete

from . import remote_tail
from .archive_stream import ArchiveStream, Done
from .source import LOST, READ_BYTES, Source, gather, patient

T = TypeVar("T")

IN_FLIGHT = 64
"""Files that are being read at once over SFTP."""

MANY = 16
"""From so many whole files on, the host's tar is asked."""

LARGEST_BATCH = 5000
"""Files of one tar: between two, living runs are looked at."""

TAR = "tar --null --no-recursion --hard-dereference -c -f - -T -"


async def fetch(source: Source, downloads: Iterable[Download], done: Done) -> None:
    """Complete each download and tell *done* what became of it. Raises LOST only."""
    waiting = list(downloads)
    while waiting:
        batch, waiting = waiting[:LARGEST_BATCH], waiting[LARGEST_BATCH:]
        whole = [one for one in batch if not (one.is_stream and one.target.exists())]
        came: set[Download] = set()
        if source.has_tar and len(whole) >= MANY:
            came = await _fetch_by_tar(source, whole, done)
        rest = [one for one in batch if one not in came]
        if source.has_python and len(rest) >= MANY:
            async with source.alone([one.target for one in rest]):
                came = await remote_tail.fetch(source, rest, done)
            rest = [one for one in rest if one not in came]
        one_by_one = iter(rest)
        await gather(_fetch_in_turn(source, one_by_one, done) for _ in range(IN_FLIGHT))


async def _fetch_in_turn(source: Source, downloads: Iterable[Download], done: Done) -> None:
    for download in downloads:
        error: Exception | None = None
        try:
            await _fetch_one(source, download)
        except LOST:
            download.abandon()
            raise
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            error = FileNotFoundError(f"{download.source} is gone")
        except asyncssh.Error as problem:
            error = OSError(f"{download.source}: {problem.reason}")
        except OSError as problem:
            error = problem
        finally:
            download.abandon()
        done(download, error)


async def _fetch_one(source: Source, download: Download) -> None:
    async with source.alone([download.target]), _open(source, download) as file:
        for _ in range(2):
            at, beyond = download.begin(), 1
            try:
                while download.missing:
                    size = min(READ_BYTES, max(download.missing, beyond))
                    data = cast(bytes, await patient(file.read(size, at)))
                    at += len(data)
                    download.write(data)
                    if at > download.size:
                        beyond = READ_BYTES  # it grew, by how much nobody knows
                    if not data or (download.is_open_ended and len(data) < size):
                        break
                return download.finish()
            except Differs:
                continue
        raise Incomplete(f"{download.source}: changes while it is read")


@asynccontextmanager
async def _open(source: Source, download: Download) -> AsyncIterator[asyncssh.SFTPClientFile]:
    """Open the file there. A manifest may name what is a link: it has to stay in the root. Where
    it leads is asked at once with opening, so that it costs no time."""
    path = source.path(download.source)
    real = None if download.is_listed else asyncio.ensure_future(source.sftp.realpath(path))
    try:
        file = await patient(source.sftp.open(path, "rb"))
    except BaseException:
        if real:
            real.cancel()
        raise
    try:
        if real and not (await patient(real)).startswith(source.root + b"/"):
            raise asyncssh.SFTPNoSuchFile("leads out of the root")
        yield file
    finally:
        await patient(file.close())


async def _fetch_by_tar(source: Source, downloads: Sequence[Download], done: Done) -> set[Download]:
    """Return those that came: none without a shell, or a tar that knows the options."""
    stream = ArchiveStream(downloads, done)
    names = b"".join(name + b"\0" for name in stream.names())
    try:
        async with source.alone([one.target for one in downloads]):
            status = await source.run(TAR, names, stream.feed)
            await stream.end(is_clean=status == 0)
        source.has_tar = bool(stream.came) or status == 0
    except LOST:
        raise
    except (asyncssh.Error, OSError, ValueError):
        source.has_tar = False
    finally:
        await stream.close()
    return stream.came


# -- for code that runs in a thread --------------------------------------------------------------


class Bridge:
    """A Source as a Transport of ``ManifestSyncClient``, for a thread beside the event loop."""

    def __init__(self, source: Source, fetch: Callable[[Sequence[Download], Done], Any]) -> None:
        self._source, self._fetch = source, fetch
        self._loop = asyncio.get_running_loop()
        self._waiting: Future[Any] | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Whoever waits for this thread does so no longer: it must not go on."""
        self._is_cancelled = True
        if self._waiting:
            self._waiting.cancel()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._waiting = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if self._is_cancelled:
            self._waiting.cancel()
        return self._waiting.result()

    def stat(self, paths: Sequence[str]) -> list[tuple[int, float] | None]:
        return self._run(self._source.stat(paths))

    def read(self, path: str, size: int) -> bytes:
        return self._run(self._source.read(path, size))

    def fetch(self, downloads: Sequence[Download], done: Done) -> None:
        self._run(self._fetch(downloads, done))
