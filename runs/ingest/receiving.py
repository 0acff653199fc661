"""Runs that are sent to the server: written to the storage folder and indexed in one step.

Clients that push, including those of foreign protocols, send bytes of a file from an offset. The
bytes go to the run's file first, under its lock, and are indexed from there: the result is a run
folder like any other, and the index can be made again from it.
"""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings

from core import access
from runicorn import layout

from ..files import Gap
from ..models import Run
from . import folder_source
from .writer import OffsetMismatch


def open_run(project: str, name: str, run_id: str, meta: dict[str, Any], *, by: Any) -> Run:
    """Return the run with that id in an experiment; create its folder with *meta* if missing.

    Raises ValueError for a name that no folder may have.
    """
    layout.check_name("project", project)
    layout.check_name("name", name)
    if not layout.is_run_id(run_id):
        raise ValueError(f"Invalid run id {run_id[:120]!r}: write YYYYMMDD_HHMMSS_XXXXXX.")
    directory = f"{project}/{name}/{layout.RUNS}/{run_id}"
    folder = settings.RUNICORN_STORAGE_ROOT / directory
    folder.mkdir(parents=True, exist_ok=True)
    with layout.locked(folder / layout.META):
        if not (folder / layout.META).exists():
            names = {"id": run_id, "project": project, "name": name}
            created = {"created_at": time.time(), **meta, **names}
            layout.write_json(folder / layout.META, created)
            access.record(by, "run.create", run_id)
    folder_source.index_run(directory)
    return Run.objects.get(directory=directory)


def receive(run: Run, name: str, offset: int, data: bytes) -> int:
    """Write the bytes *data* of the stream *name* at *offset*, and index them.

    Return the new size of the file. Bytes that exist already are skipped. Raises OffsetMismatch
    for a gap, ValueError for a file that is not a stream.
    """
    if layout.stream_of(name) is None:
        raise ValueError(f"{name[:120]!r} is no stream: write {', '.join(layout.STREAMS)}.")
    try:
        size = run.files.append(name, offset, data)
    except Gap as gap:
        raise OffsetMismatch(gap.expected) from gap
    folder_source.index_run(run.directory)
    return size


def receive_document(run: Run, name: str, content: bytes) -> None:
    """Write a document of the run as a whole, and index it.

    Raises ValueError for a file that is not a document, or content that is not a JSON object.
    """
    if name not in layout.DOCUMENTS:
        raise ValueError(f"{name[:120]!r} is no document of a run.")
    if layout.parse_json(content) is None:
        raise ValueError(f"{name} must be a JSON object.")
    with run.files.locked(name):
        run.files.replace(name, content)
    folder_source.index_run(run.directory)
