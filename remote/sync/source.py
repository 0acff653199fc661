"""A root on a host, as long as one file channel to it is open: ask for sizes, read, run programs.

The host is not trusted, and not waited for without end.
"""

from __future__ import annotations

import asyncio
import shlex
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import asyncssh

from ..ssh.connections import Connection

T = TypeVar("T")

READ_BYTES = 2**20

PATIENCE = 60
"""Seconds without a byte after which a host counts as lost."""

LOST = (
    asyncssh.ConnectionLost,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    TimeoutError,
)
"""The errors that concern more than one file."""


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

    @asynccontextmanager
    async def alone(self, targets: Sequence[Path]) -> AsyncIterator[None]:
        """Wait until nobody else writes to *targets*, and keep others from doing so meanwhile."""
        while not self._busy.isdisjoint(targets):
            await asyncio.sleep(0.02)
        self._busy.update(targets)
        try:
            yield
        finally:
            self._busy.difference_update(targets)

    async def stat(self, paths: Sequence[str]) -> list[tuple[int, float] | None]:
        """Ask for the sizes and times of plain files, of all at once."""

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

    async def run(
        self, command: str, given: bytes, take: Callable[[bytes], Awaitable[None] | None]
    ) -> int | None:
        """Run *command* in the root there with *given* as its input, and hand its output to *take*
        as it comes. Return its exit status."""
        root = shlex.quote(self.root.decode())
        process = await patient(
            self.connection.channel.create_process(
                f"cd {root} && {command}", encoding=None, stderr=asyncssh.DEVNULL
            )
        )
        async with process:
            process.stdin.write(given)
            process.stdin.write_eof()
            while data := await patient(process.stdout.read(READ_BYTES)):
                if waiting := take(data):
                    await waiting
            await patient(process.wait_closed())
        return process.returncode


async def patient(awaitable: Awaitable[T]) -> T:
    """Wait for the host's answer; TimeoutError if none comes."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def gather(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """Return all results. After an error the others are waited for: nothing is left running."""
    outcomes = await asyncio.gather(*awaitables, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes
