"""Count refused logins per client and host, at every door alike.

The server must not help to guess passwords, nor let a forgetful script lock its own account.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.http import rate_limits

from ..exceptions import AuthenticationFailed, TooManyAttempts
from . import transport

REFUSALS = rate_limits.Limit(max_requests=5, window_seconds=60)
"""The documented number for connecting."""


@contextmanager
def limited(address: transport.Address, *, client: str) -> Iterator[None]:
    """Wrap a login: TooManyAttempts if *client* was refused there too often lately."""
    bucket = f"ssh login {address.host}:{address.port}"
    verdict = rate_limits.look(bucket, REFUSALS, client)
    if not verdict.is_allowed:
        raise TooManyAttempts("Rate limit exceeded", verdict.reset)
    try:
        yield
    except AuthenticationFailed:
        rate_limits.count(bucket, REFUSALS, client)
        raise
