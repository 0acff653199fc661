"""Metric tables as HTTP responses, in the form that the client accepts, sent in chunks."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from core.http import conditional
from core.http.rest import dump_json
from core.http.streams import streamed
from metrics import read as metrics

from ..models import Run
from ..repair import stream_with_repair, with_repair
from .forms import ARROW, COLUMNS, JSON, PARQUET

WHOLE_CELLS = 2**17
"""A table of up to this many cells is sent at once, with its length; a larger one in chunks."""

KEPT_ROWS = 5000
"""A table of up to this many rows is cached for the next request."""


class TableResponse:
    """A request for a table of a run, and the response to it.

    Subclasses define the state, the ``table`` read of it, and further ``members`` of the JSON. The
    response is JSON, JSON by columns, Arrow or Parquet, by the request's ``Accept``. It has the
    ``cursor`` of the state, and an ETag that changes with it. A damaged block is reported and built
    again, even in the middle of a long response.
    """

    def __init__(self, request: HttpRequest, run: Run) -> None:
        self.request = request
        self.run = run
        self.form = _form(request)
        self.state = self.find_state()
        self.cursor: str = self.state.cursor if self.state else "0.0"
        self.tag = _tag(request, self.cursor, self.form)
        self._is_state_new = True
        self._unread: metrics.Tables | None = None

    # -- for subclasses

    def find_state(self) -> Any:
        """Return the amount of data that can be read, with a ``cursor``."""
        return metrics.event_log(self.run.pk)

    def table(self, state: Any) -> metrics.Tables:
        """Return the table of *state*. Making or iterating it may raise CorruptBlock."""
        raise NotImplementedError

    def members(self, shown: metrics.Tables) -> dict[str, Any]:
        """Return the members of the JSON beside the rows."""
        return {}

    # -- the response

    @property
    def key(self) -> tuple[str, str]:
        """The key under which a short response is cached."""
        return str(settings.RUNICORN_STORAGE_ROOT), self.tag

    def response(self) -> HttpResponseBase:
        """Return the response; 304 if the client has it already."""
        response = conditional.response_unless_known(self.request, self.tag, self._make)
        response["Vary"] = "Accept"
        response["X-Cursor"] = self.cursor
        return response

    def _make(self) -> HttpResponseBase:
        if cached := kept_answers.get(self.key):
            return self._whole(*cached)
        tables = self._unread = with_repair(self.read)
        if self.form not in (JSON, COLUMNS):
            response = self.stream(tables)
        elif tables.rows * len(tables.columns) <= WHOLE_CELLS:
            return self.json(tables)
        else:
            chunks = itertools.chain(self._body(), (self._end(tables) for _ in "1"))
            response = streamed(self.request, chunks, content_type=self.form)
        return _counted(response, tables)

    def read(self) -> metrics.Tables:
        """Return the table; make it again if its blocks were built again meanwhile."""
        if self._unread is not None:
            tables, self._unread = self._unread, None
            return tables
        state = self.state if self._is_state_new else self._state_up_to_first()
        self._is_state_new = False
        return self.table(state)

    def _state_up_to_first(self) -> Any:
        """Return the present state, which may have been read again, up to the same event."""
        state = self.find_state()
        if isinstance(state, metrics.EventLog) and isinstance(self.state, metrics.EventLog):
            state.count = min(state.count, self.state.count)
        return state

    def json(self, tables: metrics.Tables) -> HttpResponseBase:
        """Return a short response, with its length, and cache it for the next request."""
        # The batches come first: making them may change the other facts about the rows.
        content = b"".join(self._body())
        shown = replace(tables, batches=iter(()))
        if tables.rows <= KEPT_ROWS:
            kept_answers.keep(self.key, (content, shown))
        return self._whole(content, shown)

    def stream(self, tables: metrics.Tables) -> HttpResponseBase:
        """Return the table as Arrow or Parquet, made while it is sent."""
        from . import arrow

        whole = replace(tables, batches=stream_with_repair(lambda: self.read().batches))
        return streamed(self.request, arrow.table(whole, self.form), content_type=self.form)

    def _body(self) -> Iterator[bytes]:
        """Yield the JSON up to the part that ``_end`` returns."""
        write = _rows if self.form == JSON else _columns
        return stream_with_repair(lambda: write(self.read()))

    def _end(self, shown: metrics.Tables) -> bytes:
        members = self.members(shown)
        return b"]%b" % (b"," + dump_json(members)[1:] if members else b"}")

    def _whole(self, content: bytes, shown: metrics.Tables) -> HttpResponseBase:
        body = content + self._end(shown)
        return _counted(HttpResponse(body, content_type=self.form), shown)


@dataclass(frozen=True)
class Reached:
    """A state that has only a cursor."""

    cursor: str


def _counted(response: HttpResponseBase, tables: metrics.Tables) -> HttpResponseBase:
    response["X-Total-Count"] = str(tables.total)
    response["X-Row-Count"] = str(tables.rows)
    if tables.last is not None:
        response["X-Last-Step"] = str(tables.last)
    if tables.unplaced:
        response["X-Unplaced-Count"] = str(tables.unplaced)
    return response


def _rows(tables: metrics.Tables) -> Iterator[bytes]:
    """Yield the table as JSON up to the end of its rows."""
    yield b'{"columns":%b,"rows":[' % dump_json(tables.columns)
    is_first = True
    for batch in tables.batches:
        yield (b"" if is_first else b",") + batch.json_rows() if len(batch) else b""
        is_first = is_first and not len(batch)


def _columns(tables: metrics.Tables) -> Iterator[bytes]:
    """Yield the table as JSON by columns, one after the other, in chunks of cells."""
    columns = tables.by_column()
    yield b'{"columns":%b,"data":[' % dump_json([name for name, _ in columns])
    for number, (_, chunks) in enumerate(columns):
        yield b",[" if number else b"["
        is_first = True
        for cells in chunks:
            yield (b"" if is_first else b",") + cells
            is_first = False
        yield b"]"


def _form(request: HttpRequest) -> str:
    """Return the first media type of ``Accept`` that we support; JSON, as in v0.4, if none."""
    for offer in request.headers.get("Accept", "").split(","):
        name = offer.partition(";")[0].strip().lower()
        if name in (JSON, COLUMNS, ARROW, PARQUET):
            return name
    return JSON


def _tag(request: HttpRequest, cursor: str, form: str) -> str:
    scope = f"{request.get_full_path()} {form}".encode()
    return f'W/"{cursor}-{hashlib.sha256(scope).hexdigest()[:16]}"'


class KeptAnswers:
    """A cache of recent short responses, by request and state of a run.

    A chart that is opened again, perhaps by another user, costs only the check that nothing has
    changed. The cache is limited in bytes and thread-safe.
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
    """Return the JSON of *data*, which may contain arrays; numbers that are not finite are null."""
    return orjson.dumps(data, default=_as_list, option=orjson.OPT_SERIALIZE_NUMPY)


def _as_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # arrays that are not contiguous
        return np.ascontiguousarray(value)
    raise TypeError(value)
