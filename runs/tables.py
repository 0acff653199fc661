"""Metric tables as HTTP answers: in the form the client asks for, written in pieces."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.http.response import HttpResponseBase

from metrics import read as metrics
from metrics.columns import json_cells
from metrics.exceptions import CorruptBlock
from runicorn_site.rest import dump_json

from . import arrow, folders
from .models import Run

logger = logging.getLogger("runicorn.metrics")

WHOLE_ROWS = 2 * metrics.PIECE
"""A table of up to this many rows is sent at once, with its length; a longer one in pieces."""

JSON = "application/json"
COLUMNS = "application/vnd.runicorn.columns+json"
"""``{"columns": […], "data": [[…], …]}``: one list of cells a column."""

Members = Callable[[metrics.Tables], dict[str, Any]]


def table_answer(
    request: HttpRequest,
    run: Run,
    read: Callable[[], metrics.Tables],
    members: Members = lambda tables: {},
    cursor: Callable[[Run], str] = lambda run: metrics.cursor(run.pk),
) -> HttpResponseBase:
    """The table that *read* makes, with what *members* says once the rows are made.

    As JSON, JSON by columns, Arrow or Parquet, by the request's ``Accept``. It carries *cursor*,
    which says how much there is to read, and an ETag that changes with it. A damaged block is
    reported, and the run's metrics are read anew from its folder before the answer is.
    """
    form = _form(request)
    reached = cursor(run)  # before it is read: what comes in meanwhile is sent twice, not never
    asked = hashlib.sha256(f"{request.get_full_path()} {form}".encode()).hexdigest()[:16]
    tag = f'W/"{reached}-{asked}"'
    if request.headers.get("If-None-Match") == tag:
        answer: HttpResponseBase = HttpResponseNotModified()
    else:
        answer = repaired(run, lambda: _answer(request, form, read(), members))
    answer["ETag"] = tag
    answer["Cache-Control"] = "no-cache"
    answer["Vary"] = "Accept"
    answer["X-Cursor"] = reached
    return answer


def repaired(run: Run, work: Callable[[], Any]) -> Any:
    """What *work* returns; where a block is damaged, once the run's folder was read anew."""
    try:
        return work()
    except CorruptBlock as error:
        logger.error("Run %s: %s It is read anew from its folder.", run.run_id, error)
        if run.directory is None:
            raise
        folders.read_anew(run)
        return work()


def _answer(
    request: HttpRequest, form: str, tables: metrics.Tables, members: Members
) -> HttpResponseBase:
    headers: dict[str, int | float] = {"X-Total-Count": tables.total}
    if tables.last is not None:
        headers["X-Last-Step"] = tables.last
    if form == COLUMNS:
        answer: HttpResponseBase = HttpResponse(_by_columns(tables, members), content_type=COLUMNS)
    elif form == JSON and tables.rows <= WHOLE_ROWS:
        answer = HttpResponse(b"".join(table_json(tables, members)), content_type=JSON)
    elif form == JSON:
        answer = streamed(request, table_json(tables, members), content_type=JSON)
    else:
        answer = streamed(request, arrow.table(tables, form), content_type=form)
    headers["X-Row-Count"] = tables.rows
    for name, value in headers.items():
        answer[name] = str(value)
    return answer


def table_json(tables: metrics.Tables, members: Members = lambda tables: {}) -> Iterator[bytes]:
    yield b'{"columns":%b,"rows":[' % dump_json(tables.columns)
    is_first = True
    for piece in tables.pieces:
        if len(piece):
            yield (b"" if is_first else b",") + piece.json_rows()
            is_first = False
    more = members(tables)
    yield b"]%b" % (b"," + dump_json(more)[1:] if more else b"}")


def _by_columns(tables: metrics.Tables, members: Members) -> bytes:
    table = tables.whole()
    cells = []
    if table is not None and tables.columns:
        columns = [json_cells(table.places), *(c.to_json() for c in table.cells.values())]
        cells = [b"[%b]" % b",".join(column) for column in columns]
    head = {"columns": [table.axis, *table.cells] if table is not None else []}
    more = dump_json(head | members(tables))[1:]
    return b'{"data":[%b],%b' % (b",".join(cells), more)


def _form(request: HttpRequest) -> str:
    """The first media type of ``Accept`` that we write; JSON, as in v0.4, for any other."""
    for wanted in request.headers.get("Accept", "").split(","):
        name = wanted.partition(";")[0].strip().lower()
        if name in (JSON, COLUMNS, arrow.STREAM, arrow.PARQUET):
            return name
    return JSON


def numbers_answer(data: dict[str, Any]) -> HttpResponse:
    """JSON of *data*, which may hold arrays of numbers; what is not finite is null."""
    content = orjson.dumps(data, default=_as_list, option=orjson.OPT_SERIALIZE_NUMPY)
    return HttpResponse(content, content_type=JSON)


def _as_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # one that is not contiguous
        return np.ascontiguousarray(value)
    raise TypeError(value)


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
    following = sync_to_async(lambda: next(chunks, None), thread_sensitive=True)
    while (chunk := await following()) is not None:
        yield chunk
