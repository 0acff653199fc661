"""The open connections of the owner: one per ``user@host:port``, shared by all who hold it.

Everything here runs on the event loop of ``loop``, so nothing needs a lock. Credentials are kept
as long as the connection, to tell a second login with the same ones from a guess.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from ..exceptions import NotConnected
from . import transport

UNIFIED = "unified"
"""The holder that the unified API is; a legacy session holds by its id."""

VIEWER = "viewer"

MOST_CHANNELS = 5
"""At once on one connection; OpenSSH allows 10."""


@dataclass
class Connection:
    address: transport.Address
    credentials: transport.Credentials
    channel: asyncssh.SSHClientConnection = field(repr=False)
    connected_at: float = field(default_factory=time.time)
    holders: set[str] = field(default_factory=set)
    reconnect_count: int = 0
    _slots: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(MOST_CHANNELS), repr=False
    )

    @property
    def id(self) -> str:
        return str(self.address)

    @property
    def is_open(self) -> bool:
        return not self.channel.is_closed()

    @property
    def last_error(self) -> str | None:
        lost: str | None = self.channel.get_extra_info("lost")
        return lost

    @asynccontextmanager
    async def sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """Open a file channel, a new one for each use: nothing stale is ever found in it."""
        async with self._slots:
            try:
                client = await self.channel.start_sftp_client()
            except (asyncssh.Error, OSError) as error:
                raise NotConnected("SFTP client not available") from error
            async with client:
                yield client

    def renew(self, channel: asyncssh.SSHClientConnection, login: transport.Credentials) -> None:
        """Remember *login*, which was proven on *channel*. That takes over only if ours was cut:
        what runs over ours goes on."""
        self.credentials = login
        if self.is_open:
            channel.close()
        else:
            self.channel = channel
            self.reconnect_count += 1

    def describe(self) -> dict[str, Any]:
        return {
            "host": self.address.host,
            "port": self.address.port,
            "username": self.address.username,
            "connected": self.is_open,
        }


class Connections:
    def __init__(self) -> None:
        self._open: dict[str, Connection] = {}
        self._sessions: dict[str, Connection] = {}
        self.current: Connection | None = None

    def all(self) -> list[Connection]:
        return list(self._open.values())

    async def connect(
        self, holder: str, address: transport.Address, credentials: transport.Credentials
    ) -> Connection:
        """Return the connection to *address*, opened unless it is there. Raises RemoteError.

        Other credentials than those it was opened with are tried before it is handed out.
        """
        connection = self._open.get(str(address))
        if connection is None or not connection.is_open or connection.credentials != credentials:
            channel = await transport.connect(address, credentials)
            connection = self._open.get(str(address))  # another request may have been quicker
            if connection is None:
                connection = Connection(address, credentials, channel)
                self._open[connection.id] = connection
            else:
                connection.renew(channel, credentials)
        connection.holders.add(holder)
        if holder == UNIFIED:
            self.current = connection
        return connection

    async def reopen(self, connection: Connection) -> None:
        """Log in again if the connection was cut."""
        if not connection.is_open:
            login = connection.credentials
            connection.renew(await transport.connect(connection.address, login), login)

    async def release(self, holder: str, connection: Connection) -> None:
        """Let *holder* go, which needs it no longer; the last one closes it."""
        connection.holders.discard(holder)
        if holder == UNIFIED and connection is self.current:
            self.current = None
        if not connection.holders:
            self._open.pop(connection.id, None)
            connection.channel.close()

    async def close(self, host: str, port: int, username: str) -> bool:
        """Close a connection whoever holds it, and return whether there was one."""
        connection = self._open.get(str(transport.Address(host, port, username)))
        if connection is None:
            return False
        self._sessions = {k: c for k, c in self._sessions.items() if c is not connection}
        for holder in list(connection.holders):
            await self.release(holder, connection)
        return True

    def get(self, identifier: str) -> Connection | None:
        """Return the open connection of that ``user@host:port``."""
        connection = self._open.get(identifier)
        return connection if connection and connection.is_open else None

    # -- sessions of the legacy API ----------------------------------------------------------

    async def open_session(
        self, address: transport.Address, credentials: transport.Credentials
    ) -> str:
        identifier = f"{address}:{time.time_ns() // 10**6}"
        self._sessions[identifier] = await self.connect(identifier, address, credentials)
        return identifier

    async def close_session(self, identifier: str) -> bool:
        connection = self._sessions.pop(identifier, None)
        if connection is None:
            return False
        await self.release(identifier, connection)
        return True

    def session(self, identifier: str) -> Connection | None:
        return self._sessions.get(identifier)

    def sessions(self) -> dict[str, Connection]:
        return dict(self._sessions)


pool = Connections()
