"""Tags and notes, kept where v0.4 keeps them: the root's ``.experiments_metadata.json``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.conf import settings

from runicorn import layout

from .finding import fulltext
from .models import Run, Tag

_cached: tuple[tuple[Path, int, int], dict[str, Any]] | None = None


def apply(run: Run) -> None:
    """Give *run* the tags and notes that the storage root has for it."""
    record = records().get(run.run_id)
    if not isinstance(record, dict):
        record = {}
    tags = record.get("tags")
    keys = {tag[:255] for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()
    notes = record.get("description")
    notes = notes if isinstance(notes, str) else ""
    current = set(run.tags.values_list("key", flat=True))
    run.tags.filter(key__in=current - keys).delete()
    Tag.objects.bulk_create(Tag(run=run, key=key) for key in keys - current)
    if run.notes != notes:
        run.notes = notes
        run.search_text = fulltext.text_of(run)
        run.save(update_fields=["notes", "search_text"])


def apply_all() -> None:
    """After the file changed: bring every run that it names, or that had tags, up to date."""
    for run in Run.objects.filter(run_id__in=list(records())) | Run.objects.exclude(tags=None):
        apply(run)


def write(run: Run, changes: dict[str, Any]) -> None:
    """Merge *changes* into the record of *run* in the storage root."""
    path = _path()
    now = time.time()
    with layout.locked(path):
        records = layout.read_json(path)
        old = records.get(run.run_id)
        records[run.run_id] = {
            "id": run.run_id,
            "project": run.project.name if run.project else None,
            "name": run.name,
            "tags": [],
            "description": None,
            "created_at": now,
            **(old if isinstance(old, dict) else {}),
            **changes,
            "updated_at": now,
            **{
                flag: bool(old.get(flag)) if isinstance(old, dict) else False
                for flag in ("archived", "pinned")
            },
        }
        layout.write_json(path, records)


def _path() -> Path:
    return settings.RUNICORN_STORAGE_ROOT / layout.EXPERIMENTS_METADATA


def records() -> dict[str, Any]:
    """The records by run id, read again only when the file changed."""
    global _cached
    path = _path()
    try:
        info = path.stat()
        mark = (path, info.st_mtime_ns, info.st_size)
    except OSError:
        return {}
    if _cached is None or _cached[0] != mark:
        _cached = (mark, layout.read_json(path))
    return _cached[1]
