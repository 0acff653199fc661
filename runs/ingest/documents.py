"""The small files of a run, indexed as columns and rows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from metrics.read import best_values
from metrics.rows import insert
from runicorn import layout

from ..models import Param, Project, Run, SummaryValue, as_json, to_datetime

INT64 = 2**63

Documents = Sequence[tuple[Run, bytes | None]]
"""Several runs, and the content of a document of each; None if it was removed."""


def describe(run: Run, name: str, content: bytes | None) -> None:
    """Bring the run's columns up to date with one of its small files (None: it was removed).

    The caller saves *run* and the content; ``document_writers`` writes rows of the content.
    """
    if name == layout.DELETED and content is None and not layout.is_recycled(run.directory):
        run.deleted_at, run.delete_reason, run.original_status = None, "", ""
        run.deleted_by = ""
    elif describe_by := _DESCRIBE.get(name):
        describe_by(run, (layout.parse_json(content) if content else None) or {})


def save_projects(runs: Iterable[Run]) -> None:
    """Find or create the rows of the projects that these runs' files name."""
    named = [run for run in runs if run.project is not None and run.project.pk is None]
    if not named:
        return
    names = {run.project.name for run in named if run.project}
    projects = Project.objects.in_bulk(names, field_name="name")
    if missing := names - projects.keys():
        Project.objects.bulk_create([Project(name=n) for n in missing], ignore_conflicts=True)
        projects |= Project.objects.in_bulk(missing, field_name="name")
    for run in named:
        run.project = projects[run.project.name] if run.project else None


def save_best(runs: Iterable[Run]) -> None:
    """Bring the best value of unfinished runs up to date with their logged values.

    Their summary names the metric, but has its value only when they finish.
    """
    by_pk = {
        run.pk: run
        for run in runs
        if run.best_metric_name
        and run.best_metric_mode in ("max", "min")
        and (run.status != Run.Status.FINISHED or run.best_metric_value is None)
    }
    if not by_pk:
        return
    best_metrics = {
        pk: (run.best_metric_name or "", run.best_metric_mode) for pk, run in by_pk.items()
    }
    better = []
    for pk, (value, step) in best_values(best_metrics).items():
        run = by_pk[pk]
        best = run.best_metric_value
        if best is None or (value > best if run.best_metric_mode == "max" else value < best):
            run.best_metric_value, run.best_metric_step = value, step
            better.append(run)
    Run.objects.bulk_update(better, ["best_metric_value", "best_metric_step"])


def _describe_meta(run: Run, meta: dict[str, Any]) -> None:
    _place(run, *layout.place_of_run(run.directory or "", meta))
    run.pid = _integer(meta.get("pid"))
    run.hostname = text(meta.get("hostname")) or ""
    created = _number(meta.get("created_at"))
    run.date(run.directory_mtime if created is None or to_datetime(created) is None else created)


def _place(run: Run, project: str | None, name: str | None) -> None:
    project, run.name = text(project), text(name)
    if project is None:
        run.project = None
    elif run.project is None or run.project.name != project:
        run.project = Project(name=project)  # ``save_projects`` finds its row


def _describe_status(run: Run, status: dict[str, Any]) -> None:
    run.status = text(status.get("status")) or Run.Status.FINISHED
    run.started_at = to_datetime(status.get("started_at"))
    run.ended_at = to_datetime(status.get("ended_at"))
    run.duration = None
    if run.started_at and run.ended_at:
        run.duration = (run.ended_at - run.started_at).total_seconds()
    run.exit_reason = text(status.get("exit_reason")) or ""


def _describe_summary(run: Run, summary: dict[str, Any]) -> None:
    run.best_metric_name = text(summary.get("best_metric_name"), 1024)
    run.best_metric_value = _number(summary.get("best_metric_value"))
    run.best_metric_step = _integer(summary.get("best_metric_step"))
    run.best_metric_mode = text(summary.get("best_metric_mode"), 8) or ""


def _describe_deleted(run: Run, marker: dict[str, Any]) -> None:
    run.deleted_at = to_datetime(marker.get("deleted_at")) or to_datetime(run.directory_mtime)
    run.delete_reason = text(marker.get("reason")) or "unknown"
    run.original_status = text(marker.get("original_status")) or "unknown"
    run.deleted_by = text(marker.get("deleted_by")) or ""
    if layout.is_recycled(run.directory) and isinstance(marker.get("original_path"), str):
        _place(run, *layout.place_of_run(run.directory, {}, marker))


def _describe_created(run: Run, record: dict[str, Any]) -> None:
    run.artifacts_created_count = _length(record)


def _describe_used(run: Run, record: dict[str, Any]) -> None:
    run.artifacts_used_count = _length(record)


def _length(record: dict[str, Any]) -> int:
    entries = record.get("artifacts")
    return len(entries) if isinstance(entries, list) else 0


_DESCRIBE: dict[str, Callable[[Run, dict[str, Any]], None]] = {
    layout.META: _describe_meta,
    layout.STATUS: _describe_status,
    layout.SUMMARY: _describe_summary,
    layout.DELETED: _describe_deleted,
    layout.ARTIFACTS_CREATED: _describe_created,
    layout.ARTIFACTS_USED: _describe_used,
}


def write_leaves(model: Any, documents: Documents) -> None:
    """Bring the rows of a JSON document, Param or SummaryValue, up to date."""
    model._default_manager.filter(run__in=[run.pk for run, _ in documents]).delete()
    insert(
        model,
        ("run", "key", "value", "number"),
        [
            (run.pk, key, as_json(value), _number(value))
            for run, content in documents
            for key, value in layout.flatten(
                (layout.parse_json(content) if content else None) or {}
            ).items()
            if text(key, 500) == key
        ],
    )


document_writers: dict[str, Callable[[Documents], None]] = {
    layout.CONFIG: partial(write_leaves, Param),
    layout.SUMMARY: partial(write_leaves, SummaryValue),
}
"""By document, the function that writes rows of its content, after the runs are saved."""


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def text(value: object, limit: int = 255) -> str | None:
    """Return a text as every database can store it, cut to *limit*; None for anything else."""
    return storable(value, limit) if isinstance(value, str) else None


def storable(value: str, limit: int | None = 255) -> str:
    """Return *value* as every database can store it, cut to *limit* characters."""
    return _UNSTORABLE.sub("�", value)[:limit]


def _number(value: object) -> float | None:
    """Return a finite number; None for anything else, including NaN and infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -INT64 < value < INT64 else None
