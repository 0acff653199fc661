"""Bring a copy of a storage root up to date by the manifests that lie in it.

A sync without changes costs one look at the manifests. Where nothing changed but the end of a
log, only that end travels. What is here is known from the copies themselves, not from a record.
"""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from .. import layout
from ..manifest import ExperimentEntry, FileEntry, SyncManifest, read_manifest
from ..manifest.generator import STATE
from ..manifest.model import LARGEST_MANIFEST
from .receiving import Differs, Download

CURSOR = ".sync_cursor.json"
READ_BYTES = 256 << 10

ProgressCallback = Callable[[int, int, str], None]
"""Called with (files completed, files in all, the file's path) after each file, failed or not."""

Fingerprint = list[float]
"""Size and time of a manifest file: if both stay, nothing is new."""


@runtime_checkable
class Transport(Protocol):
    """Reads files of the root there. Paths are relative to it."""

    def stat(self, paths: Sequence[str]) -> list[tuple[int, float] | None]:
        """Size and time of each; None for what is no file. All in one round trip, if it can."""

    def read(self, path: str, size: int) -> bytes:
        """The first *size* bytes."""

    def fetch(
        self, downloads: Sequence[Download], done: Callable[[Download, Exception | None], None]
    ) -> None:
        """Complete each download and tell what became of it, from any thread."""


class ManifestSyncClient:
    """Copies what the manifests below ``<remote_root>/.runicorn`` list into *cache_dir*.

    *sftp_client*: a ``paramiko.SFTPClient`` or what has its ``stat``, ``lstat`` and ``open``; or a
    Transport. *jitter_max*: seconds to wait at most, by chance, before a sync, so that many clients
    do not come at once. *accepts* and *wants* choose among runs, the folders of which it makes, and
    their files; *cursor_path* is where it is kept how far this client is, else in *cache_dir*.
    """

    MAX_WORKERS = 3
    BATCH_SIZE = 5
    MAX_RETRIES = 3
    RETRY_BASE_DELAY = 1.0
    PRIORITY_CRITICAL = 1
    PRIORITY_HIGH = 2
    PRIORITY_MEDIUM = 3
    PRIORITY_LOW = 4

    def __init__(
        self,
        sftp_client: Any,
        remote_root: str,
        cache_dir: Path,
        jitter_max: float = 5.0,
        *,
        accepts: Callable[[Sequence[ExperimentEntry]], Iterable[ExperimentEntry]] | None = None,
        wants: Callable[[FileEntry, Path], bool] | None = None,
        cursor_path: Path | None = None,
    ) -> None:
        self.remote_root = remote_root
        self.cache_dir = Path(cache_dir)
        self.jitter_max = jitter_max
        self.transport = (
            sftp_client
            if isinstance(sftp_client, Transport)
            else SftpTransport(sftp_client, remote_root, self.MAX_WORKERS)
        )
        self._accepts, self._wants = accepts, wants
        self._cursor_path = cursor_path or self.cache_dir / CURSOR
        self.cursor: dict[str, Any] = {
            "version": "1.0",
            "last_revision": 0,
            "last_snapshot_id": None,
            "last_sync_time": None,
            "sync_count": 0,
            **layout.read_json(self._cursor_path),
        }
        self.stats = _no_counts()
        """The totals of all syncs of this client."""
        self.confirmed_at = 0.0
        """The time at which the manifests were last written or confirmed, by the clock there."""

    def sync(self, progress_callback: ProgressCallback | None = None) -> dict[str, Any]:
        """Bring the copy up to date; what this sync did, or ``{"skipped": True, "reason": …}``.

        Raises IOError if there is no valid manifest, or the connection is lost.
        """
        began = time.monotonic()
        if self.jitter_max > 0:
            time.sleep(random.uniform(0, self.jitter_max))
        manifests, fingerprints = self._read_manifests()
        if manifests is None:
            return {"skipped": True, "reason": "no_changes"}
        newest = max(manifests, key=lambda manifest: manifest.revision)
        counts = self._fetch(self._plan(manifests), progress_callback)
        for name, value in counts.items():
            self.stats[name] += value
        if not counts["failed_count"]:
            self._advance(newest, manifests, fingerprints)
        if not any(counts.values()):
            return {"skipped": True, "reason": "no_file_changes"}
        return {
            **counts,
            "duration": time.monotonic() - began,
            "manifest_revision": newest.revision,
            "manifest_snapshot_id": newest.snapshot_id,
        }

    # -- which manifest ------------------------------------------------------------------------

    def _read_manifests(self) -> tuple[list[SyncManifest] | None, dict[str, Fingerprint]]:
        """Return the new manifests, the full one first; None if all are as they were last time."""
        names = [
            f"{layout.SERVER_DIR}/{kind}_manifest.json{end}"
            for kind in ("full", "active")
            for end in (".gz", "")
        ]
        state = f"{layout.SERVER_DIR}/{STATE}"
        stats = dict(zip([*names, state], self.transport.stat([*names, state]), strict=True))
        self.confirmed_at = max(
            (fingerprint[1] for fingerprint in stats.values() if fingerprint), default=0.0
        )
        del stats[state]
        fingerprints = {
            name: [float(n) for n in fingerprint]
            for name, fingerprint in stats.items()
            if fingerprint
        }
        if fingerprints and fingerprints == self.cursor.get("manifests"):
            return None, fingerprints
        last_seen = self.cursor.get("manifests") or {}
        manifests, is_valid = [], False
        for kind in ("full", "active"):
            mine = [name for name in names if f"/{kind}_" in name and name in fingerprints]
            if mine and all(last_seen.get(name) == fingerprints[name] for name in mine):
                is_valid = True
                continue
            for name in mine:
                manifest = self._read_manifest(name, int(fingerprints[name][0]))
                if manifest is not None and manifest.manifest_type.value == kind:
                    is_valid = True
                    manifests.append(manifest)
                    break
        if not is_valid:
            raise OSError("No valid manifest found on server")
        if not any(self._is_new(manifest) for manifest in manifests):
            self.cursor["manifests"] = fingerprints
            return None, fingerprints
        return manifests, fingerprints

    def _is_new(self, manifest: SyncManifest) -> bool:
        """By its snapshot: a root that was set up anew counts its revisions from the beginning."""
        known = self.cursor.get("snapshots") or {}
        return bool(known.get(manifest.manifest_type.value) != manifest.snapshot_id)

    def _read_manifest(self, name: str, size: int) -> SyncManifest | None:
        if size > LARGEST_MANIFEST:
            return None
        with suppress(ValueError, FileNotFoundError):
            return read_manifest(self.transport.read(name, size))
        return None

    def _advance(
        self,
        newest: SyncManifest,
        manifests: Sequence[SyncManifest],
        fingerprints: dict[str, Fingerprint],
    ) -> None:
        """Only after a sync without failures: what failed is asked for again."""
        self.cursor |= {
            "last_revision": newest.revision,
            "last_snapshot_id": newest.snapshot_id,
            "last_sync_time": time.time(),
            "sync_count": self.cursor["sync_count"] + 1,
            "manifests": fingerprints,
            "snapshots": (self.cursor.get("snapshots") or {})
            | {manifest.manifest_type.value: manifest.snapshot_id for manifest in manifests},
        }
        self._cursor_path.parent.mkdir(parents=True, exist_ok=True)
        layout.write_json(self._cursor_path, self.cursor)

    # -- what differs --------------------------------------------------------------------------

    def _plan(self, manifests: Sequence[SyncManifest]) -> list[Download]:
        """Return the files to fetch, the most important and smallest first."""
        files: dict[str, FileEntry] = {}
        for manifest in sorted(manifests, key=lambda manifest: manifest.revision):
            runs = manifest.experiments
            for run in self._accepts(runs) if self._accepts else runs:
                files |= {file.path: file for file in run.files}
        wanted = []
        for file in files.values():
            target = self.cache_dir / file.path
            if any(
                part.startswith(".") and part != layout.DELETED for part in file.path.split("/")
            ):
                continue
            if self._wants is None or self._wants(file, target):
                download = Download(
                    file.path,
                    target,
                    file.size,
                    file.mtime,
                    tail_hash=file.tail_hash,
                    home=self.cache_dir.joinpath(*file.path.split("/")[:4])
                    if self._accepts
                    else None,
                )
                if download.is_needed():
                    wanted.append((file.priority, file.size, file.path, download))
        return [download for *_, download in sorted(wanted, key=lambda one: one[:3])]

    # -- fetching ------------------------------------------------------------------------------

    def _fetch(
        self, downloads: Sequence[Download], progress: ProgressCallback | None
    ) -> dict[str, int]:
        counts = _no_counts()
        lock = threading.Lock()
        failed: list[Download] = []
        total, is_last = len(downloads), False

        def done(download: Download, error: Exception | None) -> None:
            with lock:
                counts["bytes_downloaded"] += download.received
                download.received = 0
                if error is None:
                    counts["files_synced"] += 1
                    kind = "incremental_count" if download.was_appended else "full_count"
                    counts[kind] += 1
                elif isinstance(error, FileNotFoundError):
                    counts["skipped_count"] += 1  # gone since; the next manifest will know
                elif not is_last:
                    failed.append(download)
                    return
                else:
                    counts["failed_count"] += 1
                if progress:
                    completed = sum(
                        counts[name] for name in ("files_synced", "skipped_count", "failed_count")
                    )
                    progress(completed, total, download.source)

        waiting = list(downloads)
        for attempt in range(self.MAX_RETRIES):
            is_last = attempt == self.MAX_RETRIES - 1
            if waiting:
                if attempt:
                    time.sleep(self.RETRY_BASE_DELAY * 2 ** (attempt - 1))
                self.transport.fetch(waiting, done)
            waiting, failed = failed, []
        return counts


def _no_counts() -> dict[str, int]:
    names = ("files_synced", "bytes_downloaded", "incremental_count", "full_count")
    return dict.fromkeys((*names, "skipped_count", "failed_count"), 0)


class SftpTransport:
    """Over a client like paramiko's: one channel for each worker, where it can open more."""

    def __init__(self, client: Any, root: str, workers: int) -> None:
        self._root = root.rstrip("/")
        self._clients = [client]
        with suppress(Exception):  # not paramiko's: then one channel has to do
            transport = client.get_channel().get_transport()
            while len(self._clients) < workers:
                self._clients.append(type(client).from_transport(transport))
        self._real_root: str | None = None

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def stat(self, paths: Sequence[str]) -> list[tuple[int, float] | None]:
        return [self._stat(path) for path in paths]

    def _stat(self, path: str) -> tuple[int, float] | None:
        try:
            info = self._clients[0].stat(self._path(path))
        except FileNotFoundError:
            return None
        return int(info.st_size or 0), float(info.st_mtime or 0)

    def read(self, path: str, size: int) -> bytes:
        with self._clients[0].open(self._path(path), "rb") as file:
            return cast(bytes, file.read(size))

    def fetch(
        self, downloads: Sequence[Download], done: Callable[[Download, Exception | None], None]
    ) -> None:
        waiting = iter(downloads)
        lock = threading.Lock()

        def work(client: Any) -> None:
            while True:
                with lock:
                    download = next(waiting, None)
                if download is None:
                    return
                error: Exception | None = None
                try:
                    self._fetch(client, download)
                except Exception as problem:
                    download.abandon()
                    error = problem
                done(download, error)

        with ThreadPoolExecutor(len(self._clients)) as threads:
            for outcome in [threads.submit(work, client) for client in self._clients]:
                outcome.result()

    def _fetch(self, client: Any, download: Download) -> None:
        path = self._path(download.source)
        if not stat.S_ISREG(client.lstat(path).st_mode or 0):
            raise FileNotFoundError(f"{download.source}: not a plain file")
        with client.open(path, "rb") as file:
            for _ in range(2):
                file.seek(download.begin())
                try:
                    while download.missing:
                        size = min(READ_BYTES, download.missing)
                        data = file.read(size)
                        download.write(data)
                        if not data or (download.is_open_ended and len(data) < size):
                            break
                    return download.finish()
                except Differs:
                    continue
        raise OSError(os.strerror(5))
