"""Send a request: retries, and answers that become errors."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

import httpx
import orjson

from ._steps import Pause, Progress, Request, Steps
from .exceptions import (
    AuthenticationError,
    BadRequestError,
    ConnectionError,
    NotFoundError,
    RateLimitError,
    RunicornAPIError,
    ServerError,
)

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 8.0
LONGEST_WAIT_S = 120.0
"""A server that asks for more patience than this is not waited for."""

_TRANSIENT = frozenset([500, 502, 503, 504])
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Settings(Protocol):
    """The settings of a client that a call needs."""

    timeout: float
    max_retries: int


def send(client: Settings, request: Request) -> Steps[httpx.Response]:
    """The answer to *request*, retried where that is safe.

    Delays of 0.5, 1, 2, 4, 8 s, or what ``Retry-After`` says. A request that changes something and
    may have arrived is not repeated: a POST only if the server was not reached, or said 429, which
    means that it did nothing. Raises the errors of :mod:`.exceptions`.
    """
    retries = client.max_retries if request.retries is None else request.retries
    is_repeatable = request.method != "POST"
    if request.is_repeatable is not None:
        is_repeatable = request.is_repeatable
    delay = FIRST_DELAY_S
    for left in range(retries, -1, -1):
        wait = delay
        try:
            response: httpx.Response = yield request
        except httpx.TransportError as error:
            if not left or not (is_repeatable or isinstance(error, _NOT_SENT)):
                text = str(error) or type(error).__name__
                raise ConnectionError(f"Request failed: {text}") from error
        else:
            status = response.status_code
            may_help = status == 429 or (is_repeatable and status in _TRANSIENT)
            requested_wait = retry_after(response)
            if requested_wait is not None:
                wait = requested_wait
            if not left or not may_help or wait > LONGEST_WAIT_S:
                return checked(request, response)
        yield Pause(wait)
        delay = min(delay * 2, LONGEST_DELAY_S)
    raise AssertionError("unreachable")


def retry_after(response: httpx.Response) -> float | None:
    """The seconds that the server asks to wait, given as a number or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def checked(request: Request, response: httpx.Response) -> httpx.Response:
    """*response* if it is a good one. Raises the error that it stands for otherwise."""
    status = response.status_code
    if status < 300:
        return response
    detail = _detail(response)
    facts: dict[str, Any] = {"status_code": status, "detail": detail}
    if status == 404:
        raise NotFoundError(f"Resource not found: {request.path}", **facts)
    if status in (400, 422):
        raise BadRequestError(f"Bad request: {response.text}", **facts)
    if status in (401, 403):
        raise AuthenticationError(f"Not allowed ({status}): {detail}", **facts)
    if status >= 500:
        raise ServerError(f"Server error: {response.text or status}", **facts)
    failed = f"Request failed: {status} {response.reason_phrase} for {request.path}: {detail}"
    if status == 429:
        raise RateLimitError(failed, retry_after=retry_after(response), **facts)
    if status in (405, 408) or status < 400:
        raise ConnectionError(failed, **facts)
    raise RunicornAPIError(failed, **facts)


def _detail(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)["detail"]
    except (ValueError, KeyError, TypeError):
        return response.text


def json_of(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except ValueError:
        raise ConnectionError(
            f"Request failed: {response.url} did not answer with JSON; is it a Runicorn server?",
            status_code=response.status_code,
            detail=response.text[:500],
        ) from None


# -- the low level, as documented --------------------------------------------------------------


def get(client: Settings, endpoint: str, params: dict[str, Any] | None = None) -> Steps[Any]:
    """GET *endpoint* (``/api/…``); the parsed JSON. Parameters that are None are left out."""
    return (yield from json_answer(client, Request("GET", endpoint, _given(params))))


def post(client: Settings, endpoint: str, json: Any = None) -> Steps[Any]:
    """POST *json* to *endpoint*; the parsed JSON. Not repeated if it may have arrived."""
    return (yield from json_answer(client, Request("POST", endpoint, json=json)))


def put(client: Settings, endpoint: str, json: Any = None) -> Steps[Any]:
    """PUT *json* to *endpoint*; the parsed JSON."""
    return (yield from json_answer(client, Request("PUT", endpoint, json=json)))


def patch(client: Settings, endpoint: str, json: Any = None) -> Steps[Any]:
    """PATCH *endpoint* with *json*; the parsed JSON."""
    return (yield from json_answer(client, Request("PATCH", endpoint, json=json)))


def delete(client: Settings, endpoint: str, json: Any = None) -> Steps[Any]:
    """DELETE *endpoint*; the parsed JSON."""
    return (yield from json_answer(client, Request("DELETE", endpoint, json=json)))


def expect_object(call: Steps[Any]) -> Steps[dict[str, Any]]:
    """The answer of *call*, which is to be an object. Raises ConnectionError if it is not."""
    answer = yield from call
    if not isinstance(answer, dict):
        raise ConnectionError("Request failed: the server did not answer with an object")
    return answer


def content(client: Settings, endpoint: str, params: dict[str, Any] | None = None) -> Steps[bytes]:
    """The body of *endpoint* as it is."""
    response = yield from send(client, Request("GET", endpoint, _given(params)))
    return response.content


def save(
    client: Settings,
    endpoint: str,
    path: Path,
    params: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Steps[Path]:
    """The body of *endpoint* in the file *path*, which appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    request = Request("GET", endpoint, _given(params), save_to=path, progress=progress)
    yield from send(client, request)
    return path


def json_answer(client: Settings, request: Request) -> Steps[Any]:
    """The parsed JSON that answers *request*."""
    return json_of((yield from send(client, request)))


def _given(params: dict[str, Any] | None) -> dict[str, Any] | None:
    return {k: v for k, v in params.items() if v is not None} if params else None
