"""Whether anything has changed: what is known is neither made nor sent again.

SQLite tells a connection whether any other one has committed since it last asked, in
microseconds; one connection that never writes asks for the whole process. PostgreSQL has nothing
as cheap: there an answer is made, and only not sent again if it came out the same.
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

KEPT = 500

_process = secrets.token_hex(4)
_lock = threading.Lock()
_path: str = ""
_watching: sqlite3.Connection | None = None
_version: str | None = None
_counts: dict[tuple[str, Any], int] = {}
_asked = {True: 0, False: 0}
"""How often an answer was known, and how often not."""


def known_tag(request: HttpRequest, *tags: str) -> str | None:
    """Return that of *tags* which the client says it has (weak comparison, RFC 9110)."""
    theirs = parse_etags(request.headers.get("If-None-Match", ""))
    if "*" in theirs:
        return tags[0]
    opaque = {tag.removeprefix("W/") for tag in theirs}
    return next((tag for tag in tags if tag.removeprefix("W/") in opaque), None)


def response_unless_known(
    request: HttpRequest, tag: str, make: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    """Return what *make* returns under *tag*; 304 if the client has that already."""
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
    """Return the JSON of what *make* returns under an ETag; 304 if the client has it already.

    *extra* adds members that differ each time, such as how long it took: the tag is not of them.
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
    """Return the HTML that *build* makes of *state*; 304 if the client has that of this state."""
    digest = hashlib.sha256(f"{settings.VERSION} {state}".encode()).hexdigest()[:32]
    return response_unless_known(request, f'"{digest}"', lambda: HttpResponse(build()))


def count(rows: QuerySet) -> int:
    """How many *rows* there are; not counted again for each page while nothing changes."""
    try:
        return memoize(rows.query.sql_with_params(), rows.count)
    except EmptyResultSet:
        return 0


def memoize(question: Any, ask: Callable[[], int]) -> int:
    """Return what *ask* returns; ask not again for the same question while nothing changes."""
    version = _index_version()
    if version is None:
        return ask()
    answer = _counts.get((version, question))
    _asked[answer is not None] += 1
    if answer is not None:
        return answer
    answer = ask()
    with _lock:
        if len(_counts) >= KEPT or next(iter(_counts), (version,))[0] != version:
            _counts.clear()
        _counts[version, question] = answer
    return answer


def forget() -> None:
    """Forget all that is known: the database of the index is another file now."""
    global _watching
    with _lock:
        if _watching is not None:
            _watching.close()
        _watching = None
        _counts.clear()


def hit_rate() -> float:
    """Which part of the questions since the process began was answered without asking."""
    return _asked[True] / max(1, sum(_asked.values()))


def _tag(request: HttpRequest, state: bytes) -> str:
    """Weak, as compression may change the bytes. Whoever asks as somebody else has another."""
    who = [request.headers.get(name, "") for name in ("Authorization", "Cookie")]
    asked = repr((request.get_full_path(), who)).encode()
    return f'W/"{hashlib.sha256(state + asked).hexdigest()[:32]}"'


def _index_version() -> str | None:
    """Differs after every commit; None where nobody can say, or for uncommitted changes."""
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
