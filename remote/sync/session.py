"""Bring the runs of a host into our storage root, and keep them up to date.

*Mirror* mode copies everything and follows runs while they grow. *Smart* mode copies the documents
of every run; its curves, logs and media come when somebody looks at it, and go again when they take
too much room (``cache``). The indexer watches the storage root, so a copied byte is indexed like
one that was written here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh

from runicorn import layout
from runicorn.artifacts.folders import ARTIFACTS, Location

from ..exceptions import AuthenticationFailed, HostKeyUnconfirmed, RemoteError
from ..ssh.browse import absolute
from ..ssh.connections import Connection, pool
from . import cache, find_listing, listing
from .artifacts import ArtifactSync
from .ledger import Claims
from .manifest import FOREIGN, ManifestSync
from .progress import Progress
from .run_copier import Copier
from .source import Source

MIRROR, SMART = "mirror", "smart"

SHORTEST_INTERVAL = 0.5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Between attempts after the connection was cut: twice as long each time, up to this."""

WALK_SHARE = 10
"""Looking for new runs takes at most one part in this many of the time."""

LISTING_SECONDS = 600
"""Where a manifest tells what is new, a mirror still looks for what manifests leave out."""

ALIVE_SECONDS = 3600
"""Runs written to this lately, by the host's own clock, are looked at in between."""

OPEN_SECONDS = 60
FRESH_SECONDS = 2
"""In smart mode, a run that somebody looks at is kept up to date this long and this closely."""


def source_of(connection: Connection, root: str) -> str:
    """Return the name of where runs come from; *root* as the host calls it."""
    return f"{connection.id} {root}"


@dataclass(eq=False)
class Sync:
    """A host's root that is being synced; all of it runs on the event loop of ``loop``."""

    id: str
    mode: str
    session_id: str
    connection: Connection
    remote_root: str
    """As it was asked for."""
    root: str
    """As the host calls it."""
    local_root: Path
    interval: float
    """Seconds."""
    auto_sync: bool = True
    cache_bytes: int = cache.DEFAULT_BYTES
    started_at: float = field(default_factory=time.time)
    scans: int = 0
    last_error: str | None = None
    last_sync_at: float | None = None
    next_sync_at: float | None = None
    gone_runs: int = 0
    """Runs that are here and not there any more."""
    is_selected: bool = False
    """Of 0.4's remote storage: clients are told that the server is in remote mode."""

    def __post_init__(self) -> None:
        self.interval = max(SHORTEST_INTERVAL, self.interval)
        spelled = f"{self.connection.id} {self.remote_root}"
        self.claims = Claims(self.local_root, source_of(self.connection, self.root), spelled)
        self.progress = Progress()
        self._copier = Copier(self.claims, self.progress, self._report, whole=self.mode == MIRROR)
        name = hashlib.sha256(self.claims.source.encode()).hexdigest()[:16]
        cursor = self.local_root / layout.SERVER_DIR / "sync" / f"{name}-{self.mode}.json"
        self._manifest = ManifestSync(self.remote_root, self._copier, self._report, cursor)
        self._opened: dict[str, float] = {}
        self._brought: dict[str, asyncio.Task[None]] = {}
        self._run_folders = self._artifact_folders = 0
        self._next_walk = 0.0
        self._is_due = True
        """Asked to look at everything."""
        self._has_manifest = False
        self._next_artifacts = 0.0
        self._took = 0.0
        self._source: Source | None = None
        self._asked = asyncio.Event()
        self._task = asyncio.create_task(self._follow(), name=self.id)

    @property
    def is_alive(self) -> bool:
        return not self._task.done()

    @property
    def copied_files(self) -> int:
        return self._copier.copied_files

    @property
    def appended_bytes(self) -> int:
        return self._copier.appended_bytes

    @property
    def cached_experiments(self) -> int:
        return len(self.claims.runs())

    @property
    def cached_artifacts(self) -> int:
        return len(self.claims.artifacts())

    async def stop(self) -> None:
        running = {self._task, *self._brought.values()}
        while running:
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=1)

    def sync_now(self) -> None:
        """Look at everything at once, whatever the interval."""
        self._is_due = True
        self._asked.set()

    def _report(self, error: str) -> None:
        self.last_error = error

    # -- the connection ------------------------------------------------------------------------

    async def _follow(self) -> None:
        pause = FIRST_PAUSE
        while True:
            before = self.scans, self.copied_files, self.appended_bytes
            try:
                await pool.reopen(self.connection)
                async with self.connection.sftp() as sftp:
                    root = (await absolute(sftp, self.remote_root)).rstrip(b"/")
                    self._source = Source(self.connection, sftp, root)
                    while True:
                        began = time.monotonic()
                        await self._look(self._source)
                        self.scans += 1
                        self._took = time.monotonic() - began
                        await self._rest()
            except (AuthenticationFailed, HostKeyUnconfirmed) as error:
                self.last_error = str(error)
                return  # trying again helps nobody, and may lock the account
            except (RemoteError, asyncssh.Error, OSError) as error:
                self.last_error = str(error) or type(error).__name__
            finally:
                self._source = None
                self._manifest.close()
                self.progress.end()
            got_on = (self.scans, self.copied_files, self.appended_bytes) != before
            pause = FIRST_PAUSE if got_on else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _rest(self) -> None:
        if self.mode == MIRROR:
            # What is written just after a look has come by the end of the next.
            seconds = max(self.interval - 2 * self._took, min(self._took / 2, SHORTEST_INTERVAL))
        elif self._opened_lately():
            seconds = FRESH_SECONDS
        else:
            seconds = max(0.1, self._next_walk - time.monotonic()) if self.auto_sync else 3600
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # ``wait_for`` may swallow being cancelled
                await self._asked.wait()
        self._asked.clear()

    # -- looking -------------------------------------------------------------------------------

    async def _look(self, source: Source) -> None:
        """Bring everything up to date, or in between only the runs that are written to."""
        began = time.monotonic()
        if self._is_due or began >= self._next_walk:
            self._is_due = False
            await self._look_at_all(source)
            ended = time.monotonic()
            pause = self._pause_after(ended - began)
            self._next_walk = ended + pause
            self.next_sync_at = time.time() + pause if self.auto_sync else None
        elif self.mode == SMART:
            await self._copier.copy(self._ask(source), self._opened_lately(), whole=True)
        else:
            if self._has_manifest and not await self._manifest.sync(source):
                self._is_due = True
            newest = self._copier.newest
            since = max(newest.values(), default=0) - ALIVE_SECONDS
            alive = [run for run, written in newest.items() if written >= since]
            there = self._ask(source)
            if len(alive) >= find_listing.MANY:
                there.tree = await find_listing.look(source, listing.DEPTH, alive)
            await self._copier.copy(there, alive)

    def _pause_after(self, took: float) -> float:
        if self.mode == SMART:
            return self.interval if self.auto_sync else float("inf")
        return LISTING_SECONDS if self._has_manifest else WALK_SHARE * took - self.interval

    async def _look_at_all(self, source: Source) -> None:
        self.last_error = None  # what is still wrong is found again
        self.progress.begin()
        self._has_manifest = await self._manifest.sync(source)
        if self.mode == MIRROR or not self._has_manifest:
            await self._sync_by_listing(source)
        if not self._has_manifest or time.monotonic() >= self._next_artifacts:
            await self._sync_artifacts(source)
            self._next_artifacts = time.monotonic() + LISTING_SECONDS
        if self.mode == SMART:
            await asyncio.to_thread(self.clean_up)
        self.progress.end()
        self.last_sync_at = time.time()

    def _ask(self, source: Source) -> listing.Listing:
        """Return a listing by folders: asking for a few costs a host less than a shell does."""
        return listing.Listing(source, self._report)

    def _artifacts(self, there: listing.Listing) -> ArtifactSync:
        fetch = partial(self._copier.fetch, there.source)
        return ArtifactSync(there, self.claims, self._report, fetch, self.mode == MIRROR)

    async def _sync_artifacts(self, source: Source) -> None:
        there = self._ask(source)
        if self.scans == 0 or self._artifact_folders >= find_listing.MANY:
            there.tree = await find_listing.look(source, find_listing.ARTIFACT_DEPTH, [ARTIFACTS])
        artifacts = self._artifacts(there)
        await artifacts.sync()
        self._artifact_folders = artifacts.looked_at

    async def _sync_by_listing(self, source: Source) -> None:
        there = self._ask(source)
        if self.scans == 0 or self._run_folders >= find_listing.MANY:
            depth = listing.DEPTH if self.mode == MIRROR else 1
            there.tree = await find_listing.look(source, find_listing.RUN_DEPTH + depth)
        found = await there.find_runs()
        self._run_folders = len(found)
        purged = self.claims.purged(found)
        times = await there.source.stat([f"{run}/{layout.META}" for run in purged])
        meta = {run: mark[1] for run, mark in zip(purged, times, strict=True) if mark}
        runs, foreign = self.claims.accept(found, meta)
        if foreign:
            self._report(FOREIGN)
        self.gone_runs = len(set(self.claims.runs()) - set(found))
        newest = self._copier.newest
        self._copier.newest = {run: newest.get(run, 0) for run in runs}
        await self._copier.copy(there, runs)

    # -- on demand -----------------------------------------------------------------------------

    def _opened_lately(self) -> list[str]:
        now = time.monotonic()
        self._opened = {run: at for run, at in self._opened.items() if now - at < OPEN_SECONDS}
        return list(self._opened)

    async def bring(self, run: str) -> None:
        """Fetch all files of *run* as they are now, if there is a connection."""
        source, task = self._source, self._brought.get(run)
        if source is None or not self.claims.owns(run):
            return
        is_new = run not in self._opened
        self._opened[run] = time.monotonic()
        if task is None and is_new:
            task = asyncio.create_task(self._bring(source, run))
            self._brought[run] = task
            task.add_done_callback(lambda _: self._brought.pop(run, None))
        if task:
            await asyncio.shield(task)
        self._asked.set()  # from now on it is followed

    async def _bring(self, source: Source, run: str) -> None:
        try:
            await self._copier.copy(self._ask(source), [run], whole=True)
            self.claims.opened(run)
            await asyncio.to_thread(self.clean_up)
        except (asyncssh.Error, OSError) as error:
            self._report(str(error) or type(error).__name__)
            self._opened.pop(run, None)

    async def clear(self) -> None:
        """Remove all that came from there; the next sync brings it again."""
        await asyncio.to_thread(cache.clear, self.claims)
        self._manifest.forget()
        self._opened.clear()
        self.sync_now()

    async def complete(self, directory: str, number: int) -> None:
        """Fetch the contents of an artifact's version, of which the documents are here."""
        key = f"{directory}/v{number}"
        if self._source is None:
            return
        if key not in self._brought:
            self._brought[key] = asyncio.create_task(
                self._complete(self._source, directory, number)
            )
            self._brought[key].add_done_callback(lambda _: self._brought.pop(key, None))
        await asyncio.shield(self._brought[key])

    async def _complete(self, source: Source, directory: str, number: int) -> None:
        _, kind, name = directory.split("/")
        artifacts = self._artifacts(self._ask(source))
        try:
            await artifacts.complete(Location(kind, name, self.local_root / directory), number)
        except (asyncssh.Error, OSError, ValueError) as error:
            self._report(f"{directory}: {error}")

    def clean_up(self) -> int:
        """Bring the cache within its limit, and return how many files were removed."""
        return cache.clean_up(self.claims, self.cache_bytes, keep=set(self._opened))

    def describe_cache(self) -> dict[str, Any]:
        return cache.describe(self.claims, self.cache_bytes)

    def statistics(self) -> dict[str, Any]:
        return {
            "copied_files": self.copied_files,
            "appended_bytes": self.appended_bytes,
            "known_files": self.progress.known_files,
            "avg_dirs_per_cycle": self._run_folders,
            "gone_runs": self.gone_runs,
            "by_manifest": self._has_manifest,
        }
