"""Logging in on behalf of a client: with what it sent, or with what is saved here.

Refused logins are counted per client and host, whichever door they come through: nobody guesses
passwords through us, and no forgetful script gets its account locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from core.http import rate_limits
from runicorn import config, credentials

from ..exceptions import AuthenticationFailed, BadKey, NotYours, PathNotFound, TooManyAttempts
from . import transport
from .connections import Connection, pool
from .loop import run

REFUSALS = rate_limits.Limit(max_requests=5, window_seconds=60)
"""The documented number for connecting."""


def connect(
    holder: str, address: transport.Address, login: transport.Credentials, *, client: str, by: Any
) -> Connection:
    """The connection to *address*, for *holder*. Raises RemoteError."""
    login = allowed(login, by=by)
    with attempt(address, client=client):
        return run(pool.connect(holder, address, login))


def allowed(login: transport.Credentials, *, by: Any) -> transport.Credentials:
    """What of *login* this user may use: key files and the agent here are the owner's."""
    if not (login.use_agent or login.private_key_path) or by.is_superuser:
        return login
    if login.private_key_path:
        raise NotYours("Only the owner of this server may use key files of its machine.")
    return replace(login, use_agent=False)


@contextmanager
def attempt(address: transport.Address, *, client: str) -> Iterator[None]:
    """Around a login: TooManyAttempts if this client was refused there too often lately."""
    bucket = f"ssh login {address.host}:{address.port}"
    verdict = rate_limits.look(bucket, REFUSALS, client)
    if not verdict.is_allowed:
        raise TooManyAttempts("Rate limit exceeded", verdict.reset)
    try:
        yield
    except AuthenticationFailed:
        rate_limits.count(bucket, REFUSALS, client)
        raise


def saved(name: str, *, by: Any) -> dict[str, Any]:
    """The saved connection of that key or name, with its secrets, as a login's fields."""
    if not by.is_superuser:  # on this machine, that is its owner
        raise NotYours("Only the owner of this server may use saved connections.")
    entries = config.ssh_connections()
    keys = [entry["key"] for entry in entries if name and entry.get("name") == name]
    try:
        entry = config.ssh_connection(name) or (config.ssh_connection(keys[-1]) if keys else None)
    except credentials.CredentialsError as error:
        raise BadKey(str(error)) from error
    if entry is None:
        raise PathNotFound(f"Connection not found: {name}")
    return entry


def from_saved(entry: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A login with a saved connection. What is *given* completes it, and never redirects it:
    its secrets go to its own host."""
    names = ("password", "private_key", "private_key_path", "passphrase")
    proofs = {name: given.get(name) or entry.get(name) for name in names}
    where = {name: entry[name] for name in ("host", "port", "username")}
    return {**proofs, **where, "use_agent": entry.get("auth_method") == "agent"}
