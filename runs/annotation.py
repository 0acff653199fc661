"""Index the annotations of runs: the notes, tags, display names and pins that people add.

They are in each run's ``annotations.json``, or in 0.4's ``.experiments_metadata.json`` if a run has
no such file or that record is newer (``runicorn.run_store``). Readers use the index.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import transaction

from runicorn import layout, run_store

from .finding import fulltext
from .ingest.documents import storable
from .models import Run, Tag

logger = logging.getLogger("runicorn.runs")

LONGEST_TAG = 255
_AT_ONCE = 500

_indexed_records: dict[str, dict[str, Any]] = {}
"""The records of 0.4's file that the index has, by storage root."""


def describe(run: Run, content: bytes | None, meta: dict[str, Any]) -> list[str] | None:
    """Set the run's columns, including the searched text, from its annotations; return its tags.

    The caller saves both. *content* is the run's ``annotations.json``, None without one. If it is
    damaged, the run keeps its annotations and None is returned.
    """
    stored = layout.parse_json(content) if content is not None else None
    if content is not None and stored is None:
        logger.warning("%s/%s is damaged.", run.directory, layout.ANNOTATIONS)
        tags_before = run.tags.values_list("key", flat=True) if run.pk is not None else ()
        run.search_text = fulltext.text_of(run, tags_before)
        return None
    record = run_store.experiments_file(settings.RUNICORN_STORAGE_ROOT).record(run.run_id)
    annotations = run_store.merged(stored, record, meta)
    run.notes = storable(annotations.notes, None)
    run.display_name = storable(annotations.display_name)
    run.pinned, run.archived = annotations.pinned, annotations.archived
    run.annotated_at = annotations.updated_at
    tags = list(dict.fromkeys(storable(tag, LONGEST_TAG) for tag in annotations.tags))
    run.search_text = fulltext.text_of(run, tags)
    return tags


def write_tags(tags_by_run: dict[int, list[str]]) -> None:
    """Give runs, by key, exactly these tags in this order, in few statements."""
    indexed_tags: dict[int, list[tuple[int, str]]] = {}
    rows = Tag.objects.filter(run__in=tags_by_run).order_by("pk")
    for run, pk, key in rows.values_list("run_id", "pk", "key"):
        indexed_tags.setdefault(run, []).append((pk, key))
    outdated: list[int] = []
    missing: list[Tag] = []
    for run, tags in tags_by_run.items():
        # Their order is that of their keys: tags after the first difference are created again.
        equal_count = 0
        for (_, key), tag in zip(indexed_tags.get(run, []), tags, strict=False):
            if key != tag:
                break
            equal_count += 1
        outdated += [pk for pk, _ in indexed_tags.get(run, [])[equal_count:]]
        missing += [Tag(run_id=run, key=tag) for tag in tags[equal_count:]]
    if outdated:
        Tag.objects.filter(pk__in=outdated).delete()
    Tag.objects.bulk_create(missing)


def follow_experiments_file() -> None:
    """Bring runs up to date whose records in 0.4's file any program has changed."""
    root = str(settings.RUNICORN_STORAGE_ROOT)
    indexed = _indexed_records.get(root)
    records = run_store.experiments_file(root).records()
    if records is indexed:
        return
    if indexed is None:
        run_ids = _outdated(records)
    else:
        run_ids = {i for i in indexed.keys() | records.keys() if indexed.get(i) != records.get(i)}
    changed = sorted(run_ids)
    for start in range(0, len(changed), _AT_ONCE):
        _apply(changed[start : start + _AT_ONCE])
    _indexed_records[root] = records


def _outdated(records: dict[str, Any]) -> set[str]:
    """Return the ids of runs whose annotations in the index may differ from those in the file."""
    times = {i: run_store.of_record(record).updated_at for i, record in records.items()}
    rows = Run.objects.values_list("run_id", "annotated_at")
    run_ids = {i for i, at in rows.filter(annotated_at=0).iterator() if i in records}
    annotated = rows.exclude(annotated_at=0)
    unannotated = annotated.exclude(indexed_files__name=layout.ANNOTATIONS)
    run_ids |= {i for i, at in unannotated.iterator() if times.get(i) != at}
    return run_ids | {i for i, at in annotated.iterator() if times.get(i, 0) > at}


def _apply(run_ids: Iterable[str]) -> None:
    with transaction.atomic():
        runs = Run.objects.filter(run_id__in=run_ids).select_related("project")
        tags: dict[int, list[str]] = {}
        for run in runs.select_for_update(of=("self",)):
            file = run.indexed_files.filter(name=layout.ANNOTATIONS).first()
            content = bytes(file.content or b"") if file else None
            keys = describe(run, content, run.document(layout.META))
            if keys is not None:
                tags[run.pk] = keys
                run.save()
        write_tags(tags)
