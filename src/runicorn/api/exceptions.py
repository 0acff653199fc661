"""The errors of a call to a server.

    RunicornAPIError
    ├── ConnectionError         no usable answer: unreachable, timed out, refused   (also builtin)
    │   └── RateLimitError      429, and waiting as asked did not help
    ├── AuthenticationError     401, 403
    ├── NotFoundError           404
    ├── BadRequestError         400, 422, or arguments that no server would take
    └── ServerError             500 and above

Any other refusal, such as 409, is a plain ``RunicornAPIError``.
"""

from __future__ import annotations

import builtins
from typing import Any


class RunicornAPIError(Exception):
    """Base of everything that this client raises on purpose."""

    def __init__(self, message: str, *, status_code: int | None = None, detail: Any = None):
        super().__init__(message)
        self.status_code = status_code
        """The HTTP status; None if there was no answer."""
        self.detail = detail
        """The server's own words: usually one sentence."""


class ConnectionError(RunicornAPIError, builtins.ConnectionError):
    """The server could not be reached, or would not answer."""


class RateLimitError(ConnectionError):
    """Too many requests (HTTP 429)."""

    def __init__(self, message: str, *, retry_after: float | None = None, **known: Any):
        super().__init__(message, **known)
        self.retry_after = retry_after
        """Seconds after which the server would answer again, if it said so."""


class AuthenticationError(RunicornAPIError):
    """The token is missing or not good enough (HTTP 401, 403)."""


class NotFoundError(RunicornAPIError):
    """There is no such thing on the server, or no such route (HTTP 404)."""


class BadRequestError(RunicornAPIError):
    """The arguments cannot be meant (HTTP 400, 422)."""


class ServerError(RunicornAPIError):
    """The server failed (HTTP 500 and above)."""
