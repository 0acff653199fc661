"""Index every run below the storage root, and keep watching.

One thread reads and writes (``Intake``); another only listens to the file system and names the
folders that changed. Announcements may get lost, so folders of living runs are looked at every
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
KNOWN_AT_ONCE = 32
"""Living runs that are indexed with the same few statements."""
"""How long one transaction may go on indexing runs: others wait that long to write."""

LIVE_SECONDS = 1
"""How often the folders of running runs are looked at, whatever the file system announces."""

RECENT_SECONDS = 15
"""A folder that was announced counts as living this long: an announcement may swallow the next."""

LIVING_SECONDS = 3600
"""A running run that has not written for this long is not looked at every second any more."""

RESCAN_SECONDS = 60
"""How often all folders are looked at where the file system announces changes."""

POLL_SECONDS = 2
"""The same where it does not; at least five times what a look takes."""

_NO_ANNOUNCEMENTS = {
    *("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs"),
    *("lustre", "ceph", "glusterfs", "afs", "gpfs", "beegfs"),
}


class Companion(Protocol):
    """A thread of another app that indexes what is no run."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


companions: list[Callable[[], Companion]] = []
"""Made, started and stopped with every ``Intake``; other apps add theirs when they are ready."""


class Indexer(threading.Thread):
    """Index runs until ``stop()``."""

    def __init__(
        self,
        root: Path,
        report: Callable[[progress.Progress], None] | None = None,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        """*on_error* is told what stopped all indexing for a moment."""
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
        """The run in *directory* may have changed."""
        with self._lock:
            self._pending[directory] = None
            self._recent[directory] = time.monotonic() + RECENT_SECONDS
        self._wake.set()

    def everything_changed(self) -> None:
        """Folders came or went: look at all of them."""
        self._all_changed.set()
        self._wake.set()

    def catch_up(self) -> None:
        """Index everything that is there now, in the calling thread."""
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
                check_storage()  # not mounted just now: that is no reason to forget its runs
                now = time.monotonic()
                if now >= next_scan or self._all_changed.is_set():
                    self._all_changed.clear()
                    self._scan()
                    took = time.monotonic() - now
                    pause = POLL_SECONDS if self._listener.polling else RESCAN_SECONDS
                    next_scan = time.monotonic() + max(pause, 5 * took)
                if now >= next_live:
                    self._look_at_living()
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
                # A full disk, a database that is away: say so once and go on when it is back.
                if progress.current.error != str(error):
                    logger.exception("Indexing failed; trying again")
                progress.current.error = str(error)
                if self.on_error is not None:
                    self.on_error(error)
                close_old_connections()
                self._stopping.wait(2)

    # -- what to look at -----------------------------------------------------------------------

    def _scan(self) -> None:
        """Queue every folder that is new, changed or gone; the newest first."""
        if not self.root.is_dir():
            return  # not mounted just now: that is no reason to forget its runs
        seen: set[str] = set()
        changed: dict[str, float] = {}
        for directory, _ in layout.iter_run_dirs(self.root):
            seen.add(directory)
            if self._differs(directory) and directory in self._fingerprints:
                changed[directory] = self._fingerprints[directory].written
        gone = self._fingerprints.keys() - seen
        gone |= set(Run.objects.directories().iterator()) - self._fingerprints.keys()
        for directory in gone:
            self._fingerprints.pop(directory, None)
        with self._lock:
            self._pending |= dict.fromkeys(sorted(changed, key=changed.__getitem__, reverse=True))
            self._pending |= dict.fromkeys(gone)
        progress.current.found = len(self._fingerprints)
        progress.current.indexed = len(self._fingerprints) - len(self._pending)

    def _look_at_living(self) -> None:
        """Queue living runs that differ: a change that was not announced shows within a second."""
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
        """Whether the folder differs from when it was last looked at, or may have just then."""
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
        known = set(Run.objects.filter(directory__in=batch).values_list("directory", flat=True))
        new = [directory for directory in batch if directory not in known]
        old = [directory for directory in batch if directory in known]
        try:
            with transaction.atomic():
                again += self._index(new, folder_source.index_new)
                for start in range(0, len(old), KNOWN_AT_ONCE):
                    some = old[start : start + KNOWN_AT_ONCE]
                    is_late = time.monotonic() > deadline
                    again += some if is_late else self._index(some, folder_source.index_known)
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

        All at once, as nearly always nothing is wrong with any of them. If something is, each is
        indexed alone: one bad run never hides the others.
        """
        if not directories:
            return []
        is_known_bad = not self._failures.keys().isdisjoint(directories)
        if len(directories) > 1 and not is_known_bad:
            try:
                with transaction.atomic():
                    again = index_many(directories)
            except (OperationalError, StorageAway):
                raise  # the trouble of the machine, not of a run
            except Exception as error:
                if _is_of_database(error):
                    raise
                logger.debug("Indexing one by one", exc_info=True)
            else:
                self._notify_followers(directories)
                return again
        return [directory for directory in directories if self._index_one(directory)]

    def _index_one(self, directory: str) -> bool:
        """Index a run alone. A bad one is named, and read again when it changes."""
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
        """Another server on the same folder may have been first to index the log."""
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
    """Whether the database itself is in trouble, a damaged file for instance."""
    return type(error) is DatabaseError


class FolderFingerprint(NamedTuple):
    """What a run's folder looked like from outside."""

    value: int
    written: float
    """When it was last written to, in Unix seconds."""


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

    Two watchers: one on the root itself, for projects that come and go, and one on everything
    below the projects. The server's own folder is in neither, or each commit would announce itself.
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
                self._indexer.everything_changed()  # whatever came before the watch was set
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
                self._stop.wait(1)  # a project went while we were looking, or the root is away
            except Exception as error:
                self._give_up(error)
                return

    def _announce(self, path: str) -> None:
        path = path.replace(os.sep, "/")
        if layout.is_heartbeat(path.rpartition("/")[2]) or path.endswith(".lock"):
            return  # touched again and again, and indexed never
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
    """Whether the file system of *root* announces changes made by others (network ones do not)."""
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
