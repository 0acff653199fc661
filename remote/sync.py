"""Bring the runs of a host into our storage root, and keep them up to date.

*Mirror* mode copies everything and follows runs while they grow. *Smart* mode copies the documents
of every run; its curves, logs and media come when somebody looks at it, and go again when they take
too much room (``cache``). The intake watches the storage root, so a copied byte is taken in like
one that was written here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh

from runicorn import layout
from runicorn.artifacts.folders import Location
from runicorn.manifest import ExperimentEntry, FileEntry
from runicorn.remote_storage import Download, ManifestSyncClient

from . import cache, listing, loop
from .artifact_sync import ArtifactSync
from .browse import absolute
from .claims import Claims
from .connections import Connection, pool
from .exceptions import AuthenticationFailed, HostKeyUnconfirmed, RemoteError
from .fetching import LOST, Bridge, Done, Source, gather
from .progress import Progress

if TYPE_CHECKING:
    from artifacts.models import Version

MIRROR, SMART = "mirror", "smart"

SHORTEST_INTERVAL = 0.5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Between attempts after the connection was cut: twice as long each time, up to this."""

WALK_SHARE = 10
"""Looking for new runs takes at most one part in this many of the time."""

LISTING_SECONDS = 600
"""Where a manifest tells what is new, a mirror still looks for what manifests leave out."""

MANIFEST_PATIENCE = 1800
"""A manifest that nobody has written or confirmed for so long says nothing any more."""

ALIVE_SECONDS = 3600
"""Runs written to this lately, by the host's own clock, are looked at in between."""

OPEN_SECONDS = 60
FRESH_SECONDS = 2
"""In smart mode, a run that somebody looks at is kept up to date this long and this closely."""

WAIT_SECONDS = 10
"""How long a reader waits for a run's files; then he is answered with what is there."""

WAIT_FOR_FILES_SECONDS = 60
"""The same for the files of an artifact; the download goes on."""

SETTLED_SECONDS = 2
RECENT_SECONDS = 3600
"""SFTP tells times in whole seconds: a document that is this new is fetched once more a little
later, because it may have changed again within its second."""

BATCH_RUNS = 500


@dataclass(eq=False)
class Sync:
    """One host's root being synced; everything here runs on the event loop of ``loop``."""

    id: str
    mode: str
    session_id: str
    connection: Connection
    remote_root: str
    local_root: Path
    interval: float
    """Seconds."""
    auto_sync: bool = True
    cache_bytes: int = cache.DEFAULT_BYTES
    started_at: float = field(default_factory=time.time)
    scans: int = 0
    copied_files: int = 0
    appended_bytes: int = 0
    last_error: str | None = None
    last_sync_at: float | None = None
    next_sync_at: float | None = None
    gone_runs: int = 0
    """Runs that are here and not there any more."""

    def __post_init__(self) -> None:
        self.interval = max(SHORTEST_INTERVAL, self.interval)
        self.claims = Claims(self.local_root, f"{self.connection.id} {self.remote_root}")
        self.progress = Progress()
        name = hashlib.sha256(self.claims.source.encode()).hexdigest()[:16]
        self._cursor = self.local_root / layout.SERVER_DIR / "sync" / f"{name}-{self.mode}.json"
        self._newest: dict[str, int] = {}
        self._fetched: dict[Path, tuple[int, float]] = {}
        self._opened: dict[str, float] = {}
        self._brought: dict[str, asyncio.Task[None]] = {}
        self._folders_looked_at = 0
        self._next_walk = 0.0
        self._is_due = True
        """Asked to look at everything."""
        self._has_manifest = False
        self._next_artifacts = 0.0
        self._manifest_seen = (0.0, 0.0)
        self._client: ManifestSyncClient | None = None
        self._bridge: Bridge | None = None
        self._source: Source | None = None
        self._asked = asyncio.Event()
        self._task = asyncio.create_task(self._follow(), name=self.id)

    @property
    def is_alive(self) -> bool:
        return not self._task.done()

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
                        await self._look(self._source)
                        self.scans += 1
                        await self._rest()
            except (AuthenticationFailed, HostKeyUnconfirmed) as error:
                self.last_error = str(error)
                return  # trying again helps nobody, and may lock the account
            except (RemoteError, asyncssh.Error, OSError) as error:
                self.last_error = str(error) or type(error).__name__
            finally:
                self._source = self._client = None
                if self._bridge:
                    self._bridge.cancel()
                self.progress.end()
            got_on = (self.scans, self.copied_files, self.appended_bytes) != before
            pause = FIRST_PAUSE if got_on else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _rest(self) -> None:
        if self.mode == MIRROR:
            seconds = self.interval
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
            await self._copy(source, self._opened_lately(), whole=True)
        else:
            if self._has_manifest and not await self._sync_by_manifest(source):
                self._is_due = True
            since = max(self._newest.values(), default=0) - ALIVE_SECONDS
            alive = [run for run, newest in self._newest.items() if newest >= since]
            await self._copy(source, alive)

    def _pause_after(self, took: float) -> float:
        if self.mode == SMART:
            return self.interval if self.auto_sync else float("inf")
        return LISTING_SECONDS if self._has_manifest else WALK_SHARE * took - self.interval

    async def _look_at_all(self, source: Source) -> None:
        self.last_error = None  # what is still wrong is found again
        self.progress.begin()
        self._has_manifest = await self._sync_by_manifest(source)
        if self.mode == MIRROR or not self._has_manifest:
            await self._sync_by_listing(source)
        if not self._has_manifest or time.monotonic() >= self._next_artifacts:
            await self._artifacts(source).sync()
            self._next_artifacts = time.monotonic() + LISTING_SECONDS
        if self.mode == SMART:
            await asyncio.to_thread(self.clean_up)
        self.progress.end()
        self.last_sync_at = time.time()

    def _artifacts(self, source: Source) -> ArtifactSync:
        return ArtifactSync(source, self.claims, self._report, self._fetch, self.mode == MIRROR)

    async def _sync_by_listing(self, source: Source) -> None:
        found = await listing.find_runs(source, self._report)
        self._folders_looked_at = len(found)
        purged = self.claims.purged(found)
        times = await source.stat([f"{run}/{layout.META}" for run in purged])
        meta = {run: mark[1] for run, mark in zip(purged, times, strict=True) if mark}
        runs, foreign = self.claims.accept(found, meta)
        self._tell_foreign(foreign)
        self.gone_runs = len(set(self.claims.runs()) - set(found))
        self._newest = {run: self._newest.get(run, 0) for run in runs}
        await self._copy(source, runs)

    def _tell_foreign(self, count: int) -> None:
        if count:
            self._report("Some runs are here already and did not come from there")

    # -- by manifest ---------------------------------------------------------------------------

    async def _sync_by_manifest(self, source: Source) -> bool:
        """Whether a manifest told what is new. One that nobody keeps up to date does not."""
        if self._client is None:
            self._bridge = Bridge(source, self._fetch)
            self._client = ManifestSyncClient(
                self._bridge,
                self.remote_root,
                self.local_root,
                jitter_max=0,
                accepts=self._accept,
                wants=self._wants,
                cursor_path=self._cursor,
            )
            self._client.MAX_RETRIES = 1  # the next look is soon
        client = self._client
        self._accepted: dict[str, ExperimentEntry] = {}
        try:
            result = await asyncio.to_thread(client.sync)
        except LOST:
            raise
        except (OSError, RuntimeError):  # none that is valid
            return False
        if result.get("failed_count"):
            self._report(f"{result['failed_count']} files could not be read; they are tried again")
        restored = [
            run
            for run, entry in self._accepted.items()
            if self.claims.has_taken_deleted(run) and not _meta(entry, layout.DELETED)
        ]
        for run, mark in zip(
            restored,
            await source.stat([f"{run}/{layout.DELETED}" for run in restored]),
            strict=True,
        ):
            if mark is None:
                self.claims.deleted_is_gone(run)
        for run, entry in self._accepted.items():
            self.claims.copied(run, _meta(entry, layout.META))
            if deleted := _meta(entry, layout.DELETED):
                self.claims.set(run, deleted=int(deleted))
        self.claims.save()
        return self._is_confirmed(client)

    def _is_confirmed(self, client: ManifestSyncClient) -> bool:
        """Whether somebody keeps the manifest up to date: its generator notes each time it ran."""
        if self._manifest_seen[0] != client.confirmed_at:
            is_recent = abs(time.time() - client.confirmed_at) < MANIFEST_PATIENCE
            is_first = not self._manifest_seen[0]
            since = time.monotonic() if is_recent or not is_first else -MANIFEST_PATIENCE
            self._manifest_seen = (client.confirmed_at, since)
        return time.monotonic() - self._manifest_seen[1] < MANIFEST_PATIENCE

    def _accept(self, entries: Sequence[ExperimentEntry]) -> Iterable[ExperimentEntry]:
        runs = {f"{e.project}/{e.name}/{layout.RUNS}/{e.run_id}": e for e in entries}
        meta = {run: _meta(entry, layout.META) for run, entry in runs.items()}
        accepted, foreign = self.claims.accept(runs, meta)
        self._tell_foreign(foreign)
        for run in accepted:
            (self.local_root / run).mkdir(parents=True, exist_ok=True)
            self._accepted[run] = runs[run]
            self._drop_old(run, meta[run], {file.path.split("/", 4)[4] for file in runs[run].files})
            newest = max((int(file.mtime) for file in runs[run].files), default=0)
            self._newest[run] = max(newest, self._newest.get(run, 0))
        return self._accepted.values()

    def _wants(self, file: FileEntry, target: Path) -> bool:
        if target.name == layout.DELETED:
            run = target.parent.relative_to(self.local_root).as_posix()
            return self.claims.takes_deleted(run, file.mtime)
        return self._is_wanted(target)

    def _is_wanted(self, target: Path) -> bool:
        """Smart mode takes documents, and goes on with what it has brought before."""
        return self.mode == MIRROR or target.name in layout.DOCUMENTS or target.exists()

    # -- by listing ----------------------------------------------------------------------------

    async def _copy(self, source: Source, runs: Sequence[str], *, whole: bool = False) -> None:
        """Bring *runs* up to date; in smart mode *whole*, or only what is wanted."""
        whole = whole or self.mode == MIRROR
        for start in range(0, len(runs), BATCH_RUNS):
            batch = runs[start : start + BATCH_RUNS]
            plans: dict[str, list[Download]] = {}
            waiting = iter(batch)

            async def work() -> None:
                for run in waiting:  # noqa: B023
                    try:
                        plans[run] = await self._plan(source, run, whole)  # noqa: B023
                    except LOST:
                        raise
                    except (asyncssh.SFTPError, OSError) as error:  # this run's own trouble
                        self._report(f"{run}: {error}")

            await gather(work() for _ in range(min(listing.AT_ONCE, len(batch))))
            await self._fetch([one for plan in plans.values() for one in plan])
            for run, plan in plans.items():
                meta = [one.mtime for one in plan if one.target.name == layout.META]
                self.claims.copied(run, meta[0] if meta else None)
                for one in plan:
                    if one.target.name == layout.DELETED:
                        self.claims.set(run, deleted=int(one.mtime))
        self.claims.save()

    async def _plan(self, source: Source, run: str, whole: bool) -> list[Download]:
        """What of the run has to be fetched."""
        folder = self.local_root / run
        if folder.is_symlink() or self.claims.purged([run]):
            return []
        found = await listing.list_run(source, run, self._report, listing.DEPTH if whole else 1)
        self._newest[run] = max((one.mtime for one in found), default=0)
        names = {one.name: one for one in found}
        if layout.DELETED not in names:
            self.claims.deleted_is_gone(run)
        meta = names.get(layout.META)
        self._drop_old(run, meta.mtime if meta else None, names.keys())
        if self.claims.purged([run]):  # while it was listed
            return []
        folder.mkdir(parents=True, exist_ok=True)
        plan = []
        for name, one in names.items():
            target = folder / name
            if name == layout.DELETED:
                if not self.claims.takes_deleted(run, one.mtime):
                    continue
            elif any(part.startswith(".") for part in name.split("/")):
                continue
            if not (whole or self._is_wanted(target)) or _is_below_link(folder, name):
                continue
            download = Download(
                f"{run}/{name}", target, one.size, one.mtime, is_listed=True, home=folder
            )
            if download.is_needed() or self._may_have_changed(download):
                plan.append(download)
        return plan

    def _drop_old(self, run: str, meta: float | None, names: Collection[str]) -> None:
        """A run that was set up anew there under the same id has nothing of the one before."""
        if meta is not None and self.claims.was_written_anew(run, meta):
            for name in {*layout.DOCUMENTS, *layout.STREAMS}.difference(names, [layout.DELETED]):
                (self.local_root / run / name).unlink(missing_ok=True)

    def _may_have_changed(self, download: Download) -> bool:
        path, mtime = download.target, int(download.mtime)
        if download.is_stream or abs(time.time() - mtime) > RECENT_SECONDS:
            return False
        known, fetched = self._fetched.get(path, (0, 0.0))
        if known == mtime and (fetched == 0 or fetched > time.monotonic() - SETTLED_SECONDS):
            return False
        self._fetched[path] = (mtime, 0.0)
        return True

    async def _fetch(self, downloads: Sequence[Download], done: Done | None = None) -> None:
        assert self._source
        self.progress.expect(downloads)

        def came(download: Download, error: Exception | None) -> None:
            received = download.received
            self.progress.came(download)
            if download.is_stream and not download.sha256:
                self.appended_bytes += received
            elif error is None:
                self.copied_files += 1
                mtime = int(download.mtime)
                if not download.sha256 and self._fetched.get(download.target) != (mtime, 0.0):
                    self._fetched[download.target] = (mtime, time.monotonic())
            if error and not isinstance(error, FileNotFoundError) and not done:
                self._report(str(error))
            if done:
                done(download, error)

        await self._source.fetch(downloads, came)

    # -- on demand -----------------------------------------------------------------------------

    def _opened_lately(self) -> list[str]:
        now = time.monotonic()
        self._opened = {run: at for run, at in self._opened.items() if now - at < OPEN_SECONDS}
        return list(self._opened)

    async def bring(self, run: str) -> None:
        """All files of *run*, as they are now; without a connection those that are here."""
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
            await self._copy(source, [run], whole=True)
            self.claims.opened(run)
            await asyncio.to_thread(self.clean_up)
        except (asyncssh.Error, OSError) as error:
            self._report(str(error) or type(error).__name__)
            self._opened.pop(run, None)

    async def clear(self) -> None:
        """Remove all that came from there; it comes again with the next sync."""
        await asyncio.to_thread(cache.clear, self.claims)
        self._client = None
        self._cursor.unlink(missing_ok=True)
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
        artifacts = self._artifacts(source)
        try:
            await artifacts.complete(Location(kind, name, self.local_root / directory), number)
        except (asyncssh.Error, OSError, ValueError) as error:
            self._report(f"{directory}: {error}")

    def clean_up(self) -> int:
        """Bring the cache within its limit; how many files went."""
        return cache.clean_up(self.claims, self.cache_bytes, keep=set(self._opened))

    def describe_cache(self) -> dict[str, Any]:
        return cache.describe(self.claims, self.cache_bytes)

    # -- what to show --------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "session_id": self.session_id,
            "host": self.connection.address.host,
            "remote_root": self.remote_root,
            "local_root": str(self.local_root),
            "interval": self.interval,
            "alive": self.is_alive,
            "stats": {
                "copied_files": self.copied_files,
                "appended_bytes": self.appended_bytes,
                "scans": self.scans,
                "started_at": self.started_at,
                "last_error": self.last_error,
                "known_files": self.progress.known_files,
                "avg_dirs_per_cycle": self._folders_looked_at,
                "last_sync_at": self.last_sync_at,
                "next_sync_at": self.next_sync_at,
                "gone_runs": self.gone_runs,
                "by_manifest": self._has_manifest,
            },
            "progress": self.progress.describe(),
        }


def _meta(entry: ExperimentEntry, name: str) -> float | None:
    """When the run's own file of that name was written there."""
    return next(
        (f.mtime for f in entry.files if f.path.count("/") == 4 and f.path.endswith(f"/{name}")),
        None,
    )


def _is_below_link(folder: Path, name: str) -> bool:
    parts = name.split("/")[:-1]
    return any((folder / "/".join(parts[: n + 1])).is_symlink() for n in range(len(parts)))


# -- which there are -----------------------------------------------------------------------------

_syncs: dict[str, Sync] = {}


def syncs(session_id: str | None = None, mode: str | None = None) -> list[Sync]:
    return [
        one
        for one in _syncs.values()
        if session_id in (None, one.session_id) and mode in (None, one.mode)
    ]


async def start(
    mode: str,
    session_id: str,
    connection: Connection,
    remote_root: str,
    local_root: Path,
    interval: float,
    **options: Any,
) -> Sync:
    """Sync *remote_root* (``SMART`` or ``MIRROR``), instead of what this session synced before in
    the same mode."""
    for earlier in syncs(session_id, mode):
        await stop(earlier.id)
    identifier = f"{mode}:{session_id}:{time.time_ns() // 10**6}"
    one = Sync(
        identifier, mode, session_id, connection, remote_root, local_root, interval, **options
    )
    connection.holders.add(identifier)
    _syncs[identifier] = one
    return one


async def stop(identifier: str) -> bool:
    """Stop a sync; whether there was one. What it copied stays."""
    one = _syncs.pop(identifier, None)
    if one is None:
        return False
    await one.stop()
    await pool.release(identifier, one.connection)
    return True


async def stop_on(connection_id: str) -> None:
    """Stop whatever is synced over this connection."""
    for one in syncs():
        if one.connection.id == connection_id:
            await stop(one.id)


async def stop_all(session_id: str, mode: str | None = None) -> None:
    for one in syncs(session_id, mode):
        await stop(one.id)


def bring(directory: str) -> None:
    """Before the run in *directory* (relative to the storage root) is read: fetch its files if they
    are on a host. For a thread beside the event loop."""
    for one in syncs(mode=SMART):
        if one.claims.owns(directory):
            with suppress(TimeoutError):
                loop.run(_in_time(one.bring(directory)))


def bring_files(version: Version) -> None:
    """Before the files of an artifact's version are read: fetch them if they are on a host."""
    directory = version.artifact.directory
    for one in syncs(mode=SMART):
        if one.claims.owns(directory) and not version.files_folder.is_dir():
            with suppress(TimeoutError):
                loop.run(_in_time(one.complete(directory, version.number), WAIT_FOR_FILES_SECONDS))


async def _in_time(coroutine: Coroutine[Any, Any, None], seconds: float = WAIT_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        await coroutine
