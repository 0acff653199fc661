"""Members of tar and zip files, read without trust in either."""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from ._places import READ_BYTES

GZIP = b"\x1f\x8b"


class ArchiveError(ValueError):
    """The archive cannot be read."""


class ArchiveTooLarge(ArchiveError):
    """The archive holds, or unpacks to, more than is allowed."""


@dataclass(frozen=True)
class Limits:
    """The most that one archive may hold; anything beyond is taken for an attack."""

    members: int = 500_000
    bytes: int = 2**40
    ratio: int = 250
    """Unpacked to packed bytes, once more than ``small`` is unpacked."""
    small: int = 256 * 2**20


@dataclass
class Member:
    name: str
    is_dir: bool
    mtime_ns: int | None
    open: Callable[[], IO[bytes]]
    refusal: str | None = None


class _Counted:
    """A stream that reports what is read from it and refuses absurdly large reads.

    ``tarfile`` reads an extended header of any size into memory.
    """

    def __init__(self, stream: IO[bytes], count: Callable[[int], None]) -> None:
        self._stream = stream
        self._count = count
        self._furthest = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 4 * READ_BYTES:
            raise ArchiveTooLarge("one of its headers is absurdly large")
        data = self._stream.read(size)
        self._advance()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        # In steps, so that a bomb is noticed while it is passed over.
        while whence == 0 and offset - self._stream.tell() > READ_BYTES:
            if not self._stream.read(READ_BYTES):
                break
            self._advance()
        position = self._stream.seek(offset, whence)
        self._advance()
        return position

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()

    def _advance(self) -> None:
        if (position := self._stream.tell()) > self._furthest:
            self._count(position - self._furthest)
            self._furthest = position


def tar_members(file: IO[bytes], limits: Limits, count: Callable[[int], None]) -> Iterator[Member]:
    stream = _Counted(_decompressed(file), count)
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or it keeps every one of them
            if info.size < 0:  # it would be led around in a circle
                raise tarfile.ReadError("a member has a negative size")
            refusal = None
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
                refusal = "it is a link or a device"
            elif info.issparse():
                refusal = "it is a sparse file"
            yield Member(info.name, info.isdir(), _tar_mtime(info), _opener(archive, info), refusal)
        stream.seek(archive.offset)  # tarfile takes a damaged header for the end
        if any(stream.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("a header is damaged")
        while stream.read(READ_BYTES):
            pass  # to the checksum at the end


def _opener(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        return cast(IO[bytes], archive.extractfile(info))

    return open_member


def _tar_mtime(info: tarfile.TarInfo) -> int | None:
    text = info.pax_headers.get("mtime", str(info.mtime))
    seconds, _, fraction = text.partition(".")
    try:
        return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    except ValueError:
        return None


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(GZIP):
        return cast(IO[bytes], gzip.open(file, "rb"))
    if magic.startswith(b"BZh"):
        import bz2

        return bz2.open(file, "rb")
    if magic == b"\xfd7zXZ\x00":
        import lzma

        return cast(IO[bytes], lzma.open(file, "rb"))
    return file


def zip_members(file: IO[bytes], limits: Limits, count: Callable[[int], None]) -> Iterator[Member]:
    if _zip_directory_size(file) > limits.members * 512:
        raise ArchiveTooLarge(f"it has more than {limits.members:,} members")
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            refusal = None
            kind = info.external_attr >> 16 & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                refusal = "it is a link or a device"
            elif info.flag_bits & 1:
                refusal = "it is encrypted"
            name = info.orig_filename.removesuffix("/")
            opened = _zip_opener(archive, info, count)
            yield Member(name, info.is_dir(), _zip_mtime(info), opened, refusal)


def _zip_directory_size(file: IO[bytes]) -> int:
    """Size of the list of members, which ``zipfile`` reads into memory as a whole."""
    file.seek(max(0, size_of(file) - 2**16 - 22))
    tail = file.read()
    file.seek(0)
    at, at64 = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    size = struct.unpack_from("<L", tail, at + 12)[0] if 0 <= at <= len(tail) - 16 else 0
    if size == 0xFFFFFFFF and 0 <= at64 <= len(tail) - 48:
        size = struct.unpack_from("<Q", tail, at64 + 40)[0]
    return int(size)


def _zip_opener(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, count: Callable[[int], None]
) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        return cast(IO[bytes], _Counted(archive.open(info), count))

    return open_member


def _zip_mtime(info: zipfile.ZipInfo) -> int | None:
    try:
        return int(time.mktime((*info.date_time, 0, 0, -1))) * 10**9
    except (ValueError, OverflowError):
        return None


@contextmanager
def named_errors() -> Iterator[None]:
    """Turn every error of a reader into one of ours, with the reason."""
    try:
        yield
    except ArchiveError:
        raise
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        struct.error,
        ValueError,
        RecursionError,
    ) as error:
        raise ArchiveError(str(error) or type(error).__name__) from error


def size_of(file: IO[bytes]) -> int:
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size
