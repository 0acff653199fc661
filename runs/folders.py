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
                run = _new_run(directory, files["."])
            else:
                run = Run.objects.select_for_update().get(pk=run.pk)
            return _read(run, path, files)
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
    project, name, run_id = layout.split_run_dir(directory) or (None, None, directory)
    run = Run(
        run_id=run_id,
        directory=directory,
        directory_mtime=folder.st_mtime,
        listing_key=listing_key(project, name),
    )
    ingest.replace(run, layout.META, None)
    run.save(force_insert=True)
    tags.apply(run)
    return run


def listing_key(project: str | None, name: str | None) -> bytes:
    """Sorts as v0.4 lists: by project and experiment in lower case, the legacy layout last."""
    if project is None or name is None:
        return b"\x01"
    return b"\x00%s\x00%s" % (project.lower().encode(), name.lower().encode())


def _read(run: Run, path: Path, files: dict[str, os.stat_result]) -> bool:
    """Take in what changed; the caller holds *run* locked. Returns whether more is left."""
    known = {file.name: file for file in run.files.defer("content")}
    more = False
    touched: list[RunFile] = []

    if run.directory_mtime != files["."].st_mtime:
        dated_by_folder = run.created_time == run.directory_mtime
        run.directory_mtime = files["."].st_mtime
        if dated_by_folder:
            ingest.replace(run, layout.META, dumped(known.get(layout.META)))
    for name in known.keys() - files.keys():
        known[name].delete()
        if name in layout.STREAMS:
            ingest.forget(run, known[name])
        else:
            ingest.replace(run, name, None)
    for name, info in files.items():
        file = known.get(name) or RunFile(run=run, name=name)
        if name == "." or [file.size, file.mtime_ns, file.inode] == _mark(info):
            continue
        if name in layout.DOCUMENTS:
            whole = _read_document(run, file, path / name, info)
        else:
            whole = _read_stream(run, file, path / name, info)
            more = more or not whole
        file.size, file.mtime_ns, file.inode = _mark(info)
        if not whole:
            file.mtime_ns = 0  # look at it again
        touched.append(file)

    run.save()
    RunFile.objects.bulk_create([file for file in touched if file.pk is None])
    for file in touched:
        if not file._state.adding:
            file.save()
    return more


def dumped(file: RunFile | None) -> bytes | None:
    return bytes(file.content) if file and file.content is not None else None


def _read_document(run: Run, file: RunFile, path: Path, info: os.stat_result) -> bool:
    """Returns False if the file seems to be half written: what was known stays for now."""
    try:
        content = path.read_bytes() if info.st_size <= LARGEST_DOCUMENT else b""
    except OSError:
        content = b""
    recent = abs(time.time() - info.st_mtime) < HALF_WRITTEN_SECONDS
    if recent and file.name != layout.DELETED and layout.parse_json(content) is None:
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
