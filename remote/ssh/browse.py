"""Look at the folders of a host. Its answers are shown, never trusted: sizes are bounded."""

from __future__ import annotations

import asyncio
import posixpath
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import NamedTuple, cast

import asyncssh

from ..exceptions import PathNotFound, RemoteError, TimedOut
from .connections import Connection, pool

MOST_ENTRIES = 10_000
"""The most entries of a listing: a host must not make the server hold a million of them."""

SECONDS = 30


class Item(NamedTuple):
    name: str
    path: str
    type: str
    size: int
    mtime: int
    mode: int


class Folder(NamedTuple):
    path: str
    items: list[Item]


async def list_folder(connection: Connection, path: str) -> Folder:
    """Return the entries of a folder, by name; links are followed. ``~`` is the home folder."""
    with _explained():
        async with asyncio.timeout(SECONDS), connection.sftp() as sftp:
            folder = await absolute(sftp, path)
            entries = []
            # Bytes, because one name that is not UTF-8 would fail the whole listing.
            scan = cast(AsyncGenerator[asyncssh.SFTPName, None], sftp.scandir(folder))
            async with aclosing(scan) as found:
                async for entry in found:
                    if entry.filename not in (b".", b".."):
                        entries.append(entry)
                    if len(entries) >= MOST_ENTRIES:
                        break
            items = await asyncio.gather(*(_item(sftp, folder, entry) for entry in entries))
    return Folder(_text(folder) or path, sorted(filter(None, items), key=lambda item: item.name))


async def look_up(connection: Connection, path: str) -> bool | None:
    """Return whether *path* is a folder; None if there is nothing."""
    try:
        with _explained():
            async with asyncio.timeout(SECONDS), connection.sftp() as sftp:
                attributes = await sftp.stat(await absolute(sftp, path))
    except PathNotFound:
        return None
    return stat.S_ISDIR(attributes.permissions or 0)


async def absolute(sftp: asyncssh.SFTPClient, path: str) -> bytes:
    """Return *path* in full: SFTP knows no ``~``, and a relative path starts at the home folder."""
    if path == "~" or path.startswith("~/"):
        path = path[2:].lstrip("/")
    return await sftp.realpath(path.encode() or b".")


async def real_root(connection: Connection, path: str) -> str:
    """Return *path* as the host calls it, so that a folder has one name however it is spelled."""
    await pool.reopen(connection)
    with _explained():
        async with asyncio.timeout(SECONDS), connection.sftp() as sftp:
            try:
                real = await absolute(sftp, path)
            except asyncssh.SFTPError:  # there may be one some time
                spelled = path[1:].lstrip("/") if path == "~" or path.startswith("~/") else path
                home = await sftp.realpath(b".")
                real = posixpath.normpath(posixpath.join(home, spelled.encode()))
    return real.decode(errors="backslashreplace").rstrip("/") or "/"


async def _item(sftp: asyncssh.SFTPClient, folder: bytes, entry: asyncssh.SFTPName) -> Item | None:
    name = entry.filename if isinstance(entry.filename, bytes) else entry.filename.encode()
    path = folder.rstrip(b"/") + b"/" + name
    shown, shown_path = _text(name), _text(path)
    if shown is None or shown_path is None or b"/" in name:
        return None
    attributes = entry.attrs
    if stat.S_ISLNK(attributes.permissions or 0):
        try:
            attributes = await sftp.stat(path)
        except asyncssh.SFTPError:  # it leads nowhere, or in a circle
            return Item(shown, shown_path, "unknown", 0, 0, 0)
    mode = attributes.permissions or 0
    if stat.S_ISDIR(mode):
        kind, size = "dir", 0
    else:
        kind, size = "file" if stat.S_ISREG(mode) else "unknown", attributes.size or 0
    return Item(shown, shown_path, kind, size, int(attributes.mtime or 0), mode)


def _text(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None  # cannot be told to any client


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TimedOut("The host did not answer in time") from error
    except (
        asyncssh.SFTPNoSuchFile,
        asyncssh.SFTPNoSuchPath,
        asyncssh.SFTPNotADirectory,
        asyncssh.SFTPPermissionDenied,
    ) as error:
        raise PathNotFound(error.reason) from error
    except asyncssh.Error as error:
        raise RemoteError(error.reason) from error
