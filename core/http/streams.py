"""Answers that are made while they are sent."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header

from .compression import gzipped, wants_gzip

_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def attachment(filename: str) -> str:
    """Return the Content-Disposition of a file to be saved under any *filename* (RFC 6266)."""
    sendable = filename.encode("utf-8", "replace").decode()
    if _PLAIN.fullmatch(sendable):
        return f"attachment; filename={sendable}"  # as v0.4
    header = content_disposition_header(True, _CONTROLS.sub("_", sendable))
    assert header is not None
    return header


class Stream(StreamingHttpResponse):
    """Make one chunk after the other in a thread; Django would first make all of a plain iterator.

    With *reads_database* that is the request's own thread, whose connection it uses; else any, so
    that many can be sent at once.
    """

    def __init__(self, chunks: Iterator[bytes], *, reads_database: bool, **options: Any) -> None:
        super().__init__(chunks, **options)
        self._reads_database = reads_database

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self)
        following = sync_to_async(lambda: next(chunks, None), thread_sensitive=self._reads_database)
        while (chunk := await following()) is not None:
            yield chunk


def streamed(request: HttpRequest, chunks: Iterator[bytes], *, content_type: str) -> Stream:
    """Return an answer in chunks from the database, compressed where that is worth it.

    The first chunk is made at once: what goes wrong at the start is still an ordinary error.
    """
    chunks = itertools.chain([next(chunks, b"")], chunks)
    is_compressed = wants_gzip(request, content_type)
    if is_compressed:
        chunks = gzipped(chunks)
    response = Stream(chunks, reads_database=True, content_type=content_type)
    if is_compressed:
        response["Content-Encoding"] = "gzip"
    return response
