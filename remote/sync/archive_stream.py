"""Unpack the archive that a host's ``tar`` sends, while it comes, into the downloads it is for.

``tarfile`` reads it as a stream in a thread of its own. The host is not trusted: only what was
asked for is written, of the size that was announced, nothing below what is in truth a link, and no
more bytes are read than the files that were asked for can need.
"""

from __future__ import annotations

import asyncio
import queue
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

from runicorn.remote_storage import Differs, Download

Done = Callable[[Download, Exception | None], None]

READ_BYTES = 2**18
BATCHES_AHEAD = 16
"""How far the host may be ahead of the disk here."""

OVERHEAD_BYTES = 2**16
"""What one entry may have beside its content: headers, a long name, padding."""


class _Pipe:
    """Bytes that the event loop puts in, and that a thread reads like a file."""

    def __init__(self) -> None:
        self._batches: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._batch = memoryview(b"")
        self.allowance = 16 * OVERHEAD_BYTES
        self.is_read = False
        """Nothing more is read: the archive has ended, or was none."""

    async def put(self, data: bytes) -> None:
        """Hand *data* on. Raises ValueError when there is more than was asked for."""
        while self._batches.qsize() >= BATCHES_AHEAD and not self.is_read:
            await asyncio.sleep(0.001)
        if self.is_read:
            self._count(data)
        else:
            self._batches.put(data)

    def end(self) -> None:
        self._batches.put(b"")

    def read(self, size: int) -> bytes:
        if not self._batch:
            self._batch = memoryview(self._batches.get())
            if not self._batch:
                self.end()  # so that it stays the end
        data, self._batch = bytes(self._batch[:size]), self._batch[size:]
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        self.allowance -= len(data)
        if self.allowance < 0:
            raise ValueError("more than was asked for")


class ArchiveStream:
    """An archive with the content of *downloads*; *done* hears of each that came."""

    def __init__(self, downloads: Sequence[Download], done: Done) -> None:
        self._wanted = {one.source.encode(): one for one in downloads}
        self._done = done
        self._links: set[bytes] = set()
        self._doubtful: list[Download] = []
        self._pipe = _Pipe()
        self._loop = asyncio.get_running_loop()
        # Not the event loop's own threads: those may all be waiting for a fetch themselves.
        self._thread = ThreadPoolExecutor(1, "unpack")
        self._unpacking = self._loop.run_in_executor(self._thread, self._unpack)
        self.came: set[Download] = set()

    def names(self) -> list[bytes]:
        """Return what to ask for: each file after the folders that lead to it, because a folder
        that is in truth a link shows as one, and nothing below it is taken."""
        names: dict[bytes, None] = {}
        for source in self._wanted:
            parts = source.split(b"/")
            for depth in range(1, len(parts) + 1):
                names[b"./" + b"/".join(parts[:depth])] = None
        return list(names)

    async def feed(self, data: bytes) -> None:
        await self._pipe.put(data)

    async def end(self, *, is_clean: bool) -> None:
        """Wait until all is written. *is_clean*: ``tar`` read everything as it was.

        Raises ValueError or OSError for what is no archive.
        """
        self._pipe.end()
        await asyncio.shield(self._unpacking)
        for download in self._doubtful if is_clean else ():
            self._finish(download)

    async def close(self) -> None:
        """Leave nothing half-written, whatever became of the stream."""
        self._pipe.end()
        await asyncio.wait([self._unpacking])
        self._thread.shutdown(wait=False)
        if not self._unpacking.cancelled():
            self._unpacking.exception()  # ``end`` has raised it, unless the connection was lost
        for download in {*self._wanted.values()} - self.came:
            download.abandon()

    # -- in the thread ---------------------------------------------------------------------------

    def _unpack(self) -> None:
        try:
            with tarfile.open(fileobj=cast(IO[bytes], self._pipe), mode="r|") as archive:
                for member in archive:
                    archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                    self._pipe.allowance += OVERHEAD_BYTES
                    name = member.name.encode("utf-8", "surrogateescape").removeprefix(b"./")
                    if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                        if download := self._wanted.get(name):
                            self._pipe.allowance += member.size
                            self._take(archive, member, download, name)
                    elif not member.isdir():
                        self._links.add(name)
        except tarfile.TarError as error:
            raise ValueError("not an archive") from error
        finally:
            self._pipe.is_read = True

    def _take(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, download: Download, name: bytes
    ) -> None:
        if member.size < download.size and not download.is_open_ended:
            return
        if any(parent in self._links for parent in _parents(name)):
            return
        content = archive.extractfile(member)
        assert content
        data = b""
        try:
            if download.begin() != 0:
                download.abandon()
                return
            while batch := content.read(READ_BYTES):
                data = batch
                download.write(batch)
        except OSError as error:
            self._tell(download, error)
            return
        if data.endswith(b"\0") and download.sha256 is None:
            # tar fills up a file that shrank while it was read. Whether that happened is known at
            # the end only; no document or log ends like this.
            self._doubtful.append(download)
        else:
            self._finish(download)

    def _finish(self, download: Download) -> None:
        error: OSError | None = None
        try:
            download.finish()
        except Differs:
            return  # over SFTP then
        except OSError as problem:
            error = problem
        self._tell(download, error)

    def _tell(self, download: Download, error: OSError | None) -> None:
        if error:
            download.abandon()
        del self._wanted[download.source.encode()]  # a second entry of this name is nobody's
        self.came.add(download)
        self._loop.call_soon_threadsafe(self._done, download, error)


def _parents(name: bytes) -> list[bytes]:
    parts = name.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
