"""Runs whose folders were copied, under the same id: readers get one, nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable

from core.http.exceptions import Conflict
from runicorn.run_store import AmbiguousRun
from runs.models import Run


def refuse_copies(runs: Iterable[Run]) -> None:
    """Raise a 409 if two of *runs* have the same id, which does not say which one to change."""
    directories: dict[str, list[str]] = {}
    for run in runs:
        directories.setdefault(run.run_id, []).append(run.directory or "")
    for run_id, folders in directories.items():
        if len(folders) > 1:
            raise Conflict(str(AmbiguousRun(run_id, sorted(folders))))
