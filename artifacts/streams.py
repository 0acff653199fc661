"""Responses larger than memory: a file, a part of it, or a version as an archive."""

from __future__ import annotations

import errno
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from django.http import HttpRequest, HttpResponse

from core.http.conditional import known_tag
from core.http.streams import Stream, attachment
from runicorn.artifacts.blobs import open_regular
from runicorn.artifacts.names import inside
from runicorn.tar import Member, tar_stream

from . import encodings, remote_files
from .exceptions import FilesMissing
from .models import File, Version

BLOCK = 256 * 2**10
_RANGE = re.compile(r"bytes=([0-9]{0,100})-([0-9]{0,100})")


def file(request: HttpRequest, path: Path, etag: str) -> HttpResponse | Stream:
    """Return the file, or the part of it that the ``Range`` header requests.

    A whole file is sent as zstd if the client accepts that and it becomes smaller. *etag* is the
    content's digest: the content of a version never changes.
    """
    quoted = f'"{etag}"'
    if tag := known_tag(request, quoted, f'"{etag}-zstd"'):
        return HttpResponse(status=304, headers={"ETag": tag})
    descriptor, info = open_regular(path)
    opened = os.fdopen(descriptor, "rb")
    size = info.st_size
    range_header = request.headers.get("Range", "")
    if request.headers.get("If-Range", quoted) != quoted:
        range_header = ""
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": quoted,
        "Content-Disposition": attachment(path.name),
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    span = parse_range(range_header, size)
    if span is None:
        opened.close()
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    start, end = span
    if (
        not range_header
        and encodings.accepts_zstd(request)
        and encodings.is_worth_it(opened.read(BLOCK))
    ):
        opened.seek(0)
        headers |= {"ETag": f'"{etag}-zstd"', "Content-Encoding": "zstd"}
        return Stream(
            encodings.compressed(_read(opened, size)),
            reads_database=False,
            content_type="application/octet-stream",
            headers=headers,
        )
    opened.seek(start)
    headers["Content-Length"] = str(end - start)
    is_part = bool(range_header) and (start, end) != (0, size)
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Stream(
        _read(opened, end - start),
        reads_database=False,
        status=206 if is_part else 200,
        content_type="application/octet-stream",
        headers=headers,
    )


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of the bytes that a ``Range`` header requests; all if it is not valid.

    None means that the file has no such bytes (416). A request for several ranges gets all bytes.
    """
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:  # a number of last bytes
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return 0, size
    return (start, end) if start < end else None


def _read(opened: BinaryIO, count: int) -> Iterator[bytes]:
    with opened:
        while count and (block := opened.read(min(BLOCK, count))):
            count -= len(block)
            yield block


def archive(request: HttpRequest, version: Version) -> Stream:
    """Return all files of the version as one tar, made while it is sent; as zstd if requested.

    Raises FilesMissing before anything is sent if files are missing.
    """
    remote_files.fetch(version)
    _check_files(version)
    name = f"{version.artifact.name}-v{version.number}.tar"
    blocks = tar_stream(_members(version))
    headers = {
        "Content-Disposition": attachment(name),
        "Vary": "Accept-Encoding, Accept",
    }
    content_type = "application/x-tar"
    if "application/zstd" in request.headers.get("Accept", ""):
        content_type = "application/zstd"  # a file that stays compressed
        headers["Content-Disposition"] = attachment(f"{name}.zst")
        blocks = encodings.compressed(blocks)
    elif encodings.accepts_zstd(request):
        headers["Content-Encoding"] = "zstd"
        blocks = encodings.compressed(blocks)
    return Stream(blocks, reads_database=False, content_type=content_type, headers=headers)


def _entries(version: Version) -> Iterator[tuple[File, Path | None]]:
    for entry in version.files.select_related("blob").order_by("pk").iterator():
        yield entry, inside(version.files_folder, entry.path)


def _check_files(version: Version) -> None:
    missing = [entry.path for entry, path in _entries(version) if not _is_whole(entry, path)]
    if missing:
        raise FilesMissing(
            f"{len(missing)} files of {version} are missing or changed, the first is {missing[0]}: "
            "verify the version, and download the others one by one."
        )


def _is_whole(entry: File, path: Path | None) -> bool:
    try:
        info = path.stat() if path else None
    except OSError:
        return False
    return info is not None and stat.S_ISREG(info.st_mode) and info.st_size == entry.blob.size_bytes


def _members(version: Version) -> Iterator[Member]:
    """Yield the members of the tar. Raises OSError if a file disappears meanwhile.

    The response then breaks off, so that an incomplete archive is not taken for a complete one.
    """
    prefix = f"{version.artifact.name}-v{version.number}"
    for entry, path in _entries(version):
        if path is None:
            raise OSError(errno.ENOENT, "Outside the version's folder", entry.path)
        descriptor, info = open_regular(path)
        header = tarfile.TarInfo(f"{prefix}/{entry.path}")
        header.size = info.st_size
        header.mtime = int(entry.modified_time or 0)
        yield header, os.fdopen(descriptor, "rb")
