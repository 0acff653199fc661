"""Runs in folders below the storage root: bring the index up to date with one of them, or many.

Only changes are read, a limited amount at a time, and passed to the ``writer``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction

from core.storage import check_storage
from metrics.exceptions import CorruptBlock
from runicorn import layout

from ..files import LARGEST_DOCUMENT, READ_BYTES, RunFiles, fingerprint
from ..models import IndexedFile, Run
from ..querysets import RunQuerySet
from . import documents, writer
from .events import MAX_LINE
from .writer import Change, Sentence

logger = logging.getLogger("runicorn.runs")

HALF_WRITTEN_SECONDS = 2
"""A document this recent that is not JSON is read again before it counts as damaged."""

REFRESH_SECONDS = 2
"""How long a reader waits for a large change to be indexed; the rest follows in the background."""

LOOK_SECONDS = 1
"""How long a run that is not in the index is searched for on disk."""

before_reading: list[Callable[[str], None]] = []
"""Called with the folder of a requested run; other apps add functions that fetch its files."""


def index_run(directory: str) -> bool:
    """Bring the run in *directory* (relative to the storage root) up to date with its files.

    Return whether there is more to read. The row of a removed folder is deleted. If the index of
    the run is damaged, all its files are read again.
    """
    run = Run.objects.filter(directory=directory).first()
    if run is None:
        return bool(index_new([directory]))
    listed = _listed(run)
    if listed is not None and not _changed(run, listed):
        return False
    return _index_changed(run)


def _index_changed(run: Run) -> bool:
    """Bring a run up to date that differs from its folder."""
    try:
        return _read_changed(run)
    except CorruptBlock as error:
        logger.error("%s: %s The run is read anew from its folder.", run.directory, error)
        reread_events(Run.objects.get(pk=run.pk))
        return False


def _read_changed(run: Run) -> bool:
    with transaction.atomic():
        # Checked again: its folder and row may have been moved meanwhile.
        rows = Run.objects.filter(pk=run.pk, directory=run.directory)
        change = writer.changes_of(rows).get(run.pk)
        if change is None:
            return True
        listed = _listed(change.run)
        if listed is None:
            change.run.delete()
            return False
        has_more = _read(change, listed)
        writer.write([change])
    return has_more


def index_known(directories: Iterable[str]) -> list[str]:
    """Bring runs that have a row up to date, in one transaction; return those with more to read.

    Raises the exception of any of them, and has then indexed none.
    """
    directories = list(directories)
    limit = _limit(len(directories))
    unfinished, changed = set(), []
    with transaction.atomic():
        changes = writer.changes_of(Run.objects.filter(directory__in=directories))
        for change in changes.values():
            run = change.run
            listed = _listed(run)
            if listed is None:
                run.delete()
                continue
            if _differ(run, change.fingerprints(), listed):
                changed.append(change)
                if _read(change, listed, limit):
                    unfinished.add(run.directory)
        writer.write(changed)
    indexed = {change.run.directory for change in changes.values()}
    return [d for d in directories if d in unfinished or d not in indexed]


def index_new(directories: Iterable[str]) -> list[str]:
    """Index folders that have no row yet, in one transaction; return those with more to read.

    Raises the exception of any of them, and has then indexed none.
    """
    directories = list(directories)
    limit = _limit(len(directories))
    changes, unfinished = [], []
    for directory in directories:
        listed = RunFiles(settings.RUNICORN_STORAGE_ROOT / directory).listed()
        if listed is None:
            continue
        change = Change(_new_run(directory, listed["."]), {})
        changes.append(change)
        if _read(change, listed, limit):
            unfinished.append(directory)
    try:
        with transaction.atomic():
            writer.write(changes)
    except IntegrityError:
        indexed = Run.objects.filter(directory__in=directories)
        if not indexed.exists():
            raise
        return directories  # another process was first; check again after it
    return unfinished


def _listed(run: Run) -> dict[str, os.stat_result] | None:
    """Return the files of *run*; None if its folder is gone. Raises StorageAway if all are."""
    listed = run.files.listed()
    if listed is None:
        check_storage()
    return listed


def _limit(count: int) -> int:
    """Return how many bytes of each growing file to read at once, for *count* runs."""
    return max(READ_BYTES // 32, READ_BYTES // max(1, count))


def refresh(run: Run | None) -> Run | None:
    """Return *run*, brought up to date with its folder; None if it was removed."""
    if run is None:
        return run
    for fetch in before_reading:
        fetch(run.directory)
    try:
        listed = run.files.listed()
    except OSError as error:
        logger.warning("%s cannot be looked at: %s", run.directory, error)
        return run
    if listed is not None and not _changed(run, listed):
        # Unless the indexer has changed the row since it was read.
        if Run.objects.filter(pk=run.pk, updated_at=run.updated_at).exists():
            return run
        return Run.objects.filter(pk=run.pk).first()
    deadline = time.monotonic() + REFRESH_SECONDS
    try:
        has_more = _index_changed(run)
        while has_more and time.monotonic() < deadline:
            has_more = index_run(run.directory)
    except (OperationalError, OSError) as error:  # the index can still be read
        logger.warning("%s could not be brought up to date: %s", run.directory, error)
    return Run.objects.filter(pk=run.pk).first()


def refresh_moved(run: Run) -> None:
    """Bring a run up to date whose folder and row were moved."""
    with transaction.atomic():
        locked = Run.objects.select_for_update().get(pk=run.pk)
        project, name, _ = layout.split_run_dir(locked.directory) or (None, None, "")
        locked.listing_key = listing_key(project, name)
        locked.save(update_fields=["listing_key"])
        # These files and its folder together name its project and experiment: read them again.
        naming_files = locked.indexed_files.filter(name__in=(layout.META, layout.DELETED))
        naming_files.update(fingerprint="")
    refresh(Run.objects.get(pk=run.pk))


def look_up(runs: RunQuerySet, run_id: str, directory: str | None = None) -> Run | None:
    """Return the run of *runs* with that id, as ``by_id`` does, also if the indexer is behind."""
    run = runs.by_id(run_id, directory)
    if run is None:
        index_unknown([run_id])
        run = runs.by_id(run_id, directory)  # the indexer may have come to it meanwhile
    return run


def index_unknown(run_ids: Iterable[str]) -> None:
    """Index those of these runs that are on disk and have no row yet.

    A run on disk is never reported as missing because others are indexed first.
    """
    missing = {run_id for run_id in run_ids if _may_be_folder(run_id)}
    missing -= set(Run.objects.filter(run_id__in=missing).values_list("run_id", flat=True))
    if not missing:
        return
    deadline = time.monotonic() + LOOK_SECONDS
    for directory, entry in layout.iter_run_dirs(settings.RUNICORN_STORAGE_ROOT, missing):
        if entry.name in missing:
            try:
                index_run(directory)
            except OperationalError:
                raise  # a problem of the database, not of the run
            except Exception:
                logger.exception("The run in %s could not be indexed", directory)
        if time.monotonic() > deadline:
            break


def _may_be_folder(run_id: str) -> bool:
    return layout.is_plain_name(run_id) and not run_id.startswith(".")


def has_events(run: Run) -> bool:
    """Return whether the run has a metrics file."""
    return any(layout.stream_of(name) == layout.EVENTS for name in run.files.names())


def reread_events(run: Run) -> None:
    """Delete the data of the run's metrics files, and read them again.

    This is one transaction, so that no reader sees half of the data.
    """
    with transaction.atomic():
        change = writer.changes_of(Run.objects.filter(pk=run.pk))[run.pk]
        change.forget(layout.EVENTS)
        writer.write([change])
        while _read_changed(run):
            pass


def _changed(run: Run, listed: dict[str, os.stat_result]) -> bool:
    indexed = dict(run.indexed_files.values_list("name", "fingerprint"))
    return _differ(run, indexed, listed)


def _differ(run: Run, indexed: dict[str, str], listed: dict[str, os.stat_result]) -> bool:
    present = {name: fingerprint(info) for name, info in listed.items() if name != "."}
    return indexed != present or run.directory_mtime != listed["."].st_mtime


def _new_run(directory: str, folder: os.stat_result) -> Run:
    """Return a row for the folder, not written yet."""
    project, name, run_id = layout.split_run_dir(directory) or (None, None, directory)
    run = Run(
        run_id=run_id,
        directory=directory,
        directory_mtime=folder.st_mtime,
        listing_key=listing_key(project, name),
    )
    documents.describe(run, layout.META, None)
    if layout.is_recycled(directory):
        documents.describe(run, layout.DELETED, None)
    return run


def listing_key(project: str | None, name: str | None) -> bytes:
    """Return a key that sorts as in v0.4: project, experiment in lower case, legacy layout last."""
    if project is None or name is None:
        return b"\x01"
    return b"\x00%s\x00%s" % (project.lower().encode(), name.lower().encode())


def _read(change: Change, listed: dict[str, os.stat_result], limit: int = READ_BYTES) -> bool:
    """Apply the differences, at most *limit* bytes per stream; return whether there is more."""
    run, indexed = change.run, change.fingerprints()
    files = RunFiles(settings.RUNICORN_STORAGE_ROOT / run.directory)
    if run.directory_mtime != listed["."].st_mtime:
        is_dated_by_folder = run.created_time == run.directory_mtime
        run.directory_mtime = listed["."].st_mtime
        if is_dated_by_folder:
            run.date(run.directory_mtime)
    for name in indexed.keys() - listed.keys():
        change.remove(name)
    indexed = change.fingerprints()
    changed = [
        name
        for name, info in listed.items()
        if name != "." and indexed.get(name) != fingerprint(info)
    ]
    changed.sort(key=lambda name: name != layout.META)  # first, as the others refine it
    streams = [name for name in changed if layout.stream_of(name)]
    for name in streams:
        if _was_replaced(change, files, name, listed[name]):
            change.forget(layout.stream_of(name) or "")
            return _read(change, listed, limit)
    has_more = False
    for name in changed:
        if name in streams:
            has_more |= not _apply_stream(change, files, name, listed[name], limit)
        else:
            _apply_document(change, files, name, listed[name])
    return has_more


def _apply_document(change: Change, files: RunFiles, name: str, info: os.stat_result) -> None:
    """Apply a document; leave one that seems half written for the next check."""
    try:
        with files.open(name) as handle:
            written = os.fstat(handle.fileno()).st_mtime
            content = handle.read(LARGEST_DOCUMENT)
    except OSError:
        content, written = b"", 0.0
    is_recent = abs(time.time() - written) < HALF_WRITTEN_SECONDS
    if is_recent and name != layout.DELETED and layout.parse_json(content) is None:
        change.look_again(name)
    else:
        change.apply(Sentence(name, 0, content, fingerprint(info)))


def _apply_stream(
    change: Change, files: RunFiles, name: str, info: os.stat_result, limit: int
) -> bool:
    """Apply the next bytes; return whether the end of the file was reached."""
    offset = change.offset_of(name)
    try:
        handle = files.open(name)
    except OSError:  # removed or unreadable: the next check decides
        change.apply(Sentence(name, offset, b"", fingerprint(info)))
        return True
    with handle:
        handle.seek(offset)
        data = handle.read(limit)
        while len(data) >= limit and b"\n" not in data[-limit:] and len(data) < MAX_LINE:
            if not (more := handle.read(limit)):
                break
            data += more
        is_end = not handle.read(1)
        # A file with more bytes is read again, whatever its fingerprint then.
        change.apply(Sentence(name, offset, data, fingerprint(info) if is_end else ""))
        return is_end


def _was_replaced(change: Change, files: RunFiles, name: str, info: os.stat_result) -> bool:
    """Return whether the bytes before the offset are no longer those that were read."""
    file = change.indexed_file(name)
    if file is None or not file.offset:
        return False
    if info.st_size < file.offset:
        return True
    inode = file.fingerprint.rpartition(":")[2]
    if info.st_size == file.offset and inode not in ("", str(info.st_ino)):
        return True
    try:
        with files.open(name) as handle:
            return _differs_before(file, handle)
    except OSError:
        return False  # the next check decides


def _differs_before(file: IndexedFile, handle: BinaryIO) -> bool:
    head, tail = bytes(file.head), bytes(file.tail)
    if handle.read(len(head)) != head:
        return True
    handle.seek(file.offset - len(tail))
    return handle.read(len(tail)) != tail
