"""What people keep about runs (tags, notes, archived, pinned), asked and acted on.

The records are those of the storage root (``tags.records``). A run on disk that has none is known
all the same, by what its folder says.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from . import actions, tags
from .models import Run
from .querysets import RunQuerySet


def tags_of(run: Run) -> list[str]:
    """The tags of *run*, in the order they were given."""
    noted = _record(run.run_id).get("tags")
    return [tag for tag in noted if isinstance(tag, str)] if isinstance(noted, list) else []


def search(
    runs: RunQuerySet,
    *,
    project: str | None = None,
    tags: Sequence[str] = (),
    text: str = "",
    archived: bool = False,
) -> list[dict[str, Any]]:
    """The records of those of *runs* that match, the latest changed first.

    All *tags* are required. *text* may stand in name, project, description or a tag, in any case.
    With *archived* archived runs are found as well as the others.
    """
    found = []
    text = text.lower()
    for run in runs.select_related("project").defer("listing_key").in_listing_order().iterator():
        noted, labels = _record(run.run_id), tags_of(run)
        record: dict[str, Any] = {
            "id": run.run_id,
            "project": run.project.name if run.project else None,
            "name": run.name,
            "tags": labels,
            "description": run.notes or None,
            "created_at": _number(noted.get("created_at"), run.created_time),
            "updated_at": _number(noted.get("updated_at"), run.created_time),
            "archived": noted.get("archived") is True,
            "pinned": noted.get("pinned") is True,
        }
        texts = (record["name"], record["project"], record["description"], *labels)
        if (
            (archived or not record["archived"])
            and (project is None or record["project"] == project)
            and set(tags) <= set(labels)
            and (not text or any(text in t.lower() for t in texts if t))
        ):
            found.append(record)
    return sorted(found, key=lambda record: record["updated_at"] or 0, reverse=True)


def unchanged(runs: RunQuerySet, *, days: float) -> list[Run]:
    """Those of *runs* that have ended and in which nothing has changed for *days*.

    Pinned and archived ones are left out.
    """
    before = time.time() - days * 24 * 3600
    found = []
    for run in runs.exclude(status=Run.Status.RUNNING).in_listing_order().iterator():
        noted = _record(run.run_id)
        ended = run.ended_at.timestamp() if run.ended_at else None
        changed = _number(noted.get("updated_at"), ended or run.created_time)
        if (changed or 0) < before and not (noted.get("pinned") or noted.get("archived")):
            found.append(run)
    return found


def delete(runs: Iterable[Run], *, force: bool, by: Any) -> set[str]:
    """Remove *runs* for good, pinned ones only with *force*; the ids of those that are gone."""
    doomed = [run for run in runs if force or _record(run.run_id).get("pinned") is not True]
    actions.soft_delete_runs((r for r in doomed if not r.is_deleted), by=by, reason="deleted")
    deleted = Run.objects.deleted().filter(pk__in=[run.pk for run in doomed])
    actions.purge_runs(list(deleted), by=by)
    left = set(Run.objects.filter(pk__in=[run.pk for run in doomed]).values_list("pk", flat=True))
    return {run.run_id for run in doomed if run.pk not in left}


def _record(run_id: str) -> dict[str, Any]:
    record = tags.records().get(run_id)
    return record if isinstance(record, dict) else {}


def _number(noted: object, otherwise: float | None) -> float | None:
    is_number = isinstance(noted, int | float) and not isinstance(noted, bool)
    return noted if is_number else otherwise  # type: ignore[return-value]
