"""Open an SSH connection the way ``ssh`` would, except that nobody is asked on a terminal.

``~/.ssh/config`` counts: aliases, users, ports, identity files, jump hosts. Host keys are those
that were confirmed here (``known_hosts``).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from ..exceptions import (
    AuthenticationFailed,
    BadKey,
    HostKeyUnconfirmed,
    RemoteError,
    TimedOut,
    Unreachable,
)
from . import known_hosts

SSH_PORT = known_hosts.SSH_PORT
CONNECT_SECONDS = 15
KEEPALIVE_SECONDS = 15
COMPRESSION = ("zlib@openssh.com", "zlib", "none")

HOST_KEY_ALGORITHMS = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)

HOST = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]*")
USERNAME = re.compile(r"[^\s\x00-\x1f\x7f'\"`$;&|<>(){}*?!-][^\s\x00-\x1f\x7f'\"`$;&|<>(){}*?!]*")
"""Narrow, because ``~/.ssh/config`` may put both into a command (``ProxyCommand``)."""

_JUMP = re.compile(r"(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:]+))(?::(?P<port>\d+))?")


@dataclass(frozen=True)
class Credentials:
    """How to prove who one is. Kept in memory only, and never shown."""

    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    private_key_path: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    use_agent: bool = True


@dataclass(frozen=True)
class Login:
    """A host as somebody named it, and how to log in there."""

    host: str
    port: int | None
    username: str | None
    credentials: Credentials

    def address(self) -> Address:
        return find_address(self.host, self.port, self.username or default_username(self.host))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Login:
        return cls(**{**data, "credentials": Credentials(**data["credentials"])})


@dataclass(frozen=True)
class Address:
    """Where a connection leads: *host* as it was asked for, the port as it was found out."""

    host: str
    port: int
    username: str

    def __str__(self) -> str:
        return f"{self.username}@{self.host}:{self.port}"


def find_address(host: str, port: int | None, username: str) -> Address:
    """Return the address, with the port that ``~/.ssh/config`` has for the host.

    22 counts as none: clients of v0.4 always send it.
    """
    if not HOST.fullmatch(host) or not USERNAME.fullmatch(username):
        raise Unreachable("Host and username must be plain names")
    if port in (None, SSH_PORT):
        port = _configured(host, username).port
    return Address(host, port, username)


def default_username(host: str) -> str:
    """Return the user that ``ssh`` would log in as."""
    if not HOST.fullmatch(host):
        raise Unreachable("Host and username must be plain names")
    return str(_configured(host, None).username)


def aliases() -> list[str]:
    """Return the hosts that ``~/.ssh/config`` has names for."""
    try:
        lines = (Path.home() / ".ssh" / "config").read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines if line.strip().lower().startswith("host ")]
    return sorted({name for _, *names in words for name in names if HOST.fullmatch(name)})


async def connect(address: Address, credentials: Credentials) -> asyncssh.SSHClientConnection:
    """Return a connection that is logged in. Raises RemoteError, saying why not."""
    keys = await asyncio.to_thread(_load_keys, credentials)
    tunnel: asyncssh.SSHClientConnection | None = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            jumps = _configured(address.host, address.username).tunnel
            for jump in _parse_jumps(jumps if isinstance(jumps, str) else ""):
                # The password is for the host itself, and not told to those in between.
                tunnel = await _open(*jump, tunnel, **keys)
            login = {**keys, "password": credentials.password}
            return await _open(address.host, address.port, address.username, tunnel, **login)
    except TimeoutError as error:
        raise TimedOut("Connection timed out") from error
    except BaseException:
        if tunnel:
            tunnel.close()
        raise


async def _open(
    host: str,
    port: int | None,
    username: str | None,
    tunnel: asyncssh.SSHClientConnection | None,
    **login: Any,
) -> asyncssh.SSHClientConnection:
    client = _Client(host, port or _configured(host, username).port)
    with _explained(client):
        connection = await asyncssh.connect(
            host,
            port or (),
            username=username or (),
            tunnel=tunnel,
            client_factory=lambda: client,
            known_hosts=([], [], []),  # the client judges
            server_host_key_algs=client.host_key_algorithms(),
            compression_algs=COMPRESSION,
            keepalive_interval=KEEPALIVE_SECONDS,
            x11_forwarding=False,
            agent_forwarding=False,
            **login,
        )
        connection.set_tunnel(tunnel)  # which ends with it
        return connection


def _configured(host: str, username: str | None) -> asyncssh.SSHClientConnectionOptions:
    """Return what ``~/.ssh/config`` says of a host."""
    try:
        return asyncssh.SSHClientConnectionOptions(
            config=(), host=host, username=username or (), client_keys=None, known_hosts=None
        )
    except (asyncssh.ConfigParseError, OSError, ValueError) as error:
        raise Unreachable(f"~/.ssh/config cannot be used: {error}") from error


def _parse_jumps(jumps: str) -> Iterator[tuple[str, int | None, str | None]]:
    for jump in filter(None, jumps.split(",")):
        match = _JUMP.fullmatch(jump.removeprefix("ssh://"))
        if match is None:
            raise Unreachable(f"~/.ssh/config names a jump host that cannot be read: {jump}")
        yield match["v6"] or match["host"], int(match["port"] or 0) or None, match["user"]


def _load_keys(credentials: Credentials) -> dict[str, Any]:
    keys = []
    try:
        if credentials.private_key:
            keys.append(
                asyncssh.import_private_key(credentials.private_key, credentials.passphrase)
            )
        if credentials.private_key_path:
            path = Path(credentials.private_key_path).expanduser()
            keys.append(asyncssh.read_private_key(path, credentials.passphrase))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, OSError, ValueError) as error:
        raise BadKey from error
    if credentials.use_agent:
        # Empty means the agent and the default key files; else the agent is asked beside the keys.
        return {"client_keys": keys or (), "passphrase": credentials.passphrase}
    return {"client_keys": keys or None, "agent_path": None}


class _Client(asyncssh.SSHClient):
    """Judges the key of one host, and remembers which it refused."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.known = known_hosts.keys_of(host, port)
        self.refused: HostKeyUnconfirmed | None = None

    def connection_made(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    def connection_lost(self, error: Exception | None) -> None:
        if error:
            self._connection.set_extra_info(lost=str(error))

    def host_key_algorithms(self) -> list[str]:
        """Put those of known keys first: a host with several would else seem to have changed."""
        known = {key.get_algorithm() for key in self.known}
        return sorted(HOST_KEY_ALGORITHMS, key=lambda name: _key_type(name) not in known)

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        if key in self.known:
            return True
        found = {
            **known_hosts.describe(self.host, self.port, key),
            "reason": "changed" if self.known else "unknown",
        }
        if self.known:
            same_type = [k for k in self.known if k.get_algorithm() == key.get_algorithm()]
            expected = (same_type or self.known)[0]
            found["expected_fingerprint_sha256"] = expected.get_fingerprint()
            found["expected_public_key"] = known_hosts.public_text(expected)
        self.refused = HostKeyUnconfirmed(found)
        return False


def _key_type(algorithm: str) -> str:
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


@contextmanager
def _explained(client: _Client) -> Iterator[None]:
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise client.refused or RemoteError(error.reason) from error
    except asyncssh.PermissionDenied as error:
        raise AuthenticationFailed(error.reason) from error
    except TimeoutError as error:
        raise TimedOut("Connection timed out") from error
    except socket.gaierror as error:
        raise Unreachable(str(error)) from error
    except OSError as error:
        # In the words of v0.4, which clients look for.
        text = f"[Errno None] Unable to connect to port {client.port} on {client.host}"
        raise Unreachable(text) from error
    except asyncssh.Error as error:
        raise RemoteError(error.reason) from error
