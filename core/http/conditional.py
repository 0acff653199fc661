"""Conditional responses: an unchanged answer is neither made nor sent again.

SQLite tells a connection within microseconds whether any other has committed since it last asked;
one connection that never writes asks for the whole process. PostgreSQL has nothing as cheap: there
the response is made each time, and only the sending is saved if it is the same.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags

from .rest import dump_json

MAX_MEMOIZED = 500

_process = secrets.token_hex(4)
_lock = threading.Lock()
_path: str = ""
_watching: sqlite3.Connection | None = None
_version: str | None = None
_counts: dict[tuple[str, Any], int] = {}
_memoize_calls = {True: 0, False: 0}
"""The number of calls of ``memoize`` by whether the value was in memory."""


def known_tag(request: HttpRequest, *tags: str) -> str | None:
    """Return the one of *tags* that the client says it has (weak comparison, RFC 9110)."""
    client_tags = parse_etags(request.headers.get("If-None-Match", ""))
    if "*" in client_tags:
        return tags[0]
    opaque = {tag.removeprefix("W/") for tag in client_tags}
    return next((tag for tag in tags if tag.removeprefix("W/") in opaque), None)


def response_unless_known(
    request: HttpRequest, tag: str, make: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    """Return the result of *make* with the ETag *tag*, or 304 if the client has it already."""
    is_known = known_tag(request, tag) is not None
    response = HttpResponseNotModified() if is_known else make()
    response["ETag"] = tag
    response["Cache-Control"] = "no-cache"
    return response


def json_response(
    request: HttpRequest,
    make: Callable[[], Any],
    extra: Callable[[], dict[str, Any]] | None = None,
    dump: Callable[[Any], bytes] = dump_json,
) -> HttpResponseBase:
    """Return the result of *make* as JSON with an ETag, or 304 if the client has it already.

    *extra* adds members that differ each time, such as the time it took; the ETag ignores them.
    *dump* makes the JSON.
    """

    def write(data: Any, content: bytes | None = None) -> HttpResponse:
        if extra is not None or content is None:
            content = dump({**data, **extra()} if extra else data)
        return HttpResponse(content, content_type="application/json")

    version = _index_version()
    if version is not None:
        tag = _tag(request, version.encode())
        return response_unless_known(request, tag, lambda: write(make()))
    data = make()
    content = dump(data)
    return response_unless_known(request, _tag(request, content), lambda: write(data, content))


def html_response(request: HttpRequest, state: str, build: Callable[[], str]) -> HttpResponseBase:
    """Return the HTML that *build* makes, or 304 if the client has that of the same *state*."""
    digest = hashlib.sha256(f"{settings.VERSION} {state}".encode()).hexdigest()[:32]
    return response_unless_known(request, f'"{digest}"', lambda: HttpResponse(build()))


def count(rows: QuerySet) -> int:
    """Return the number of *rows*; pages do not count again while nothing changes."""
    try:
        return memoize(rows.query.sql_with_params(), rows.count)
    except EmptyResultSet:
        return 0


def memoize(key: Any, compute: Callable[[], int]) -> int:
    """Return the result of *compute*; reuse it for the same *key* while nothing changes."""
    version = _index_version()
    if version is None:
        return compute()
    value = _counts.get((version, key))
    _memoize_calls[value is not None] += 1
    if value is not None:
        return value
    value = compute()
    with _lock:
        if len(_counts) >= MAX_MEMOIZED or next(iter(_counts), (version,))[0] != version:
            _counts.clear()
        _counts[version, key] = value
    return value


def forget() -> None:
    """Forget all memoized values: the database of the index is another file now."""
    global _watching
    with _lock:
        if _watching is not None:
            _watching.close()
        _watching = None
        _counts.clear()


def hit_rate() -> float:
    """Return the share of ``memoize`` calls since the start that were answered from memory."""
    return _memoize_calls[True] / max(1, sum(_memoize_calls.values()))


def _tag(request: HttpRequest, state: bytes) -> str:
    """Return a weak ETag, as compression may change the bytes. It differs from user to user."""
    credentials = [request.headers.get(name, "") for name in ("Authorization", "Cookie")]
    scope = repr((request.get_full_path(), credentials)).encode()
    return f'W/"{hashlib.sha256(state + scope).hexdigest()[:32]}"'


def _index_version() -> str | None:
    """Return a text that changes with every commit; None if unknown, or in a transaction."""
    global _path, _watching, _version
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return None
    path = str(connection.settings_dict["NAME"])
    with _lock:
        if path != _path or _watching is None:
            if _watching is not None:
                _watching.close()
            _watching = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            _path = path
            _version = secrets.token_hex(4)
        return f"{_process}-{_version}-{_watching.execute('PRAGMA data_version').fetchone()[0]}"
