"""Keep a copy of the runs of another machine: by its manifests, or by walking through its folders.

The viewer syncs by itself (``remote`` there). This is for scripts that bring their own connection.
"""

from __future__ import annotations

import logging
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .. import layout
from ..artifacts.folders import ARTIFACTS, CHANGES, MANIFEST, METADATA, VERSIONS
from ..manifest import FileEntry
from .cache_manager import LocalCacheManager
from .manifest_sync import ManifestSyncClient, SftpTransport
from .receiving import Download

logger = logging.getLogger("runicorn.remote_storage")

LARGEST_DOCUMENT = 2**20
LARGEST_STREAM = 100 * 2**20
_SMALL = (*layout.DOCUMENTS, VERSIONS, METADATA, MANIFEST, CHANGES)


@dataclass
class SyncProgress:
    """The progress of the sync that runs, or else of the last one."""

    status: str = "idle"
    """Then ``running``, ``completed`` or ``failed``."""
    total_files: int = 0
    synced_files: int = 0
    synced_bytes: int = 0
    current_file: str = ""
    error: str = ""


class MetadataSyncService:
    """Copies the runs below *remote_root* into the folder of *cache_manager*.

    *sftp_client*: a ``paramiko.SFTPClient``, or what has its ``stat``, ``lstat``, ``open`` and
    ``listdir_attr``. *ssh_session* is what it belongs to, and is not used. Where there is no
    manifest, the first sync looks at every run; later ones, with *legacy_active_only*, at those
    written to in *legacy_recent_seconds*, at most *legacy_max_experiments* of them, and at new
    ones.
    """

    def __init__(
        self,
        ssh_session: Any,
        sftp_client: Any,
        remote_root: str,
        cache_manager: LocalCacheManager,
        legacy_active_only: bool = True,
        legacy_recent_seconds: float = 3600,
        legacy_max_experiments: int = 100,
        use_manifest_sync: bool = True,
        manifest_sync_jitter: float = 5.0,
    ) -> None:
        self.ssh_session, self.sftp_client = ssh_session, sftp_client
        self.remote_root, self.cache = remote_root.rstrip("/"), cache_manager
        self.legacy_active_only = legacy_active_only
        self.legacy_recent_seconds = legacy_recent_seconds
        self.legacy_max_experiments = legacy_max_experiments
        self.use_manifest_sync = use_manifest_sync
        self.progress = SyncProgress()
        self._callbacks: list[Callable[[SyncProgress], None]] = []
        self._running = threading.Lock()
        self._newest: dict[str, int] = {}
        self._room = 0
        self._client = ManifestSyncClient(
            sftp_client,
            remote_root,
            cache_manager.cache_dir,
            manifest_sync_jitter,
            wants=lambda file, target: self._takes(file),
        )
        self._transport = SftpTransport(sftp_client, remote_root, ManifestSyncClient.MAX_WORKERS)
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    # -- once ----------------------------------------------------------------------------------

    def sync_all(self) -> bool:
        """Bring the copy up to date. False if that failed (``progress.error``), or if another
        thread is at it."""
        if not self._running.acquire(blocking=False):
            return False
        try:
            self.progress = SyncProgress("running")
            self._room = self.cache.room()
            revision = self._sync_by_manifest() if self.use_manifest_sync else None
            self._fetch(list(self._artifacts()))
            if revision is None:
                self._fetch(list(self._runs()))
            self.progress.status = "failed" if self.progress.error else "completed"
            if not self.progress.error:
                self.cache.note_sync(revision)
        except Exception as error:  # whatever the caller's client raises
            self.progress.status, self.progress.error = "failed", str(error)
            logger.warning("The sync failed: %s", error)
        finally:
            self._tell()
            self._running.release()
        return self.progress.status == "completed"

    def _sync_by_manifest(self) -> int | None:
        """The revision that is here now; None where no manifest told it."""
        before = dict(self._client.stats)
        try:
            done = self._client.sync(self._count)
        except OSError as error:
            logger.warning("No manifest, every folder is looked at: %s", error)
            return None
        gained = self._client.stats["bytes_downloaded"] - before["bytes_downloaded"]
        self.progress.synced_bytes += gained
        if failed := done.get("failed_count"):
            self.progress.error = f"{failed} files did not come"
        return int(self._client.cursor["last_revision"])

    def _count(self, completed: int, total: int, current: str) -> None:
        self.progress.synced_files, self.progress.total_files = completed, total
        self.progress.current_file = current
        self._tell()

    def _takes(self, file: FileEntry) -> bool:
        return self._fits(file.path, file.size)

    def _fits(self, path: str, size: int) -> bool:
        """Documents always do; what is large, as long as there is room."""
        name = path.rsplit("/", 1)[-1]
        if name in _SMALL:
            return size <= LARGEST_DOCUMENT
        target = self.cache.cache_dir / path
        with suppress(OSError):
            if name in layout.STREAMS:
                size -= min(target.stat().st_size, size)
            elif target.stat().st_size == size:
                return True
        if size > self._room:
            return False
        self._room -= size
        return True

    # -- by walking ----------------------------------------------------------------------------

    def _runs(self) -> Iterator[Download]:
        found = []
        for project in self._folders(""):
            if layout.is_project_name(project):
                for name in self._folders(project):
                    parent = f"{project}/{name}/{layout.RUNS}"
                    found += [f"{parent}/{run}" for run in self._folders(parent)]
        found += [f"{layout.RUNS}/{run}" for run in self._folders(layout.RUNS)]
        for run in self._to_look_at(found):
            yield from self._run(run)

    def _to_look_at(self, runs: list[str]) -> list[str]:
        new = [run for run in runs if run not in self._newest]
        known = [run for run in runs if run in self._newest]
        if self.legacy_active_only:
            since = time.time() - self.legacy_recent_seconds
            known = sorted(
                (run for run in known if self._newest[run] >= since), key=self._newest.__getitem__
            )[-self.legacy_max_experiments :]
        return new + known

    def _run(self, run: str) -> Iterator[Download]:
        entries = self._list(run)
        own = [f"{run}/{e.filename}" for e in entries if e.filename in layout.STREAMS]
        own += [f"{run}/{e.filename}" for e in entries if e.filename in layout.DOCUMENTS]
        by_path = {f"{run}/{e.filename}": e for e in entries}
        if any(e.filename == layout.MEDIA and stat.S_ISDIR(e.st_mode or 0) for e in entries):
            for entry in self._list(f"{run}/{layout.MEDIA}"):
                path = f"{run}/{layout.MEDIA}/{entry.filename}"
                by_path[path] = entry
                own.append(path)
        self._newest[run] = max((int(e.st_mtime or 0) for e in by_path.values()), default=0)
        for path in own:
            yield from self._download(path, by_path[path])

    def _artifacts(self) -> Iterator[Download]:
        """Their documents: manifests leave them out."""
        for kind in self._folders(ARTIFACTS):
            for name in self._folders(f"{ARTIFACTS}/{kind}"):
                folder = f"{ARTIFACTS}/{kind}/{name}"
                for place in (folder, *(f"{folder}/{v}" for v in self._folders(folder))):
                    for entry in self._list(place):
                        if entry.filename in _SMALL:
                            yield from self._download(f"{place}/{entry.filename}", entry)

    def _download(self, path: str, entry: Any) -> Iterator[Download]:
        if not stat.S_ISREG(entry.st_mode or 0):
            return
        size, name = int(entry.st_size or 0), entry.filename
        largest = LARGEST_STREAM if name in layout.STREAMS else LARGEST_DOCUMENT
        download = Download(
            path, self.cache.cache_dir / path, size, float(entry.st_mtime or 0), is_listed=True
        )
        if size <= largest and download.is_needed() and self._fits(path, size):
            yield download

    def _folders(self, path: str) -> list[str]:
        """Below *path*, without hidden ones and links."""
        return [
            str(entry.filename)
            for entry in self._list(path)
            if stat.S_ISDIR(entry.st_mode or 0) and not entry.filename.startswith(".")
        ]

    def _list(self, path: str) -> list[Any]:
        """The entries that have a name which can be theirs here; none where there is no folder."""
        try:
            entries = self.sftp_client.listdir_attr(f"{self.remote_root}/{path}".rstrip("/"))
        except FileNotFoundError:
            return []
        return sorted(
            (entry for entry in entries if layout.is_plain_name(entry.filename)),
            key=lambda entry: str(entry.filename),
        )

    def _fetch(self, downloads: list[Download]) -> None:
        progress = self.progress
        progress.total_files += len(downloads)

        def done(download: Download, error: Exception | None) -> None:
            if error is None:
                progress.synced_files += 1
            elif not isinstance(error, FileNotFoundError):  # gone since: the next look will know
                progress.error = str(error)
            progress.synced_bytes += download.received
            progress.current_file = download.source
            self._tell()

        self._transport.fetch(downloads, done)

    # -- being told, and again and again -------------------------------------------------------

    def add_progress_callback(self, callback: Callable[[SyncProgress], None]) -> None:
        """Call *callback* with the progress after each file, and at the end; from any thread."""
        self._callbacks.append(callback)

    def get_progress(self) -> SyncProgress:
        return self.progress

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback(self.progress)

    def start_background_sync(self, interval_seconds: float = 600) -> None:
        """Sync now and every *interval_seconds* until ``stop_background_sync``."""
        if self._thread is not None:
            return
        self._stopped.clear()

        def work() -> None:
            self.sync_all()
            while not self._stopped.wait(interval_seconds):
                self.sync_all()

        self._thread = threading.Thread(target=work, name="runicorn sync", daemon=True)
        self._thread.start()

    def stop_background_sync(self) -> None:
        """A sync that runs is waited for."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
