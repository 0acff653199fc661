"""Mirror mode: the runs of a host, copied into our storage root while they grow.

The intake watches the storage root, so a copied byte is taken in like one that was written here.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from runicorn import layout

from .browse import absolute
from .connections import Connection, pool
from .copying import LOST, Copier, find_runs
from .exceptions import AuthenticationFailed, HostKeyUnconfirmed, RemoteError

SHORTEST_INTERVAL = 0.5
AT_ONCE = 8
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Between attempts after the connection was cut: twice as long each time, up to this."""

WALK_SHARE = 10
"""Looking for new runs takes at most one part in this many of the time."""

ALIVE_SECONDS = 3600
"""Runs written to this lately, by the host's own clock, are looked at in between."""

CLAIMS = "mirrors.json"
"""In the server's folder: which run folder was mirrored from where."""


@dataclass
class Mirror:
    """One host's root being mirrored; everything here runs on the event loop of ``loop``."""

    id: str
    session_id: str
    connection: Connection
    remote_root: str
    local_root: Path
    interval: float
    started_at: float = field(default_factory=time.time)
    scans: int = 0
    last_error: str | None = None
    _newest: dict[str, int] = field(default_factory=dict)
    _next_walk: float = 0.0

    def __post_init__(self) -> None:
        self.copier = Copier(self.local_root, self._report)
        self.interval = max(SHORTEST_INTERVAL, self.interval)
        self._task = asyncio.create_task(self._follow(), name=self.id)

    @property
    def is_alive(self) -> bool:
        return not self._task.done()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _progress(self) -> tuple[int, ...]:
        return self.scans, self.copier.counts.copied_files, self.copier.counts.appended_bytes

    def _report(self, error: str) -> None:
        self.last_error = error

    async def _follow(self) -> None:
        pause = FIRST_PAUSE
        while True:
            before = self._progress()
            try:
                await pool.reopen(self.connection)
                async with self.connection.sftp() as sftp:
                    root = (await absolute(sftp, self.remote_root)).rstrip(b"/")
                    while True:
                        await self._look(sftp, root)
                        self.scans += 1
                        await asyncio.sleep(self.interval)
            except (AuthenticationFailed, HostKeyUnconfirmed) as error:
                self.last_error = str(error)
                return  # trying again helps nobody, and may lock the account
            except (RemoteError, asyncssh.Error, OSError) as error:
                self.last_error = str(error) or type(error).__name__
            got_on = self._progress() != before
            pause = FIRST_PAUSE if got_on else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _look(self, sftp: asyncssh.SFTPClient, root: bytes) -> None:
        """Bring every run up to date, or in between only those that are written to."""
        began = time.monotonic()
        if began >= self._next_walk:
            self.last_error = None  # what is still wrong is found again
            runs = self._claimed(await find_runs(sftp, root))
            self._newest = {run: self._newest.get(run, 0) for run in runs}
            await self._copy_all(sftp, root, runs)
            took = time.monotonic() - began
            self._next_walk = time.monotonic() + WALK_SHARE * took - self.interval
        else:
            since = max(self._newest.values(), default=0) - ALIVE_SECONDS
            alive = [run for run, newest in self._newest.items() if newest >= since]
            await self._copy_all(sftp, root, alive)

    async def _copy_all(self, sftp: asyncssh.SFTPClient, root: bytes, runs: list[str]) -> None:
        waiting = iter(runs)

        async def work() -> None:
            for run in waiting:
                try:
                    source = root + b"/" + run.encode()
                    self._newest[run] = await self.copier.copy(sftp, source, run)
                except LOST:
                    raise
                except (asyncssh.SFTPError, OSError) as error:  # this run's own trouble
                    self._report(f"{run}: {error}")

        outcomes = await asyncio.gather(*(work() for _ in range(AT_ONCE)), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _claimed(self, runs: list[str]) -> list[str]:
        """Those of *runs* that are not here yet, or came from there: no host may name a run of
        ours, or of another host, and write to it."""
        path = self.local_root / layout.SERVER_DIR / CLAIMS
        source = f"{self.connection.id} {self.remote_root}"
        claims = layout.read_json(path)
        new = [r for r in runs if r not in claims and not (self.local_root / r).exists()]
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            claims = layout.update_json(path, dict.fromkeys(new, source))
        ours = [run for run in runs if claims.get(run) == source]
        if len(ours) < len(runs):
            self.last_error = "Some runs are here already and did not come from there"
        return ours

    def describe(self) -> dict[str, Any]:
        counts = self.copier.counts
        return {
            "id": self.id,
            "session_id": self.session_id,
            "host": self.connection.address.host,
            "remote_root": self.remote_root,
            "local_root": str(self.local_root),
            "interval": self.interval,
            "alive": self.is_alive,
            "stats": {
                "copied_files": counts.copied_files,
                "appended_bytes": counts.appended_bytes,
                "scans": self.scans,
                "started_at": self.started_at,
                "last_error": self.last_error,
                "known_runs": len(self._newest),
            },
        }


# -- which there are -----------------------------------------------------------------------------

_mirrors: dict[str, Mirror] = {}


def mirrors(session_id: str | None = None) -> list[Mirror]:
    return [m for m in _mirrors.values() if session_id in (None, m.session_id)]


async def start(
    session_id: str, connection: Connection, remote_root: str, local_root: Path, interval: float
) -> Mirror:
    """Mirror *remote_root*, instead of what this session mirrored before."""
    for earlier in mirrors(session_id):
        await stop(earlier.id)
    identifier = f"mirror:{session_id}:{time.time_ns() // 10**6}"
    mirror = Mirror(identifier, session_id, connection, remote_root, local_root, interval)
    connection.holders.add(identifier)
    _mirrors[identifier] = mirror
    return mirror


async def stop(identifier: str) -> bool:
    """Stop a mirror; whether there was one. What it copied stays."""
    mirror = _mirrors.pop(identifier, None)
    if mirror is None:
        return False
    await mirror.stop()
    await pool.release(identifier, mirror.connection)
    return True


async def stop_on(connection_id: str) -> None:
    """Stop whatever is mirrored over this connection."""
    for mirror in mirrors():
        if mirror.connection.id == connection_id:
            await stop(mirror.id)


async def stop_all(session_id: str) -> None:
    for mirror in mirrors(session_id):
        await stop(mirror.id)
