"""Index every run below the storage root, and keep watching.

One thread reads and writes (``Indexer``); others only listen to the file system and name the
folders that changed. Announcements may get lost, so folders of living runs are checked every
second and all others now and then.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from django.conf import settings
from django.db import DatabaseError, OperationalError, close_old_connections, transaction

from core import memory
from core.storage import StorageAway, check_storage
from runicorn import layout

from .. import actions, annotation, querysets
from ..logs import live
from ..models import Run
from . import folder_source, progress

logger = logging.getLogger("runicorn.indexer")

BATCH_RUNS = 64
BATCH_SECONDS = 0.2
"""How long one transaction may index runs: other writers wait that long."""

KNOWN_AT_ONCE = 32
"""The number of living runs that are indexed with the same few statements."""

LIVE_SECONDS = 1
"""The interval of checks of running runs' folders, whatever the file system announces."""

RECENT_SECONDS = 15
"""How long an announced folder counts as living, as an announcement may hide the next."""

LIVING_SECONDS = 3600
"""A running run that has not written for this long is no longer checked every second."""

RESCAN_SECONDS = 60
"""The interval of checks of all folders if the file system announces changes."""

POLL_SECONDS = 2
"""The same interval if it does not; at least five times the duration of a check."""

_NO_ANNOUNCEMENTS = {
    *("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs"),
    *("lustre", "ceph", "glusterfs", "afs", "gpfs", "beegfs"),
}


class Companion(Protocol):
    """A thread of another app that indexes something other than runs."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


companions: list[Callable[[], Companion]] = []
"""Created, started and stopped with every ``Indexer``; other apps add theirs when loaded."""


class Indexer(threading.Thread):
    """Index runs until ``stop()``."""

    def __init__(
        self,
        root: Path,
        report: Callable[[progress.Progress], None] | None = None,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        """*on_error* is called with exceptions that interrupt all indexing."""
        super().__init__(name="indexer", daemon=True)
        self.root = root
        self.report = report
        self.on_error = on_error
        self._pending: dict[str, None] = {}
        self._fingerprints: dict[str, FolderFingerprint] = {}
        self._recent: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        progress.current.name_failures(self._failures)
        self._counted = -1
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._all_changed = threading.Event()
        self._listener = Listener(self)
        self._companions = [make() for make in companions]

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._listener.stop()
        for companion in self._companions:
            companion.stop()
        self.join(timeout=10)
        progress.current.state = "stopped"

    def changed(self, directory: str) -> None:
        """Queue the run in *directory*, which may have changed."""
        with self._lock:
            self._pending[directory] = None
            self._recent[directory] = time.monotonic() + RECENT_SECONDS
        self._wake.set()

    def everything_changed(self) -> None:
        """Check all folders, as some were added or removed."""
        self._all_changed.set()
        self._wake.set()

    def catch_up(self) -> None:
        """Index everything that exists now, in the calling thread."""
        self._scan()
        while self._pending:
            self._index_batch()
        annotation.follow_experiments_file()

    def run(self) -> None:
        progress.current.state = "scanning"
        (self.root / layout.RUNS).mkdir(parents=True, exist_ok=True)
        actions.finish_interrupted()
        self._listener.start()
        for companion in self._companions:
            companion.start()
        next_live = next_check = next_scan = 0.0
        while not self._stopping.is_set():
            try:
                check_storage()  # if it is not mounted, keep its runs
                now = time.monotonic()
                if now >= next_scan or self._all_changed.is_set():
                    self._all_changed.clear()
                    self._scan()
                    duration = time.monotonic() - now
                    pause = POLL_SECONDS if self._listener.polling else RESCAN_SECONDS
                    next_scan = time.monotonic() + max(pause, 5 * duration)
                if now >= next_live:
                    self._check_living()
                    annotation.follow_experiments_file()
                    next_live = now + LIVE_SECONDS
                self._index_batch()
                progress.current.error = ""
                if not self._pending:
                    if progress.current.found > 2 * self._counted:
                        querysets.count_values()
                        self._counted = progress.current.found
                    if progress.current.state == "scanning":
                        progress.current.state = "watching"
                        memory.trim()
                        self._report()
                    if now >= next_check:
                        actions.check_processes(Run.objects.active().judged_by_processes())
                        next_check = now + settings.RUNICORN_STATUS_CHECK_SECONDS
                    self._wake.wait(max(0, min(next_live, next_scan) - time.monotonic()))
                    self._wake.clear()
            except Exception as error:
                # A full disk or a lost database: log it once, and continue when it is back.
                if progress.current.error != str(error):
                    logger.exception("Indexing failed; trying again")
                progress.current.error = str(error)
                if self.on_error is not None:
                    self.on_error(error)
                close_old_connections()
                self._stopping.wait(2)

    # -- what to index --------------------------------------------------------------------------

    def _scan(self) -> None:
        """Queue every folder that is new, changed or removed, the newest first."""
        if not self.root.is_dir():
            return  # perhaps not mounted: keep its runs
        existing: set[str] = set()
        changed: dict[str, float] = {}
        for directory, _ in layout.iter_run_dirs(self.root):
            existing.add(directory)
            if self._differs(directory) and directory in self._fingerprints:
                changed[directory] = self._fingerprints[directory].written
        removed = self._fingerprints.keys() - existing
        removed |= set(Run.objects.directories().iterator()) - self._fingerprints.keys()
        for directory in removed:
            self._fingerprints.pop(directory, None)
        with self._lock:
            self._pending |= dict.fromkeys(sorted(changed, key=changed.__getitem__, reverse=True))
            self._pending |= dict.fromkeys(removed)
        progress.current.found = len(self._fingerprints)
        progress.current.indexed = len(self._fingerprints) - len(self._pending)

    def _check_living(self) -> None:
        """Queue living runs that differ: unannounced changes show within a second."""
        since = time.time() - LIVING_SECONDS
        living = {
            directory
            for directory in Run.objects.running().directories()
            if (fingerprint := self._fingerprints.get(directory)) is None
            or fingerprint.written > since
        }
        now = time.monotonic()
        with self._lock:
            self._recent = {d: until for d, until in self._recent.items() if until > now}
            living |= self._recent.keys()
        changed = [directory for directory in living if self._differs(directory)]
        with self._lock:
            self._pending |= dict.fromkeys(changed)

    def _differs(self, directory: str) -> bool:
        """Return whether the folder has changed since the last check, or may have during it."""
        try:
            fingerprint = _fingerprint(self.root / directory)
        except FileNotFoundError:
            return self._fingerprints.pop(directory, None) is not None
        except OSError:
            return False
        is_same = self._fingerprints.get(directory) == fingerprint
        self._fingerprints[directory] = fingerprint
        return (
            not is_same
            or abs(time.time() - fingerprint.written) < folder_source.HALF_WRITTEN_SECONDS + 1
        )

    # -- indexing -----------------------------------------------------------------------------

    def _index_batch(self) -> None:
        """Index as many of the queued folders as fit in one short transaction."""
        with self._lock:
            batch = list(islice(self._pending, BATCH_RUNS))
            for directory in batch:
                del self._pending[directory]
        if not batch:
            return
        deadline = time.monotonic() + BATCH_SECONDS
        again: list[str] = []
        indexed = set(Run.objects.filter(directory__in=batch).values_list("directory", flat=True))
        new = [directory for directory in batch if directory not in indexed]
        old = [directory for directory in batch if directory in indexed]
        try:
            with transaction.atomic():
                again += self._index(new, folder_source.index_new)
                for start in range(0, len(old), KNOWN_AT_ONCE):
                    known_batch = old[start : start + KNOWN_AT_ONCE]
                    is_late = time.monotonic() > deadline
                    again += (
                        known_batch
                        if is_late
                        else self._index(known_batch, folder_source.index_known)
                    )
        except Exception:
            again = batch  # nothing of it was committed
            raise
        finally:
            with self._lock:
                self._pending |= dict.fromkeys(again)
        progress.current.indexed = max(0, progress.current.found - len(self._pending))
        self._report()

    def _index(
        self, directories: list[str], index_many: Callable[[list[str]], list[str]]
    ) -> list[str]:
        """Bring *directories* up to date; return those with more to read.

        All are indexed at once, as nearly always all can be. If one cannot, each is indexed alone:
        one bad run never hides the others.
        """
        if not directories:
            return []
        is_known_bad = not self._failures.keys().isdisjoint(directories)
        if len(directories) > 1 and not is_known_bad:
            try:
                with transaction.atomic():
                    again = index_many(directories)
            except (OperationalError, StorageAway):
                raise  # a problem of the machine, not of a run
            except Exception as error:
                if _is_of_database(error):
                    raise
                logger.debug("Indexing one by one", exc_info=True)
            else:
                self._notify_followers(directories)
                return again
        return [directory for directory in directories if self._index_one(directory)]

    def _index_one(self, directory: str) -> bool:
        """Index a run alone. A bad one is reported, and read again when it changes."""
        try:
            with transaction.atomic():
                has_more = folder_source.index_run(directory)
        except (OperationalError, StorageAway):
            raise
        except Exception as error:
            if _is_of_database(error):
                raise
            reason = f"{type(error).__name__}: {error}"
            if self._failures.get(directory) != reason:
                self._failures[directory] = reason
                logger.exception("The run in %s could not be indexed", directory)
            progress.current.name_failures(self._failures)
            return False
        if self._failures.pop(directory, None) is not None:
            progress.current.name_failures(self._failures)
        self._notify_followers([directory])
        return has_more

    def _notify_followers(self, directories: list[str]) -> None:
        """Tell followers of a log that another server on the same folder may have indexed first."""
        if not live.feeds:
            return
        runs = Run.objects.filter(directory__in=directories)
        for run_pk, end in runs.values_list("pk", "log_bytes"):
            transaction.on_commit(partial(live.log_reaches, run_pk, end), robust=True)

    def _report(self) -> None:
        if self.report is None:
            return
        try:
            self.report(progress.current)
        except Exception:
            logger.exception("Progress could not be shown")
            self.report = None


def _is_of_database(error: Exception) -> bool:
    """Return whether the database itself has a problem, such as a damaged file."""
    return type(error) is DatabaseError


class FolderFingerprint(NamedTuple):
    """The state of a run's folder, without the content of its files."""

    value: int
    written: float
    """The time of the last write, in Unix seconds."""


def _fingerprint(path: Path) -> FolderFingerprint:
    info = os.lstat(path)
    parts: list[object] = [info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
    written = info.st_mtime
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if layout.is_run_file(entry.name):
                info = entry.stat(follow_symlinks=False)
                parts += [entry.name, info.st_size, info.st_mtime_ns, info.st_ino]
                written = max(written, info.st_mtime)
    return FolderFingerprint(hash(tuple(parts)), written)


class Listener:
    """Tell the indexer which folders the file system announces as changed.

    There are two watchers: one on the root itself, for projects that are added or removed, and one
    on everything below the projects. The server's own folder is in neither, or every commit would
    announce itself.
    """

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer
        self._root = indexer.root
        self._stop = threading.Event()
        self._projects_changed = threading.Event()
        self.polling = settings.RUNICORN_WATCH_FORCE_POLLING or not _announces(self._root)

    def start(self) -> None:
        if not self.polling:
            threading.Thread(target=self._watch_root, name="watch-root", daemon=True).start()
            threading.Thread(target=self._watch_runs, name="watch-runs", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        self._projects_changed.set()

    def _watch_root(self) -> None:
        from watchfiles import watch

        try:
            for changes in watch(
                self._root,
                recursive=False,
                step=20,
                debounce=200,
                stop_event=self._stop,
                watch_filter=None,
                rust_timeout=1000,
                yield_on_timeout=False,
                ignore_permission_denied=True,
            ):
                names = {os.path.relpath(path, self._root) for _, path in changes}
                if any(layout.is_project_name(name) for name in names):
                    self._projects_changed.set()
        except Exception as error:
            self._give_up(error)

    def _watch_runs(self) -> None:
        from watchfiles import watch

        while not self._stop.is_set():
            self._projects_changed.clear()
            try:
                with os.scandir(self._root) as entries:
                    watched = [
                        entry.path
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False)
                        and (layout.is_project_name(entry.name) or entry.name == layout.RUNS)
                    ]
                self._indexer.everything_changed()  # for changes before the watch began
                for changes in watch(
                    *watched,
                    step=5,
                    debounce=50,
                    stop_event=self._projects_changed,
                    watch_filter=None,
                    rust_timeout=1000,
                    yield_on_timeout=False,
                    ignore_permission_denied=True,
                ):
                    for _, path in changes:
                        self._announce(os.path.relpath(path, self._root))
            except FileNotFoundError:
                self._stop.wait(1)  # a project was removed meanwhile, or the root is not mounted
            except Exception as error:
                self._give_up(error)
                return

    def _announce(self, path: str) -> None:
        path = path.replace(os.sep, "/")
        if layout.is_heartbeat(path.rpartition("/")[2]) or path.endswith(".lock"):
            return  # changed again and again, but never indexed
        directory = layout.run_dir_of(self._root, path)
        if directory is not None:
            self._indexer.changed(directory)
            if len(path) > len(directory):
                return
        self._indexer.everything_changed()

    def _give_up(self, error: Exception) -> None:
        self.polling = True
        self._indexer.everything_changed()
        logger.warning(
            "The file system does not announce changes (%s); looking at all runs every few "
            "seconds instead. If a limit is reached, raise fs.inotify.max_user_watches.",
            error,
        )


def _announces(root: Path) -> bool:
    """Return whether the file system of *root* announces others' changes (network ones do not)."""
    try:
        best = ("", "")
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, kind, *_ = line.split(" ")
            mount = mount.replace("\\040", " ")
            if root.is_relative_to(mount) and len(mount) >= len(best[0]):
                best = (mount, kind)
        return best[1] not in _NO_ANNOUNCEMENTS
    except (OSError, ValueError):
        return True
