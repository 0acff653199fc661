"""The import of archives into the storage root."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

from django.conf import settings

from core.access import record
from runicorn import archive

from .ingest import folder_source

BATCH_RUNS = 64
INDEX_SECONDS = 10
"""How long an import waits for its runs to be indexed; the rest follows in the background."""


def import_archive(
    file: IO[bytes], *, by: Any, replace: bool = False, dry_run: bool = False
) -> archive.Report:
    """Import the runs and artifacts of an archive, and index them at once.

    Raises the exceptions of ``runicorn.archive.import_archive``.
    """
    report = archive.import_archive(
        file,
        settings.RUNICORN_STORAGE_ROOT,
        replace=replace,
        dry_run=dry_run,
        limits=archive.Limits(bytes=settings.RUNICORN_IMPORT_MAX_UNPACKED_BYTES),
    )
    if not dry_run:
        _index(report)
        counted = f"{len(report.new_runs)} new runs, {len(report.replaced)} replaced"
        record(by, "archive.import", counted)
    return report


def _index(report: archive.Report) -> None:
    deadline = time.monotonic() + INDEX_SECONDS
    for batch in _batches(report.new_runs):
        if time.monotonic() < deadline:
            folder_source.index_new(batch)
    for directory in filter(archive.is_run, report.replaced):
        if time.monotonic() < deadline:
            folder_source.index_run(directory)


def _batches(directories: list[str]) -> Iterator[list[str]]:
    remaining = iter(directories)
    while batch := list(islice(remaining, BATCH_RUNS)):
        yield batch
