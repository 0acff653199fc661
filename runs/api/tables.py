"""Metric tables as HTTP answers: in the form the client asks for, written in pieces."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags

from core.http.compression import gzipped, wants_gzip
from core.http.rest import dump_json
from metrics import read as metrics

from ..models import Run
from ..repair import mended, repaired

WHOLE_CELLS = 2**17
"""A table of up to this many cells is sent at once, with its length; a larger one in pieces."""

KEPT_ROWS = 5000
"""A table of up to this many rows is kept for the next one who asks."""

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
COLUMNS = "application/vnd.runicorn.columns+json"
"""``{"columns": […], "data": [[…], …]}``: one list of cells a column."""

Members = Callable[[metrics.Tables, str], dict[str, Any]]
"""What a table's JSON says beside its rows, by the table and the cursor behind it."""


def table_answer(
    request: HttpRequest,
    run: Run,
    read: Callable[[Any], metrics.Tables],
    members: Members = lambda tables, cursor: {},
    state: Callable[[], Any] | None = None,
) -> HttpResponseBase:
    """The table that *read* makes of *state*: how much there is to read, by default an
    event log.

    As JSON, JSON by columns, Arrow or Parquet, by the request's ``Accept``. It carries the
    ``cursor`` of the state, and an ETag that changes with it. A damaged block is reported and
    mended, in the middle of a long answer too.
    """
    form = _form(request)
    state = state or partial(metrics.event_log, run.pk)
    known = state()
    cursor = known.cursor if known else "0.0"
    tag = _tag(request, cursor, form)
    answer: HttpResponseBase
    if _is_known(request, tag):
        answer = HttpResponseNotModified()
    else:

        def more(shown: metrics.Tables) -> dict[str, Any]:
            return members(shown, cursor)

        kept = kept_answers.get((str(settings.RUNICORN_STORAGE_ROOT), tag))
        if kept is None:
            fresh = [known]

            def table() -> metrics.Tables:
                return read(fresh.pop() if fresh else _up_to(known, state()))

            tables = repaired(table)
            unread = [tables]

            def again() -> metrics.Tables:
                """The table; made a second time, when what it would read of was mended."""
                return unread.pop() if unread else table()

            answer = _answer(request, form, tables, again, more, tag)
        else:
            answer = _whole(form, *kept, more)
    answer["ETag"] = tag
    answer["Cache-Control"] = "no-cache"
    answer["Vary"] = "Accept"
    answer["X-Cursor"] = cursor
    return answer


@dataclass(frozen=True)
class Reached:
    """A state of which nothing is known but its cursor."""

    cursor: str


def _up_to(known: Any, now: Any) -> Any:
    """An event log, which another reading may have replaced by now, up to the same event."""
    if isinstance(now, metrics.EventLog) and isinstance(known, metrics.EventLog):
        now.count = min(now.count, known.count)
    return now


def _answer(
    request: HttpRequest,
    form: str,
    tables: metrics.Tables,
    again: Callable[[], metrics.Tables],
    more: Callable[[metrics.Tables], dict[str, Any]],
    tag: str,
) -> HttpResponseBase:
    if form in (JSON, COLUMNS):
        parts = _rows if form == JSON else _columns
        body = mended(lambda: parts(again()))
        if tables.rows * len(tables.columns) <= WHOLE_CELLS:
            # The batches come first: making them may change what is known of the rows.
            content = b"".join(body)
            shown = replace(tables, batches=iter(()))
            if tables.rows <= KEPT_ROWS:
                kept_answers.keep((str(settings.RUNICORN_STORAGE_ROOT), tag), (content, shown))
            return _whole(form, content, shown, more)
        chunks = itertools.chain(body, (_ending(more(tables)) for _ in "1"))
        answer: HttpResponseBase = streamed(request, chunks, content_type=form)
    else:
        from . import arrow

        whole = replace(tables, batches=mended(lambda: again().batches))
        answer = streamed(request, arrow.table(whole, form), content_type=form)
    return _counted(answer, tables)


def _whole(
    form: str,
    content: bytes,
    shown: metrics.Tables,
    more: Callable[[metrics.Tables], dict[str, Any]],
) -> HttpResponseBase:
    return _counted(HttpResponse(content + _ending(more(shown)), content_type=form), shown)


def _counted(answer: HttpResponseBase, tables: metrics.Tables) -> HttpResponseBase:
    answer["X-Total-Count"] = str(tables.total)
    answer["X-Row-Count"] = str(tables.rows)
    if tables.last is not None:
        answer["X-Last-Step"] = str(tables.last)
    if tables.unplaced:
        answer["X-Unplaced-Count"] = str(tables.unplaced)
    return answer


def _rows(tables: metrics.Tables) -> Iterator[bytes]:
    """The table as JSON up to what `_ending` says."""
    yield b'{"columns":%b,"rows":[' % dump_json(tables.columns)
    is_first = True
    for batch in tables.batches:
        yield (b"" if is_first else b",") + batch.json_rows() if len(batch) else b""
        is_first = is_first and not len(batch)


def _columns(tables: metrics.Tables) -> Iterator[bytes]:
    """The same by columns, one after the other, a piece of its cells at a time."""
    columns = tables.by_column()
    yield b'{"columns":%b,"data":[' % dump_json([name for name, _ in columns])
    for number, (_, pieces) in enumerate(columns):
        yield b",[" if number else b"["
        is_first = True
        for cells in pieces:
            yield (b"" if is_first else b",") + cells
            is_first = False
        yield b"]"


def _ending(members: dict[str, Any]) -> bytes:
    return b"]%b" % (b"," + dump_json(members)[1:] if members else b"}")


def _form(request: HttpRequest) -> str:
    """The first media type of ``Accept`` that we write; JSON, as in v0.4, for any other."""
    for wanted in request.headers.get("Accept", "").split(","):
        name = wanted.partition(";")[0].strip().lower()
        if name in (JSON, COLUMNS, ARROW, PARQUET):
            return name
    return JSON


def _tag(request: HttpRequest, cursor: str, form: str) -> str:
    asked = f"{request.get_full_path()} {form}".encode()
    return f'W/"{cursor}-{hashlib.sha256(asked).hexdigest()[:16]}"'


def _is_known(request: HttpRequest, tag: str) -> bool:
    """Whether the client has the answer with this tag (weak comparison, RFC 9110)."""
    tags = parse_etags(request.headers.get("If-None-Match", ""))
    return "*" in tags or tag.removeprefix("W/") in (each.removeprefix("W/") for each in tags)


class KeptAnswers:
    """Short answers that were made lately, by what was asked of which state of a run.

    A chart that is opened again, or by somebody else, costs no more than finding out that nothing
    is new. Bounded by bytes; safe between threads.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._answers: OrderedDict[Any, tuple[bytes, metrics.Tables]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> tuple[bytes, metrics.Tables] | None:
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)

    def keep(self, key: Any, answer: tuple[bytes, metrics.Tables]) -> None:
        with self._lock:
            if key not in self._answers and len(answer[0]) <= self._most // 8:
                self._answers[key] = answer
                self._bytes += len(answer[0])
            while self._bytes > self._most:
                _, (content, _) = self._answers.popitem(last=False)
                self._bytes -= len(content)


kept_answers = KeptAnswers(8 * 2**20)


def numbers_answer(data: dict[str, Any]) -> HttpResponse:
    return HttpResponse(dump_numbers(data), content_type=JSON)


def dump_numbers(data: dict[str, Any]) -> bytes:
    """JSON of *data*, which may hold arrays of numbers; what is not finite is null."""
    return orjson.dumps(data, default=_as_list, option=orjson.OPT_SERIALIZE_NUMPY)


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
    is_compressed = wants_gzip(request, content_type)
    if is_compressed:
        chunks = gzipped(chunks)
    # What REST framework wraps is an ASGIRequest where there is an event loop to keep free.
    is_async = isinstance(getattr(request, "_request", request), ASGIRequest)
    answer = StreamingHttpResponse(
        _off_the_loop(chunks) if is_async else chunks, content_type=content_type
    )
    if is_compressed:
        answer["Content-Encoding"] = "gzip"
    return answer


async def _off_the_loop(chunks: Iterator[bytes]) -> Any:
    following = sync_to_async(lambda: next(chunks, None), thread_sensitive=True)
    while (chunk := await following()) is not None:
        yield chunk
