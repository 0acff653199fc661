"""Viewers on other hosts: started over SSH, and reached through a port of this machine.

A viewer there lives as long as the channel that started it (``launcher``): whichever side
crashes, nothing is left behind, and no record is needed to find it again.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from ..exceptions import PathNotFound, RemoteError, TimedOut
from ..ssh import environments
from ..ssh.connections import Connection, pool

START_SECONDS = 90
HEARTBEAT_SECONDS = 15
"""Much less than ``launcher.SILENCE_SECONDS``."""

PORTS = range(8080, 9000)
HEALTH_SECONDS = 5
MOST_ENDED = 50

_LAUNCHER = Path(__file__).with_name("launcher.py")
_RUN = "import sys;exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())).decode())"


class ViewerFailed(RemoteError):
    """The viewer did not start; says what it said last."""

    status = 500


class PortTaken(RemoteError):
    status = 400


@dataclass
class Session:
    """One viewer on a host; everything here runs on the event loop of ``loop``."""

    id: str
    connection: Connection
    remote_root: str
    environment: environments.Environment
    status: str = "connecting"
    """Then ``running``, and ``stopped`` at last."""
    local_port: int = 0
    remote_port: int = 0
    remote_pid: int = 0
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    last_error: str | None = None
    _process: asyncssh.SSHClientProcess[str] | None = field(default=None, repr=False)
    _tunnel: asyncssh.SSHListener | None = field(default=None, repr=False)
    _following: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def is_active(self) -> bool:
        return self.status != "stopped"

    async def open(self, local_port: int | None, remote_port: int | None) -> None:
        """Start the viewer and the tunnel to it. Raises RemoteError, and leaves nothing then."""
        try:
            async with asyncio.timeout(START_SECONDS):
                answer = await self._start(remote_port)
                self.remote_port, self.remote_pid = int(answer["port"]), int(answer["pid"])
                self._tunnel = await self._listen(local_port)
        except TimeoutError as error:
            raise TimedOut("The viewer did not start in time") from error
        except (asyncssh.Error, OSError, KeyError, ValueError, TypeError) as error:
            raise ViewerFailed(str(error) or type(error).__name__) from error
        self.local_port = self._tunnel.get_port()
        self.status = "running"
        self._following = asyncio.create_task(self._follow(), name=f"viewer {self.id}")

    async def _start(self, port: int | None) -> dict[str, Any]:
        code = _LAUNCHER.read_text()
        command = f"exec '{self.environment.path}' -u -c '{_RUN}'"
        self._process = await self.connection.channel.create_process(command, errors="replace")
        asked = json.dumps({"root": self.remote_root, "port": port})
        self._process.stdin.write(f"{len(code.encode())}\n{code}{asked}\n")
        answer = await self._read()
        if answer.get("state") == "no folder":
            raise PathNotFound(f"There is no folder {self.remote_root} on the host")
        if answer.get("state") != "ready":
            raise ViewerFailed(str(answer.get("error", "")) or "The host ended the session")
        return answer

    async def _read(self) -> dict[str, Any]:
        """Return what the launcher says next; nothing if it, or the connection, is gone."""
        assert self._process
        while line := await self._process.stdout.readline():
            with suppress(ValueError, RecursionError):  # what a login script prints
                if isinstance(answer := json.loads(line), dict):
                    return answer
        words = await self._process.stderr.read(2000)
        return {"error": words.strip()} if words.strip() else {}

    async def _listen(self, wanted: int | None) -> asyncssh.SSHListener:
        for port in [wanted] if wanted else _local_ports():
            try:
                return await self.connection.channel.forward_local_port(
                    "127.0.0.1", port, "127.0.0.1", self.remote_port
                )
            except OSError as error:
                if wanted:
                    raise PortTaken(f"Local port {wanted} cannot be used: {error}") from error
        raise PortTaken("No available local port found")

    async def _follow(self) -> None:
        """Tell the launcher that we are there, until it says how the viewer ended."""
        assert self._process
        reading = asyncio.ensure_future(self._read())
        error = "The connection to the host was lost"
        try:
            while not (await asyncio.wait([reading], timeout=HEARTBEAT_SECONDS))[0]:
                self._process.stdin.write("\n")
            answer = reading.result()
            if self.connection.is_open:
                error = "The session on the host ended"
            if answer.get("state") == "ended" and answer.get("code") is None:
                error = "The viewer was stopped there: nothing was heard from here for too long"
            elif answer.get("state") == "ended":
                error = (
                    f"The viewer ended there ({answer['code']}). It said last:\n{answer.get('log')}"
                )
        except (asyncssh.Error, OSError):
            pass
        finally:
            reading.cancel()
        self._following = None
        await self.close(error)

    async def close(self, error: str | None = None) -> None:
        """End the viewer there and the tunnel here."""
        if not self.is_active:
            return
        self.status, self.last_error, self.ended_at = "stopped", error, time.time()
        if self._following:
            self._following.cancel()
        if self._tunnel:
            self._tunnel.close()
        if self._process:
            with suppress(asyncssh.Error, OSError, TimeoutError):
                self._process.stdin.write_eof()
                async with asyncio.timeout(HEALTH_SECONDS):
                    await self._process.wait_closed()
            self._process.close()
        await pool.release(self.id, self.connection)

    async def is_healthy(self) -> bool:
        """Return whether the viewer answers through the tunnel."""
        if self.status != "running":
            return False
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.local_port)
                try:
                    writer.write(b"GET /api/health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return False

    def details(self) -> dict[str, Any]:
        """Return what the API tells of it beside its state."""
        return {
            "host": "127.0.0.1",  # where the viewer listens there
            "remoteHost": self.connection.address.host,
            "sshPort": self.connection.address.port,
            "username": self.connection.address.username,
            "remotePort": self.remote_port,
            "remotePid": self.remote_pid,
            "condaEnv": self.environment.name,
            "runicornVersion": self.environment.runicorn_version,
            "isActive": self.status == "running" and self.connection.is_open,
        }


# -- which there are -----------------------------------------------------------------------------

_sessions: dict[str, Session] = {}


def sessions() -> list[Session]:
    """Return the viewers that run or start, and the last ones that ended, oldest first."""
    return list(_sessions.values())


def active() -> list[Session]:
    return [session for session in sessions() if session.is_active]


def get(identifier: str) -> Session | None:
    return _sessions.get(identifier)


async def start(
    connection: Connection,
    remote_root: str,
    *,
    environment: str | None = None,
    local_port: int | None = None,
    remote_port: int | None = None,
) -> Session:
    """Start a viewer of *remote_root*, and return it ready to be looked at. Raises RemoteError.

    *environment*: the name or path of one of ``environments.survey``; without it the first that
    has a viewer. Ports are chosen where none are asked for.
    """
    identifier = secrets.token_hex(4)
    connection.holders.add(identifier)
    session = None
    try:
        there = await environments.survey(connection)
        chosen = environments.find(there, environment)
        environments.check_viewer(chosen, there)
        session = Session(identifier, connection, remote_root, chosen)
        _remember(session)
        await session.open(local_port, remote_port)
    except BaseException as error:
        if session:
            await session.close(str(error))
        else:
            await pool.release(identifier, connection)
        raise
    return session


async def restart(session: Session) -> Session:
    """Start the same viewer instead of *session*, logging in again if the connection is gone."""
    await session.close()
    old = session.connection
    connection = await pool.connect(f"again:{session.id}", old.address, old.credentials)
    try:
        again = await start(connection, session.remote_root, environment=session.environment.path)
        _sessions.pop(session.id, None)
        return again
    finally:
        await pool.release(f"again:{session.id}", connection)


async def stop(identifier: str) -> bool:
    """Stop a viewer and forget it, and return whether there was one."""
    session = _sessions.pop(identifier, None)
    if session is None:
        return False
    await session.close()
    return True


async def stop_on(connection_id: str) -> None:
    """Stop the viewers that are reached over this connection."""
    for session in active():
        if session.connection.id == connection_id:
            await stop(session.id)


def _remember(session: Session) -> None:
    _sessions[session.id] = session
    ended = [one.id for one in sessions() if not one.is_active]
    for identifier in ended[:-MOST_ENDED]:
        del _sessions[identifier]


def _local_ports() -> Iterator[int]:
    """Yield the ports to try for a tunnel; at last whichever the system has."""
    start = secrets.randbelow(len(PORTS))
    yield from (PORTS[(start + number) % len(PORTS)] for number in range(20))
    yield 0
