"""Answers that are longer than memory: a file, or a part of it, and a version as an archive."""

from __future__ import annotations

import re
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from runicorn.artifacts.names import inside

from . import elsewhere, encodings
from .models import Version

BLOCK = 256 * 2**10
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Pieces(StreamingHttpResponse):
    """Reads piece after piece in threads; Django would first read all of a plain iterator."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self)
        following = sync_to_async(lambda: next(pieces, b""), thread_sensitive=False)
        while piece := await following():
            yield piece


def file(request: HttpRequest, path: Path, etag: str) -> HttpResponse | StreamingHttpResponse:
    """The file, or the part of it that the ``Range`` header asks for.

    A whole file goes out as zstd to whoever takes that, if that makes it smaller. *etag*: the
    content's digest; the content of a version never changes.
    """
    quoted = f'"{etag}"'
    if request.headers.get("If-None-Match", "") in (quoted, f'"{etag}-zstd"'):
        return HttpResponse(status=304, headers={"ETag": request.headers["If-None-Match"]})
    opened = path.open("rb")
    size = path.stat().st_size
    asked = request.headers.get("Range", "")
    if request.headers.get("If-Range", quoted) != quoted:
        asked = ""
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": quoted,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    part = parse_range(asked, size)
    if part is None:
        opened.close()
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    start, end = part
    if not asked and encodings.is_asked(request) and encodings.is_worth_it(opened.read(BLOCK)):
        opened.seek(0)
        headers |= {"ETag": f'"{etag}-zstd"', "Content-Encoding": "zstd"}
        return Pieces(
            encodings.compressed(_read(opened, size)),
            content_type="application/octet-stream",
            headers=headers,
        )
    opened.seek(start)
    headers["Content-Length"] = str(end - start)
    is_part = bool(asked) and (start, end) != (0, size)
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Pieces(
        _read(opened, end - start),
        status=206 if is_part else 200,
        content_type="application/octet-stream",
        headers=headers,
    )


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """(start, end) of what a ``Range`` header asks for; all of it if it says nothing we know.

    None if there is nothing of the kind: 416. Of several ranges none is served alone, so: all.
    """
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:  # the last so many bytes
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


def archive(request: HttpRequest, version: Version) -> Pieces:
    """All files of the version as one tar, written while it is sent; as zstd if that is asked."""
    elsewhere.complete(version)
    name = f"{version.artifact.name}-v{version.number}"
    pieces = tar(version)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.tar",
        "Vary": "Accept-Encoding, Accept",
    }
    content_type = "application/x-tar"
    if "application/zstd" in request.headers.get("Accept", ""):
        content_type = "application/zstd"  # a file that stays compressed
        headers["Content-Disposition"] += ".zst"
        pieces = encodings.compressed(pieces)
    elif encodings.is_asked(request):
        headers["Content-Encoding"] = "zstd"
        pieces = encodings.compressed(pieces)
    return Pieces(pieces, content_type=content_type, headers=headers)


def tar(version: Version) -> Iterator[bytes]:
    """A file that is not there, or whose path leads outside, is left out."""
    prefix = f"{version.artifact.name}-v{version.number}"
    for entry in version.files.order_by("pk").iterator():
        path = inside(version.files_folder, entry.path)
        try:
            opened = path.open("rb") if path else None
        except OSError:
            continue
        if opened is None or path is None:
            continue
        with opened:
            info = tarfile.TarInfo(f"{prefix}/{entry.path}")
            info.size = path.stat().st_size
            info.mtime = int(entry.modified_time or 0)
            yield info.tobuf(tarfile.PAX_FORMAT)
            sent = 0
            for block in _read(opened, info.size):
                sent += len(block)
                yield block
            # The header has promised so many bytes, whatever happened to the file meanwhile.
            yield bytes(info.size - sent + -info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
