"""Bring runs of a host up to date by listing their files: what differs is planned, and fetched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import asyncssh

from runicorn import layout
from runicorn.remote_storage import Download

from . import listing, transfer
from .archive_stream import Done
from .ledger import Claims
from .progress import Progress
from .source import LOST, Source, gather

SETTLED_SECONDS = 2
RECENT_SECONDS = 3600
"""SFTP tells times in whole seconds: a document that is this new is fetched once more a little
later, because it may have changed again within its second."""

BATCH_RUNS = 500


class Copier:
    """Copies the runs of one source; *whole* ones, or in smart mode what lists need."""

    def __init__(
        self, claims: Claims, progress: Progress, report: listing.Report, *, whole: bool
    ) -> None:
        self.claims, self.progress, self._report, self._whole = claims, progress, report, whole
        self.copied_files = 0
        self.appended_bytes = 0
        self.newest: dict[str, int] = {}
        """When the newest file of each run was written there."""
        self._fetched: dict[Path, tuple[int, float]] = {}

    def wants(self, target: Path) -> bool:
        """Return whether *target* is copied: in smart mode documents, and what is here already."""
        return self._whole or target.name in layout.DOCUMENTS or target.exists()

    async def copy(
        self, there: listing.Listing, runs: Sequence[str], *, whole: bool = False
    ) -> None:
        """Bring *runs* up to date; in smart mode *whole*, or only what is wanted."""
        whole = whole or self._whole
        for start in range(0, len(runs), BATCH_RUNS):
            batch = runs[start : start + BATCH_RUNS]
            plans: dict[str, list[Download]] = {}
            waiting = iter(batch)

            async def work() -> None:
                for run in waiting:  # noqa: B023
                    try:
                        plans[run] = await self._plan(there, run, whole)  # noqa: B023
                    except LOST:
                        raise
                    except (asyncssh.SFTPError, OSError) as error:  # this run's own trouble
                        self._report(f"{run}: {error}")
                    await asyncio.sleep(0)  # a plan without a question to the host never waits

            await gather(work() for _ in range(min(listing.AT_ONCE, len(batch))))
            await self.fetch(there.source, [one for plan in plans.values() for one in plan])
            for run, plan in plans.items():
                meta = [one.mtime for one in plan if one.target.name == layout.META]
                self.claims.copied(run, meta[0] if meta else None)
                for one in plan:
                    if one.target.name == layout.DELETED:
                        self.claims.set(run, deleted=int(one.mtime))
        self.claims.save()

    async def _plan(self, there: listing.Listing, run: str, whole: bool) -> list[Download]:
        """Return what has to be fetched of the run."""
        folder = self.claims.root / run
        if folder.is_symlink() or self.claims.purged([run]):
            return []
        found = await there.run(run, listing.DEPTH if whole else 1)
        found = [one for one in found if not layout.is_heartbeat(one.name)]
        self.newest[run] = max((one.mtime for one in found), default=0)
        names = {one.name: one for one in found}
        if layout.DELETED not in names:
            self.claims.deleted_is_gone(run)
        meta = names.get(layout.META)
        self.drop_old(run, meta.mtime if meta else None, names.keys())
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
            if not (whole or self.wants(target)) or _is_below_link(folder, name):
                continue
            download = Download(
                f"{run}/{name}", target, one.size, one.mtime, is_listed=True, home=folder
            )
            if download.is_needed() or self._may_have_changed(download):
                plan.append(download)
        return plan

    def drop_old(self, run: str, meta: float | None, names: Collection[str]) -> None:
        """Remove what a run of the same id left here that was set up anew there since."""
        if meta is not None and self.claims.was_written_anew(run, meta):
            for name in {*layout.DOCUMENTS, *layout.STREAMS}.difference(names, [layout.DELETED]):
                (self.claims.root / run / name).unlink(missing_ok=True)

    def _may_have_changed(self, download: Download) -> bool:
        path, mtime = download.target, int(download.mtime)
        if download.is_stream or abs(time.time() - mtime) > RECENT_SECONDS:
            return False
        known, fetched = self._fetched.get(path, (0, 0.0))
        if known == mtime and (fetched == 0 or fetched > time.monotonic() - SETTLED_SECONDS):
            return False
        self._fetched[path] = (mtime, 0.0)
        return True

    async def fetch(
        self, source: Source, downloads: Sequence[Download], done: Done | None = None
    ) -> None:
        """Complete each, and tell *done* or report what went wrong."""
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

        await transfer.fetch(source, downloads, came)


def _is_below_link(folder: Path, name: str) -> bool:
    parts = name.split("/")[:-1]
    return any((folder / "/".join(parts[: n + 1])).is_symlink() for n in range(len(parts)))
