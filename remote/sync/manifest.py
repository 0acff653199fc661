"""Bring the runs of a host up to date by the manifests that lie in its root."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from runicorn import layout
from runicorn.manifest import ExperimentEntry, FileEntry
from runicorn.remote_storage import ManifestSyncClient

from .listing import Report
from .run_copier import Copier
from .source import LOST, Source
from .transfer import Bridge

FOREIGN = "Some runs are here already and did not come from there"

PATIENCE = 1800
"""Seconds after which a manifest that is neither written nor confirmed no longer counts."""


class ManifestSync:
    """Syncs one root, over whatever file channel is open. *cursor* keeps how far it has come."""

    def __init__(self, remote_root: str, copier: Copier, report: Report, cursor: Path) -> None:
        self._remote_root, self._copier, self._report = remote_root, copier, report
        self._claims = copier.claims
        self._cursor = cursor
        self._accepted: dict[str, ExperimentEntry] = {}
        self._seen = (0.0, 0.0)
        self._client: ManifestSyncClient | None = None
        self._bridge: Bridge | None = None

    def close(self) -> None:
        """End what still runs over the file channel, which is gone."""
        if self._bridge:
            self._bridge.cancel()
        self._bridge = self._client = None

    def forget(self) -> None:
        """Begin anew, as if nothing had come."""
        self._client = None
        self._cursor.unlink(missing_ok=True)

    def _open(self, source: Source) -> ManifestSyncClient:
        if self._client is None:
            self._bridge = Bridge(source, partial(self._copier.fetch, source))
            self._client = ManifestSyncClient(
                self._bridge,
                self._remote_root,
                self._claims.root,
                jitter_max=0,
                accepts=self._accept,
                wants=self._wants,
                cursor_path=self._cursor,
            )
            self._client.MAX_RETRIES = 1  # the next look is soon
        return self._client

    async def sync(self, source: Source) -> bool:
        """Sync, and return whether a manifest that is kept up to date said what is new."""
        client, self._accepted = self._open(source), {}
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
            if self._claims.has_taken_deleted(run) and not _meta(entry, layout.DELETED)
        ]
        for run, mark in zip(
            restored,
            await source.stat([f"{run}/{layout.DELETED}" for run in restored]),
            strict=True,
        ):
            if mark is None:
                self._claims.deleted_is_gone(run)
        for run, entry in self._accepted.items():
            self._claims.copied(run, _meta(entry, layout.META))
            if deleted := _meta(entry, layout.DELETED):
                self._claims.set(run, deleted=int(deleted))
        self._claims.save()
        return self._is_confirmed(client.confirmed_at)

    def _is_confirmed(self, confirmed_at: float) -> bool:
        """Return whether the manifest is kept up to date: its generator notes each time it ran."""
        if self._seen[0] != confirmed_at:
            is_recent = abs(time.time() - confirmed_at) < PATIENCE
            is_first = not self._seen[0]
            since = time.monotonic() if is_recent or not is_first else -PATIENCE
            self._seen = (confirmed_at, since)
        return time.monotonic() - self._seen[1] < PATIENCE

    def _accept(self, entries: Sequence[ExperimentEntry]) -> Iterable[ExperimentEntry]:
        runs = {f"{e.project}/{e.name}/{layout.RUNS}/{e.run_id}": e for e in entries}
        meta = {run: _meta(entry, layout.META) for run, entry in runs.items()}
        accepted, foreign = self._claims.accept(runs, meta)
        if foreign:
            self._report(FOREIGN)
        for run in accepted:
            (self._claims.root / run).mkdir(parents=True, exist_ok=True)
            self._accepted[run] = runs[run]
            files = runs[run].files
            self._copier.drop_old(run, meta[run], {file.path.split("/", 4)[4] for file in files})
            newest = max((int(file.mtime) for file in files), default=0)
            self._copier.newest[run] = max(newest, self._copier.newest.get(run, 0))
        return self._accepted.values()

    def _wants(self, file: FileEntry, target: Path) -> bool:
        if target.name == layout.DELETED:
            run = target.parent.relative_to(self._claims.root).as_posix()
            return self._claims.takes_deleted(run, file.mtime)
        return self._copier.wants(target)


def _meta(entry: ExperimentEntry, name: str) -> float | None:
    """Return when the run's own file of that name was written there."""
    return next(
        (f.mtime for f in entry.files if f.path.count("/") == 4 and f.path.endswith(f"/{name}")),
        None,
    )
