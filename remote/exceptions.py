"""Why a remote host could not be used; each knows the status that it is answered with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


class RemoteError(Exception):
    """Says what is wrong. The kinds below are those that a client tells apart."""

    status = 500

    def to_json(self) -> dict[str, Any]:
        """Return it as it travels from one process to another."""
        return {"kind": type(self).__name__, "text": str(self), "facts": vars(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> RemoteError:
        kinds = {kind.__name__: kind for kind in _kinds(RemoteError)}
        kind = kinds[data["kind"]]
        error = kind.__new__(kind, data["text"])
        error.__dict__.update(data["facts"])
        return error


def _kinds(kind: type[RemoteError]) -> Iterator[type[RemoteError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


class Unreachable(RemoteError):
    """No SSH server answers at this address."""

    status = 400


class BadKey(RemoteError):
    """The private key that was offered cannot be read."""

    status = 400

    def __init__(self, text: str = "Invalid private key format or passphrase") -> None:
        super().__init__(text)


class AuthenticationFailed(RemoteError):
    status = 401


class PathNotFound(RemoteError):
    status = 404


class NotConnected(RemoteError):
    status = 400


class TimedOut(RemoteError):
    status = 408


class HostKeyUnconfirmed(RemoteError):
    """A person has to confirm the host's key first. ``host_key`` is what to show, and to accept."""

    status = 409

    def __init__(self, host_key: dict[str, Any]) -> None:
        super().__init__("Host key verification failed")
        self.host_key = host_key
        self.question: str | None = None
        """Names the login that waits for the answer, where it was kept."""


class QuestionTooOld(RemoteError):
    status = 400


class TooManyAttempts(RemoteError):
    """Too many logins were refused lately; *retry_after* seconds from now one may be tried."""

    status = 429

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = max(1, math.ceil(retry_after))


class NotYours(RemoteError):
    """Saved secrets are the owner's alone."""

    status = 403


class OwnerAway(RemoteError):
    """The process that holds all connections does not answer."""

    status = 503
    retry_after = 5
