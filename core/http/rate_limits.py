"""Rate limits: a sliding window per client and endpoint.

Each door declares its limits; ``rate_limits.json`` in the user's configuration folder changes them
without a restart. Requests are counted after authentication, by user if one has signed in, else by
address. Failed sign-ins are counted before authentication, by address.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from runicorn import layout

from .client_address import client_address
from .doors import door_of

logger = logging.getLogger("runicorn.ratelimits")

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_LOCALHOST = ("127.0.0.1", "::1", "localhost")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


# -- the limits --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    max_requests: int = 60
    window_seconds: int = 60
    burst_size: int | None = None
    methods: tuple[str, ...] = _METHODS

    @classmethod
    def from_json(cls, data: Any, prefix: str = "") -> Limit:
        if not isinstance(data, dict):
            raise ValueError(f"{prefix}must be a dictionary")
        methods = data.get("methods") or list(cls.methods)
        if not isinstance(methods, list):
            raise ValueError(f"{prefix}methods must be a list")
        limit = cls(
            data.get("max_requests", cls.max_requests),
            data.get("window_seconds", cls.window_seconds),
            data.get("burst_size"),
            tuple(methods),
        )
        for name in ("max_requests", "window_seconds", "burst_size"):
            number = getattr(limit, name)
            if name == "burst_size" and number is None:
                continue
            if not isinstance(number, int) or isinstance(number, bool):
                raise ValueError(f"{prefix}{name} must be an integer")
            if number <= 0:
                raise ValueError(f"{prefix}{name} must be positive")
        if unknown := [method for method in limit.methods if method not in _METHODS]:
            raise ValueError(f"{prefix}unknown method {unknown[0]!r}")
        return limit

    def covers(self, prefix: str, method: str | None, path: str) -> bool:
        return method in self.methods and f"{path}/".startswith(f"{prefix.rstrip('/')}/")


@dataclass(frozen=True)
class Policy:
    """The content of ``rate_limits.json``; the defaults are those of a missing file."""

    default: Limit = Limit()
    endpoints: dict[str, Limit] = field(default_factory=dict)
    is_enabled: bool = True
    log_violations: bool = True
    whitelist_localhost: bool = False
    limit_header: str = "X-RateLimit-Limit"
    remaining_header: str = "X-RateLimit-Remaining"
    reset_header: str = "X-RateLimit-Reset"

    @classmethod
    def from_json(cls, data: Any) -> Policy:
        """Return the policy that *data* describes. Raises ValueError that says what is wrong."""
        if not isinstance(data, dict):
            raise ValueError("Configuration must be a dictionary")
        endpoints = data.get("endpoints", {})
        options = data.get("settings", {})
        if not isinstance(endpoints, dict):
            raise ValueError("endpoints must be a dictionary")
        if not isinstance(options, dict):
            raise ValueError("settings must be a dictionary")
        for path in endpoints:
            if not path.startswith("/"):
                raise ValueError(f"Endpoint '{path}' must start with /")
        names = options.get("custom_headers") or {}
        if not isinstance(names, dict):
            raise ValueError("custom_headers must be a dictionary")
        policy = cls(
            default=Limit.from_json(data.get("default", {})),
            endpoints={p: Limit.from_json(value, f"{p}: ") for p, value in endpoints.items()},
            is_enabled=options.get("enable_rate_limiting", True) is not False,
            log_violations=options.get("log_violations", True) is not False,
            whitelist_localhost=options.get("whitelist_localhost", False) is True,
            limit_header=names.get("rate_limit_header") or cls.limit_header,
            remaining_header=names.get("rate_limit_remaining_header") or cls.remaining_header,
            reset_header=names.get("rate_limit_reset_header") or cls.reset_header,
        )
        for name in (policy.limit_header, policy.remaining_header, policy.reset_header):
            if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no header name")
        return policy

    def find(self, request: HttpRequest) -> tuple[str, Limit]:
        """Return the name of the bucket that *request* is counted in, and its limit."""
        method, path = request.method, request.path_info
        exact_first = sorted(self.endpoints.items(), key=lambda entry: entry[0] != path)
        for prefix, limit in exact_first:
            if limit.covers(prefix, method, path):
                return prefix, limit
        template = _route_template(path)
        if template is None or method not in _METHODS:
            return "default", self.default
        endpoint = f"{method} {template}"
        limits = door_of(request).limits
        return endpoint, Limit(limits[endpoint]) if endpoint in limits else self.default


def _route_template(path: str) -> str | None:
    try:
        return "/" + re.sub(r"<[^>]+>", "{id}", resolve(path).route)
    except Resolver404:
        return None


class PolicyFile:
    """``rate_limits.json``, checked for changes at most once a second."""

    def __init__(self) -> None:
        self._policy = Policy()
        self._fingerprint: tuple[int, ...] | None = None
        self._next_look = 0.0

    def current(self) -> Policy:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + 1
            self._look()
        return self._policy

    def _look(self) -> None:
        path = layout.user_config_dir() / "rate_limits.json"
        try:
            info = path.stat()
            fingerprint = (info.st_mtime_ns, info.st_size, info.st_ino)
        except OSError:
            fingerprint = None
        if fingerprint == self._fingerprint:
            return
        self._fingerprint = fingerprint
        try:
            is_there = fingerprint is not None
            self._policy = Policy.from_json(json.loads(path.read_bytes())) if is_there else Policy()
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("%s: %s. The limits stay as they were.", path, error)


policy_file = PolicyFile()


# -- counting requests -------------------------------------------------------------------------


class BoundedMemoryStorage(MemoryStorage):
    """The library's memory storage never forgets a client and starts threads; this one does not.

    It keeps the most recently used windows, by a clock that no time adjustment moves.
    """

    STORAGE_SCHEME = ["bounded-memory"]
    MAX_WINDOWS = 10_000

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **_: str) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._windows: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        with self._lock:
            window = self._window(key, expiry)
            if len(window) + amount > limit:
                return False
            window.extend([time.monotonic()] * amount)
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        with self._lock:
            window = self._window(key, expiry)
            age = time.monotonic() - window[0] if window else 0.0
            return time.time() - age, len(window)

    def _window(self, key: str, expiry: int) -> deque[float]:
        window = self._windows.setdefault(key, deque())
        self._windows.move_to_end(key)
        if len(self._windows) > self.MAX_WINDOWS:
            self._windows.popitem(last=False)
        oldest = time.monotonic() - expiry
        while window and window[0] < oldest:
            window.popleft()
        return window


@lru_cache
def limiter() -> MovingWindowRateLimiter:
    uri = settings.RUNICORN_RATE_LIMIT_STORAGE_URI
    return MovingWindowRateLimiter(storage_from_string(uri, wrap_exceptions=True))


class Verdict(NamedTuple):
    is_allowed: bool
    limit: int
    remaining: int
    reset: int
    """Seconds until the oldest counted request leaves the window."""


def applies_to(client: str) -> bool:
    policy = policy_file.current()
    return policy.is_enabled and not (policy.whitelist_localhost and client in _LOCALHOST)


def check(request: HttpRequest, client: str) -> Verdict:
    """Count *request* unless it exceeds a limit; return the verdict."""
    bucket, limit = policy_file.current().find(request)
    uncounted = _uncounted(request)
    if not applies_to(client):
        return uncounted
    try:
        return _count(bucket, limit, client)
    except StorageError as error:
        logger.warning("Rate limits are not counted: %s", error)
        return uncounted


def look(bucket: str, limit: Limit, client: str) -> Verdict:
    """Return whether *bucket*, which is not an endpoint's, allows one more; do not count it."""
    window = RateLimitItemPerSecond(limit.max_requests, limit.window_seconds)
    allowed = Verdict(True, limit.max_requests, limit.max_requests, limit.window_seconds)
    try:
        if not applies_to(client) or limiter().test(window, bucket, client):
            return allowed
        reset_time, _ = limiter().get_window_stats(window, bucket, client)
    except StorageError as error:
        logger.warning("Rate limits are not counted: %s", error)
        return allowed
    return Verdict(False, limit.max_requests, 0, max(1, math.ceil(reset_time - time.time())))


def count(bucket: str, limit: Limit, client: str) -> None:
    """Count one in *bucket*, which is not an endpoint's."""
    try:
        if applies_to(client):
            _count(bucket, limit, client)
    except StorageError as error:
        logger.warning("Rate limits are not counted: %s", error)


def _count(bucket: str, limit: Limit, client: str) -> Verdict:
    window = RateLimitItemPerSecond(limit.max_requests, limit.window_seconds)
    burst = None
    if limit.burst_size and limit.burst_size < limit.max_requests:
        burst = RateLimitItemPerSecond(limit.burst_size, 1, "BURST")
        if limiter().test(window, bucket, client) and not limiter().test(burst, bucket, client):
            return Verdict(False, limit.max_requests, 0, 1)
    is_allowed = limiter().hit(window, bucket, client)
    if burst and is_allowed:
        limiter().hit(burst, bucket, client)
    reset_time, remaining = limiter().get_window_stats(window, bucket, client)
    seconds_left = reset_time - time.time()
    reset = max(1, math.ceil(seconds_left)) if is_allowed else int(seconds_left) + 1
    return Verdict(is_allowed, limit.max_requests, max(0, remaining), reset)


# -- the response ------------------------------------------------------------------------------


Middleware = Callable[[HttpRequest], HttpResponse]

SIGN_IN = Limit(10)
"""Failed sign-ins per minute and address; further attempts are refused unread."""

_SIGN_IN_BUCKET = "failed sign-ins"


def rate_limit_headers(get_response: Middleware) -> Middleware:
    """Middleware, outermost: tell every client of a limited door how many requests are left."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.method == "OPTIONS" or not door_of(request).is_limited:
            return response
        return _with_headers(response, getattr(request, "verdict", None) or _uncounted(request))

    return middleware


def rate_limits(get_response: Middleware) -> Middleware:
    """Middleware, after authentication: count the request, and refuse it beyond the limit."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method == "OPTIONS" or not door_of(request).is_limited:
            return get_response(request)
        client = _client_of(request)
        verdict = check(request, client)
        request.verdict = verdict  # type: ignore[attr-defined]
        return get_response(request) if verdict.is_allowed else refusal(request, client, verdict)

    return middleware


def _client_of(request: HttpRequest) -> str:
    """Return the client whose requests are counted together.

    The user of a request without a session is not looked up: that would cost a query, and the
    owner of an embedded server always has the same address.
    """
    if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
        return f"user {request.user.pk}"
    return client_address(request)


def _uncounted(request: HttpRequest) -> Verdict:
    _, limit = policy_file.current().find(request)
    return Verdict(True, limit.max_requests, limit.max_requests, limit.window_seconds)


def count_failed_sign_in(*, request: HttpRequest | None = None, **_: Any) -> None:
    """Count a failed sign-in (receives Django's ``user_login_failed``)."""
    if request is not None:
        count(_SIGN_IN_BUCKET, SIGN_IN, client_address(request))


def refuse_guessing(get_response: Middleware) -> Middleware:
    """Middleware, before authentication: refuse sign-ins after too many failed ones."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path_info.endswith("/login/"):
            client = client_address(request)
            verdict = look(_SIGN_IN_BUCKET, SIGN_IN, client)
            if not verdict.is_allowed:
                return refusal(request, client, verdict)
        return get_response(request)

    return middleware


def refusal(request: HttpRequest, client: str, verdict: Verdict) -> HttpResponse:
    if policy_file.current().log_violations:
        logger.warning(
            "Rate limit exceeded: %s %s, retry in %d s", client, request.path, verdict.reset
        )
    response = door_of(request).refuse(
        request, 429, "Rate limit exceeded", retry_after=verdict.reset
    )
    response["Retry-After"] = str(verdict.reset)
    return _with_headers(response, verdict)


def _with_headers(response: HttpResponse, verdict: Verdict) -> HttpResponse:
    policy = policy_file.current()
    response[policy.limit_header] = str(verdict.limit)
    response[policy.remaining_header] = str(verdict.remaining)
    response[policy.reset_header] = str(verdict.reset)
    return response
