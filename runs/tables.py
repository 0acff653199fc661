"""Metric tables as HTTP answers: JSON written in pieces, so that memory stays flat."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from metrics import read as metrics
from runicorn_site.rest import dump_json

WHOLE_ROWS = 2 * metrics.PIECE
"""A table of up to this many rows is sent at once, with its length; a longer one in pieces."""


def table_answer(
    request: HttpRequest,
    tables: metrics.Tables,
    members: Callable[[], dict[str, Any]] = dict,
) -> HttpResponseBase:
    """``{"columns": […], "rows": […], …}``, with what *members* says once the rows are made."""
    chunks = table_json(tables, members)
    if tables.total <= WHOLE_ROWS:
        return HttpResponse(b"".join(chunks), content_type="application/json")
    return streamed(request, chunks, content_type="application/json")


def table_json(tables: metrics.Tables, members: Callable[[], dict[str, Any]]) -> Iterator[bytes]:
    yield b'{"columns":%b,"rows":[' % dump_json(tables.columns)
    is_first = True
    for piece in tables.pieces:
        if len(piece):
            yield (b"" if is_first else b",") + piece.json_rows()
            is_first = False
    more = members()
    yield b"]%b" % (b"," + dump_json(more)[1:] if more else b"}")


def streamed(
    request: HttpRequest, chunks: Iterator[bytes], *, content_type: str
) -> StreamingHttpResponse:
    """An answer in pieces, made while they are sent, whichever way the server asks for them.

    The first piece is made at once: what goes wrong at the start is still an ordinary error.
    """
    chunks = itertools.chain([next(chunks, b"")], chunks)
    # What REST framework wraps is an ASGIRequest where there is an event loop to keep free.
    is_async = isinstance(getattr(request, "_request", request), ASGIRequest)
    return StreamingHttpResponse(
        _off_the_loop(chunks) if is_async else chunks, content_type=content_type
    )


async def _off_the_loop(chunks: Iterator[bytes]) -> Any:
    following = sync_to_async(next, thread_sensitive=True)
    while (chunk := await following(chunks, None)) is not None:
        yield chunk
