"""Directory-backed runs: bring the index up to date with one folder below the storage root.

Reads only what changed, a bounded piece at a time, and hands it to ``ingest``.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction

from metrics.exceptions import CorruptBlock
from metrics.rows import insert
from runicorn import layout

from .. import tags
from ..finding import fulltext
from ..models import Run, RunFile
from . import writer

logger = logging.getLogger("runicorn.runs")

PIECE = 8 * 2**20
"""Bytes of a growing file that are read in one transaction."""

LARGEST_DOCUMENT = 64 * 2**20
HALF_WRITTEN_SECONDS = 2
"""A document that is no JSON and was written this recently is looked at again before it counts."""

REFRESH_SECONDS = 2
"""How long a reader waits for a large change to be taken in; the rest follows in the background."""

before_reading: list[Callable[[str], None]] = []
"""Called with the folder of a run that somebody looks at; other apps add what fetches its files."""

_NAMES = frozenset(layout.DOCUMENTS + layout.STREAMS)


def index_run(directory: str) -> bool:
    """Bring the run in *directory* (relative to the storage root) up to date with its files.

    Returns whether more is left to read. A folder that is gone takes its row with it. Where what
    was known is found damaged, all of it is read anew.
    """
    try:
        return _index(directory)
    except CorruptBlock as error:
        logger.error("%s: %s The run is read anew from its folder.", directory, error)
        read_anew(Run.objects.get(directory=directory))
        return False


def _index(directory: str) -> bool:
    run = Run.objects.filter(directory=directory).first()
    if run is None:
        return bool(index_new([directory]))
    path = settings.RUNICORN_STORAGE_ROOT / directory
    files = _look(path)
    if files is None:
        run.delete()
        return False
    if not _changed(run, files):
        return False
    with transaction.atomic():
        run = Run.objects.select_for_update().filter(pk=run.pk).first()
        if run is None:
            return True
        known = {file.name: file for file in run.files.defer("content")}
        change = _read(run, path, files, known)
        _write([change])
    return change.has_more


def index_known(directories: Iterable[str]) -> list[str]:
    """Bring runs that have a row up to date, in one transaction; return those with more to read.

    Raises whatever stands in the way of one of them, and has then taken in none.
    """
    directories = list(directories)
    piece = _piece_of(len(directories))
    changes = []
    with transaction.atomic():
        rows = Run.objects.filter(directory__in=directories).order_by("pk")
        runs = list(rows.select_related("project").select_for_update(of=("self",)))
        known: dict[int, dict[str, RunFile]] = {run.pk: {} for run in runs}
        for file in RunFile.objects.filter(run__in=known).defer("content"):
            known[file.run_id][file.name] = file
        for run in runs:
            path = settings.RUNICORN_STORAGE_ROOT / (run.directory or "")
            files = _look(path)
            if files is None:
                run.delete()
                continue
            marks: dict[str, list[Any]] = {n: _mark_of(f) for n, f in known[run.pk].items()}
            if _differ(run, marks, files):
                changes.append(_read(run, path, files, known[run.pk], piece))
        _write(changes)
    more = {change.run.directory for change in changes if change.has_more}
    here = {run.directory for run in runs}
    return [one for one in directories if one in more or one not in here]


def _piece_of(count: int) -> int:
    """Bytes of each growing file that are read at once, of so many runs."""
    return max(PIECE // 32, PIECE // max(1, count))


def index_new(directories: Iterable[str]) -> list[str]:
    """Take in folders that have no row yet, in one transaction; return those with more to read.

    Raises whatever stands in the way of one of them, and has then taken in none.
    """
    changes = []
    directories = list(directories)
    piece = _piece_of(len(directories))
    for directory in directories:
        path = settings.RUNICORN_STORAGE_ROOT / directory
        if (files := _look(path)) is not None:
            changes.append(_read(_new_run(directory, files["."]), path, files, {}, piece))
    try:
        with transaction.atomic():
            _write(changes)
    except IntegrityError:  # another process was first; look again at what it left
        return [change.run.directory for change in changes if change.run.directory]
    return [c.run.directory for c in changes if c.has_more and c.run.directory]


def refresh(run: Run | None) -> Run | None:
    """*run* as its folder says now; None if it is gone."""
    if run is None or run.directory is None:
        return run
    for fetch in before_reading:
        fetch(run.directory)
    files = _look(settings.RUNICORN_STORAGE_ROOT / run.directory)
    if files is not None and not _changed(run, files):
        # Unless the indexer was faster, between reading this row and looking.
        if Run.objects.filter(pk=run.pk, updated_at=run.updated_at).exists():
            return run
        return Run.objects.filter(pk=run.pk).first()
    deadline = time.monotonic() + REFRESH_SECONDS
    try:
        while index_run(run.directory) and time.monotonic() < deadline:
            pass
    except OperationalError as error:  # nothing can be written just now: what is known can be read
        logger.warning("%s could not be brought up to date: %s", run.directory, error)
    return Run.objects.filter(pk=run.pk).first()


def has_events(run: Run) -> bool:
    """Whether the run's metrics file is there to be read."""
    if run.directory is None:
        return False
    return (settings.RUNICORN_STORAGE_ROOT / run.directory / layout.EVENTS).is_file()


def read_anew(run: Run) -> None:
    """Forget what was read from the run's metrics file, and read all of it again.

    In one transaction: nobody is answered from the half of it.
    """
    with transaction.atomic():
        locked = Run.objects.select_for_update().get(pk=run.pk)
        for file in locked.files.filter(name=layout.EVENTS):
            writer.forget(locked, file)
            file.mtime_ns = 0
            file.save()
        locked.save()
        while _index(run.directory or ""):
            pass


def _look(path: Path) -> dict[str, os.stat_result] | None:
    """The files of the run that are there, and the folder itself as ``.``; None if it is no run."""
    try:
        folder = os.lstat(path)
        if not stat.S_ISDIR(folder.st_mode):
            return None
        files = {".": folder}
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name in _NAMES:
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(info.st_mode):
                        files[entry.name] = info
        return files if not files.keys().isdisjoint(layout.RUN_FILES) else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _changed(run: Run, files: dict[str, os.stat_result]) -> bool:
    marks = run.files.values_list("name", "size", "mtime_ns", "inode")
    known: dict[str, list[Any]] = {name: mark for name, *mark in marks}
    return _differ(run, known, files)


def _differ(run: Run, known: dict[str, list[int | str]], files: dict[str, os.stat_result]) -> bool:
    found = {name: _mark(info) for name, info in files.items() if name != "."}
    return known != found or run.directory_mtime != files["."].st_mtime


def _mark(info: os.stat_result) -> list[int | str]:
    return [info.st_size, info.st_mtime_ns, str(info.st_ino)]


def _new_run(directory: str, folder: os.stat_result) -> Run:
    """A row for the folder, not written yet."""
    project, name, run_id = layout.split_run_dir(directory) or (None, None, directory)
    run = Run(
        run_id=run_id,
        directory=directory,
        directory_mtime=folder.st_mtime,
        listing_key=listing_key(project, name),
    )
    writer.replace(run, layout.META, None)
    return run


def listing_key(project: str | None, name: str | None) -> bytes:
    """Sorts as v0.4 lists: by project and experiment in lower case, the legacy layout last."""
    if project is None or name is None:
        return b"\x01"
    return b"\x00%s\x00%s" % (project.lower().encode(), name.lower().encode())


@dataclass
class Change:
    """What was read of one run's folder, not written yet."""

    run: Run
    files: list[RunFile] = field(default_factory=list)
    pieces: list[writer.Piece] = field(default_factory=list)
    has_more: bool = False


def _read(
    run: Run,
    path: Path,
    files: dict[str, os.stat_result],
    known: dict[str, RunFile],
    most: int = PIECE,
) -> Change:
    """Read what differs from *known*, of each growing file *most* bytes.

    The caller holds *run* locked, or it is not written yet.
    """
    change = Change(run)
    if run.directory_mtime != files["."].st_mtime:
        is_dated_by_folder = run.created_time == run.directory_mtime
        run.directory_mtime = files["."].st_mtime
        if is_dated_by_folder:
            run.date(run.directory_mtime)
    for name in known.keys() - files.keys():
        if name in layout.STREAMS:
            writer.forget(run, known[name])
        else:
            writer.replace(run, name, None)
            if write := writer.document_writers.get(name):
                write([(run, None)])
        known[name].delete()
    for name, info in files.items():
        file = known.get(name) or RunFile(name=name)
        if name == "." or (name in known and _mark_of(file) == _mark(info)):
            continue
        if name in layout.STREAMS:
            piece, is_whole = _read_stream(run, file, path / name, info, most)
            change.pieces.append(piece)
            change.has_more |= not is_whole
        else:
            is_whole = _read_document(run, file, path / name)
        file.size, file.mtime_ns, file.inode = _mark(info)
        if not is_whole:
            file.mtime_ns = 0  # look at it again
        change.files.append(file)
    return change


def _write(changes: list[Change]) -> None:
    """Write what was read, in few statements however many runs it is of."""
    writer.save_projects(change.run for change in changes)
    for change in changes:
        change.run.search_text = fulltext.text_of(change.run)
    new = [change.run for change in changes if change.run.pk is None]
    old = [change.run for change in changes if change.run.pk is not None]
    Run.objects.bulk_create(new)
    for run in new:
        if run.run_id in tags.records():
            tags.apply(run)
    for run in old:
        run.save()
    documents: dict[str, list[tuple[Run, bytes | None]]] = {}
    fresh: list[tuple] = []
    for change in changes:
        for file in change.files:
            if file.name in writer.document_writers:
                content = bytes(file.content or b"")
                documents.setdefault(file.name, []).append((change.run, content))
            if file.pk is not None:
                file.save()
            else:
                fresh.append((change.run.pk, *(getattr(file, name) for name in _FILE[1:])))
    for name, contents in documents.items():
        writer.document_writers[name](contents)
    writer.write([piece for change in changes for piece in change.pieces])
    insert(RunFile, _FILE, fresh)


_FILE = ("run", "name", "offset", "size", "mtime_ns", "inode", "head", "tail", "content")


def _mark_of(file: RunFile) -> list[int | str]:
    return [file.size, file.mtime_ns, file.inode]


def _read_document(run: Run, file: RunFile, path: Path) -> bool:
    """Returns False if the file seems to be half written: what was known stays for now."""
    try:
        with path.open("rb") as handle:
            written = os.fstat(handle.fileno()).st_mtime
            content = handle.read(LARGEST_DOCUMENT)
    except OSError:
        content, written = b"", 0.0
    is_recent = abs(time.time() - written) < HALF_WRITTEN_SECONDS
    if is_recent and file.name != layout.DELETED and layout.parse_json(content) is None:
        return False
    file.content = content
    writer.replace(run, file.name, content)
    return True


def _read_stream(
    run: Run, file: RunFile, path: Path, info: os.stat_result, most: int
) -> tuple[writer.Piece, bool]:
    """The next piece, and whether the end of the file was reached."""
    try:
        handle = path.open("rb")
    except OSError:  # gone or unreadable: the next look decides
        return writer.read(run, file, b""), True
    with handle:
        if file.offset and _was_replaced(file, handle, info):
            writer.forget(run, file)
        handle.seek(file.offset)
        data = handle.read(most)
        while len(data) >= most and b"\n" not in data[-most:] and len(data) < writer.MAX_LINE:
            if not (more := handle.read(most)):
                break
            data += more
        piece = writer.read(run, file, data)
        return piece, file.offset + most > handle.tell() and not handle.read(1)


def _was_replaced(file: RunFile, handle: BinaryIO, info: os.stat_result) -> bool:
    """Whether what lies before the offset is no longer what was read from there."""
    if info.st_size < file.offset:
        return True
    if info.st_size == file.offset and file.inode not in ("", str(info.st_ino)):
        return True
    head, tail = bytes(file.head), bytes(file.tail)
    if handle.read(len(head)) != head:
        return True
    handle.seek(file.offset - len(tail))
    return handle.read(len(tail)) != tail
