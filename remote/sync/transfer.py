"""Fetch many files over one connection at once.

Many whole files come as one stream of the host's ``tar``, and many ends of files through its
Python (``tails``), where there is a shell with them; the rest, and everything elsewhere, over SFTP
with many requests in flight. The host is not trusted: only what was asked for is written, of the
size that was announced, and no link is followed to where the root does not reach.
"""

from __future__ import annotations

import asyncio
import shlex
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import asyncssh

from runicorn.remote_storage import Differs, Download, Incomplete

from ..ssh.connections import Connection
from . import remote_tail

T = TypeVar("T")
Done = Callable[[Download, Exception | None], None]

PIECE = 2**20
IN_FLIGHT = 64
"""Files that are being read at once over SFTP."""

MANY = 16
"""From so many whole files on, the host's tar is asked."""

LARGEST_BATCH = 5000
"""Files of one tar: between two, living runs are looked at."""

PATIENCE = 60
"""Seconds without a byte after which a host counts as lost."""

LOST = (
    asyncssh.ConnectionLost,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    TimeoutError,
)
"""Of the errors, those that concern more than one file."""

TAR = "tar --null --no-recursion --hard-dereference -c -f - -T -"


@dataclass
class Source:
    """A root on a host, as long as one file channel to it is open."""

    connection: Connection
    sftp: asyncssh.SFTPClient
    root: bytes
    has_tar: bool = True
    has_find: bool = True
    has_python: bool = True
    _busy: set[Path] = field(default_factory=set)

    def path(self, relative: str) -> bytes:
        return self.root + b"/" + relative.encode()

    async def fetch(self, downloads: Iterable[Download], done: Done) -> None:
        """Complete each and tell what became of it. Raises LOST only."""
        waiting = list(downloads)
        while waiting:
            batch, waiting = waiting[:LARGEST_BATCH], waiting[LARGEST_BATCH:]
            whole = [one for one in batch if not (one.is_stream and one.target.exists())]
            came: set[Download] = set()
            if self.has_tar and len(whole) >= MANY:
                came = await self._fetch_by_tar(whole, done)
            rest = [one for one in batch if one not in came]
            if self.has_python and len(rest) >= MANY:
                async with self._alone([one.target for one in rest]):
                    came = await remote_tail.fetch(self, rest, done)
                rest = [one for one in rest if one not in came]
            waiting_here = iter(rest)
            await gather(self._fetch_in_turn(waiting_here, done) for _ in range(IN_FLIGHT))

    async def _fetch_in_turn(self, downloads: Iterable[Download], done: Done) -> None:
        for download in downloads:
            error: Exception | None = None
            try:
                await self._fetch_one(download)
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

    async def _fetch_one(self, download: Download) -> None:
        path = self.path(download.source)
        async with self._alone([download.target]), self._open(path, download.is_listed) as file:
            for _ in range(2):
                at = download.begin()
                try:
                    while download.missing:
                        size = min(PIECE, download.missing)
                        data = cast(bytes, await patient(file.read(size, at)))
                        at += len(data)
                        download.write(data)
                        if not data or (download.is_open_ended and len(data) < size):
                            break
                    return download.finish()
                except Differs:
                    continue
            raise Incomplete(f"{download.source}: changes while it is read")

    @asynccontextmanager
    async def _open(self, path: bytes, is_listed: bool) -> AsyncIterator[asyncssh.SFTPClientFile]:
        """A manifest may name what is a link: it has to stay in the root. Asked at once with
        opening, so that it costs no time."""
        real = asyncio.ensure_future(self.sftp.realpath(path)) if not is_listed else None
        try:
            file = await patient(self.sftp.open(path, "rb"))
        except BaseException:
            if real:
                real.cancel()
            raise
        try:
            if real and not (await patient(real)).startswith(self.root + b"/"):
                raise asyncssh.SFTPNoSuchFile("leads out of the root")
            yield file
        finally:
            await patient(file.close())

    @asynccontextmanager
    async def _alone(self, targets: Sequence[Path]) -> AsyncIterator[None]:
        """No two copy to the same file at once."""
        while not self._busy.isdisjoint(targets):
            await asyncio.sleep(0.02)
        self._busy.update(targets)
        try:
            yield
        finally:
            self._busy.difference_update(targets)

    async def stat(self, paths: Sequence[str]) -> list[tuple[int, float] | None]:
        """Size and time of plain files, all asked for at once."""

        async def one(path: str) -> tuple[int, float] | None:
            try:
                found = await patient(self.sftp.stat(self.path(path)))
            except LOST:
                raise
            except asyncssh.SFTPError:
                return None
            is_file = stat.S_ISREG(found.permissions or 0)
            return (found.size or 0, float(found.mtime or 0)) if is_file else None

        return await gather(one(path) for path in paths)

    async def read(self, path: str, size: int) -> bytes:
        try:
            async with self.sftp.open(self.path(path), "rb") as file:
                return cast(bytes, await patient(file.read(size, 0))) if size else b""
        except LOST:
            raise
        except asyncssh.SFTPNoSuchFile as error:
            raise FileNotFoundError(path) from error
        except asyncssh.SFTPError as error:
            raise OSError(f"{path}: {error.reason}") from error

    # -- programs there ------------------------------------------------------------------------

    async def run(self, command: str, given: bytes, take: Callable[[bytes], None]) -> int | None:
        """Run *command* in the root there with *given* as its input, handing its output to *take*
        as it comes. Returns what it ended with."""
        root = shlex.quote(self.root.decode())
        process = await patient(
            self.connection.channel.create_process(
                f"cd {root} && {command}", encoding=None, stderr=asyncssh.DEVNULL
            )
        )
        async with process:
            process.stdin.write(given)
            process.stdin.write_eof()
            while data := await patient(process.stdout.read(PIECE)):
                take(data)
            await patient(process.wait_closed())
        return process.returncode

    async def _fetch_by_tar(self, downloads: Sequence[Download], done: Done) -> set[Download]:
        """Those that came. Without a shell, or a tar that knows the options, none."""
        stream = _TarReader(downloads, done)
        names = b"".join(name + b"\0" for name in stream.names())
        try:
            async with self._alone([one.target for one in downloads]):
                status = await self.run(TAR, names, stream.feed)
                stream.end(status == 0)
            self.has_tar = bool(stream.came) or status == 0
        except LOST:
            raise
        except (asyncssh.Error, OSError, ValueError):
            self.has_tar = False
        finally:
            stream.close()
        return stream.came


class _TarReader:
    """Takes a tar archive in, in any pieces, and gives each download its content."""

    def __init__(self, downloads: Sequence[Download], done: Done) -> None:
        self._wanted = {one.source.encode(): one for one in downloads}
        self._done = done
        self._buffer = b""
        self._payload = self._padding = 0
        self._sink: Callable[[memoryview], None] = _ignore
        self._at_end: Callable[[], None] | None = None
        self._current: Download | None = None
        self._name = b""
        self._last = b""
        self._links: set[bytes] = set()
        self._doubtful: list[Download] = []
        self.came: set[Download] = set()

    def names(self) -> list[bytes]:
        """What to ask for: each file after the folders that lead to it, because a folder that is
        in truth a link shows as one, and nothing below it is taken."""
        names: dict[bytes, None] = {}
        for source in self._wanted:
            parts = source.split(b"/")
            for depth in range(1, len(parts) + 1):
                names[b"./" + b"/".join(parts[:depth])] = None
        return list(names)

    def feed(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        view, at = memoryview(buffer), 0
        while at < len(buffer):
            if self._payload:
                piece = view[at : at + self._payload]
                self._sink(piece)
                at += len(piece)
                self._payload -= len(piece)
                if self._payload == 0:
                    self._end_of_content()
            elif self._padding:
                step = min(self._padding, len(buffer) - at)
                at += step
                self._padding -= step
            elif len(buffer) - at < 512:
                break
            else:
                self._header(buffer[at : at + 512])
                at += 512
        self._buffer = buffer[at:]

    def _header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            return  # the end
        octal = block[124:136].strip(b" \0")
        size = int(octal or b"0", 8)  # raises ValueError for what is no archive
        if block[257:262] != b"ustar" or size < 0:
            raise ValueError("not an archive")
        kind = block[156:157]
        self._payload, self._padding = size, -size % 512
        self._sink, self._at_end = _ignore, None
        if kind == b"L":
            if size > 65536:
                raise ValueError("not an archive")
            self._name = b""
            self._sink = self._add_to_name
            return
        name = self._name or block[:100].split(b"\0")[0]
        if not self._name and block[257:263] == b"ustar\0" and block[345:346] != b"\0":
            name = block[345:500].split(b"\0")[0] + b"/" + name
        self._name = b""
        name = name.rstrip(b"\0").removeprefix(b"./").rstrip(b"/")
        if kind in (b"0", b"\0"):
            self._begin(name, size)
        elif kind != b"5":
            self._links.add(name)

    def _add_to_name(self, data: memoryview) -> None:
        self._name += data

    def _begin(self, name: bytes, size: int) -> None:
        download = self._wanted.get(name)
        if download is None or download in self.came:
            return
        if size < download.size and not download.is_open_ended:
            return
        if any(parent in self._links for parent in _parents(name)):
            return
        try:
            if download.begin() != 0:
                download.abandon()
                return
        except OSError as error:
            self._report(download, error)
            return
        self._current, self._last = download, b""
        self._sink = self._write
        self._at_end = self._finish
        if size == 0:
            self._finish()

    def _write(self, data: memoryview) -> None:
        if self._current is None:
            return
        try:
            self._last = bytes(data[-1:])
            self._current.write(data)
        except OSError as error:
            self._report(self._current, error)

    def _end_of_content(self) -> None:
        if self._at_end:
            self._at_end()

    def _finish(self) -> None:
        download, self._at_end = self._current, None
        if download is None:
            return
        if self._last == b"\0" and download.sha256 is None:
            # tar fills up a file that shrank while it was read. Whether that happened is known at
            # the end only; no document or log ends like this.
            self._doubtful.append(download)
            self._current = None
            return
        error: OSError | None = None
        try:
            download.finish()
        except Differs:
            self._current = None
            return  # over SFTP then
        except OSError as problem:
            error = problem
        self._report(download, error)

    def _report(self, download: Download, error: OSError | None) -> None:
        self._current = None
        if error:
            download.abandon()
        self.came.add(download)
        self._done(download, error)

    def end(self, is_clean: bool) -> None:
        """What tar said in the end: whether all was as it read it."""
        for download in self._doubtful:
            if is_clean:
                self._current = download
                self._last = b""
                self._finish()

    def close(self) -> None:
        for download in {*self._wanted.values()} - self.came:
            download.abandon()


def _ignore(data: memoryview) -> None:
    pass


def _parents(name: bytes) -> list[bytes]:
    parts = name.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]


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


async def patient(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def gather(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """All results. After an error the others are waited for, so that nothing is left running."""
    outcomes = await asyncio.gather(*awaitables, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes
