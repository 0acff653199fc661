"""Answers that are made while they are sent."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse

from .compression import gzipped, wants_gzip


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
