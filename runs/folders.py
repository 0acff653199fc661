"""Directory-backed runs: bring the index up to date with one folder below the storage root.

Reads only what changed, a bounded piece at a time, and hands it to ``ingest``.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.db import IntegrityError, transaction

from runicorn import layout

from . import ingest, tags
from .models import Run, RunFile

PIECE = 4 * 2**20
"""Bytes of a growing file that are read in one transaction."""

LARGEST_DOCUMENT = 64 * 2**20
HALF_WRITTEN_SECONDS = 2
"""A document that is no JSON and was written this recently is looked at again before it counts."""

REFRESH_SECONDS = 2
"""How long a reader waits for a large change to be taken in; the rest follows in the background."""

_NAMES = frozenset(layout.DOCUMENTS + layout.STREAMS)
_ON_THE_ROW = frozenset(layout.DOCUMENTS) - {layout.CONFIG}
"""Documents that describe the run's own row, and no other table."""


def take_in(directory: str) -> bool:
    """Bring the run in *directory* (relative to the storage root) up to date with its files.

    Returns whether more is left to read. A folder that is gone takes its row with it.
    """
    path = settings.RUNICORN_STORAGE_ROOT / directory
    files = _look(path)
    run = Run.objects.filter(directory=directory).first()
    if files is None:
        if run is not None:
            run.delete()
        return False
    if run is not None and not _changed(run, files):
        return False
    try:
        with transaction.atomic():
            if run is None:
                return _take_in_changes(_new_run(directory, files["."]), path, files, {})
            run = Run.objects.select_for_update().get(pk=run.pk)
            known = {file.name: file for file in run.files.defer("content")}
            return _take_in_changes(run, path, files, known)
    except (IntegrityError, Run.DoesNotExist):  # another process was first; see what it left
        return True


def refresh(run: Run | None) -> Run | None:
    """*run* as its folder says now; None if it is gone."""
    if run is None or run.directory is None:
        return run
    deadline = time.monotonic() + REFRESH_SECONDS
    while take_in(run.directory) and time.monotonic() < deadline:
        pass
    return Run.objects.filter(pk=run.pk).first()


def _look(path: Path) -> dict[str, os.stat_result] | None:
    """The files of the run that are there, and the folder itself as ``.``; None if it is gone."""
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
        return files
    except (FileNotFoundError, NotADirectoryError):
        return None


def _changed(run: Run, files: dict[str, os.stat_result]) -> bool:
    known = {
        name: mark for name, *mark in run.files.values_list("name", "size", "mtime_ns", "inode")
    }
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
    ingest.replace(run, layout.META, None)
    return run


def listing_key(project: str | None, name: str | None) -> bytes:
    """Sorts as v0.4 lists: by project and experiment in lower case, the legacy layout last."""
    if project is None or name is None:
        return b"\x01"
    return b"\x00%s\x00%s" % (project.lower().encode(), name.lower().encode())


def _take_in_changes(
    run: Run, path: Path, files: dict[str, os.stat_result], known: dict[str, RunFile]
) -> bool:
    """Read what differs from *known*; the caller holds *run* locked, or it is not written yet.

    Returns whether more is left to read.
    """
    changed = [
        known.get(name) or RunFile(name=name)
        for name, info in files.items()
        if name != "." and (name not in known or _mark_of(known[name]) != _mark(info))
    ]
    gone = [known[name] for name in known.keys() - files.keys()]

    if run.directory_mtime != files["."].st_mtime:
        is_dated_by_folder = run.created_time == run.directory_mtime
        run.directory_mtime = files["."].st_mtime
        if is_dated_by_folder:
            run.date(run.directory_mtime)
    for file in gone:
        if file.name in layout.STREAMS:
            ingest.forget(run, file)
        else:
            ingest.replace(run, file.name, None)
        file.delete()

    # What the row itself says comes first: a new one is then written once.
    is_whole = {f.name: _read_document(run, f, path) for f in changed if f.name in _ON_THE_ROW}
    if run.pk is None:
        run.save(force_insert=True)
        if run.run_id in tags.records():
            tags.apply(run)
        counted = (run.event_count, run.unreadable_lines)
    else:
        counted = None
    for file in changed:
        file.run = run
        if file.name in layout.STREAMS:
            is_whole[file.name] = _read_stream(run, file, path / file.name, files[file.name])
        elif file.name not in _ON_THE_ROW:
            is_whole[file.name] = _read_document(run, file, path)
        file.size, file.mtime_ns, file.inode = _mark(files[file.name])
        if not is_whole[file.name]:
            file.mtime_ns = 0  # look at it again

    if counted is None:
        run.save()
    elif counted != (run.event_count, run.unreadable_lines):
        run.save(update_fields=["event_count", "unreadable_lines"])
    for file in changed:
        if file.pk is not None:
            file.save()
    RunFile.objects.bulk_create([file for file in changed if file.pk is None])
    return any(not is_whole[name] for name in layout.STREAMS if name in is_whole)


def _mark_of(file: RunFile) -> list[int | str]:
    return [file.size, file.mtime_ns, file.inode]


def _read_document(run: Run, file: RunFile, folder: Path) -> bool:
    """Returns False if the file seems to be half written: what was known stays for now."""
    try:
        with (folder / file.name).open("rb") as handle:
            written = os.fstat(handle.fileno()).st_mtime
            content = handle.read(LARGEST_DOCUMENT)
    except OSError:
        content, written = b"", 0.0
    is_recent = abs(time.time() - written) < HALF_WRITTEN_SECONDS
    if is_recent and file.name != layout.DELETED and layout.parse_json(content) is None:
        return False
    file.content = content
    ingest.replace(run, file.name, content)
    return True


def _read_stream(run: Run, file: RunFile, path: Path, info: os.stat_result) -> bool:
    """Read the next piece; returns whether the end of the file was reached."""
    try:
        handle = path.open("rb")
    except OSError:
        return True  # gone or unreadable: the next look decides
    with handle:
        if file.offset and _was_replaced(file, handle, info):
            ingest.forget(run, file)
        handle.seek(file.offset)
        data = handle.read(PIECE)
        while len(data) >= PIECE and b"\n" not in data[-PIECE:] and len(data) < ingest.MAX_LINE:
            if not (piece := handle.read(PIECE)):
                break
            data += piece
        ingest.grow(run, file, data)
        return file.offset + PIECE > handle.tell() and not handle.read(1)


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
