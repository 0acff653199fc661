"""What people keep about runs, brought from the files into the index.

It lies in each run's ``annotations.json``, or in 0.4's ``.experiments_metadata.json`` for runs
without one and where that was changed later (``runicorn.run_store``). Readers ask the index.
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

_followed: dict[str, dict[str, Any]] = {}
"""The records of 0.4's file, by storage root, as the index has them."""


def describe(run: Run, content: bytes | None, meta: dict[str, Any]) -> list[str] | None:
    """Set the run's columns from its annotations, and what a search looks through; return its tags.
    The caller saves both.

    *content*: its ``annotations.json``, None if there is none. None if that is damaged: what is
    known of the run stays.
    """
    stored = layout.parse_json(content) if content is not None else None
    if content is not None and stored is None:
        logger.warning("%s/%s is damaged.", run.directory, layout.ANNOTATIONS)
        known = run.tags.values_list("key", flat=True) if run.pk is not None else ()
        run.search_text = fulltext.text_of(run, known)
        return None
    record = run_store.experiments_file(settings.RUNICORN_STORAGE_ROOT).record(run.run_id)
    noted = run_store.merged(stored, record, meta)
    run.notes = storable(noted.notes, None)
    run.display_name = storable(noted.display_name)
    run.pinned, run.archived = noted.pinned, noted.archived
    run.annotated_at = noted.updated_at
    tags = list(dict.fromkeys(storable(tag, LONGEST_TAG) for tag in noted.tags))
    run.search_text = fulltext.text_of(run, tags)
    return tags


def write_tags(tags_by_run: dict[int, list[str]]) -> None:
    """Give runs, by key, exactly these tags in this order; few statements for many runs."""
    known: dict[int, list[tuple[int, str]]] = {}
    rows = Tag.objects.filter(run__in=tags_by_run).order_by("pk")
    for run, pk, key in rows.values_list("run_id", "pk", "key"):
        known.setdefault(run, []).append((pk, key))
    outdated: list[int] = []
    missing: list[Tag] = []
    for run, tags in tags_by_run.items():
        # Their order is that of their keys: what follows on the first difference is made anew.
        same = 0
        for (_, key), tag in zip(known.get(run, []), tags, strict=False):
            if key != tag:
                break
            same += 1
        outdated += [pk for pk, _ in known.get(run, [])[same:]]
        missing += [Tag(run_id=run, key=tag) for tag in tags[same:]]
    if outdated:
        Tag.objects.filter(pk__in=outdated).delete()
    Tag.objects.bulk_create(missing)


def follow_experiments_file() -> None:
    """Bring the runs up to date whose records in 0.4's file were changed, by whomever."""
    root = str(settings.RUNICORN_STORAGE_ROOT)
    known = _followed.get(root)
    records = run_store.experiments_file(root).records()
    if records is known:
        return
    if known is None:
        run_ids = _outdated(records)
    else:
        run_ids = {i for i in known.keys() | records.keys() if known.get(i) != records.get(i)}
    changed = sorted(run_ids)
    for start in range(0, len(changed), _AT_ONCE):
        _apply(changed[start : start + _AT_ONCE])
    _followed[root] = records


def _outdated(records: dict[str, Any]) -> set[str]:
    """The ids of runs that the index may know less of than the file, or more."""
    times = {i: run_store.of_record(record).updated_at for i, record in records.items()}
    rows = Run.objects.values_list("run_id", "annotated_at")
    run_ids = {i for i, at in rows.filter(annotated_at=0).iterator() if i in records}
    noted = rows.exclude(annotated_at=0)
    unannotated = noted.exclude(indexed_files__name=layout.ANNOTATIONS)
    run_ids |= {i for i, at in unannotated.iterator() if times.get(i) != at}
    return run_ids | {i for i, at in noted.iterator() if times.get(i, 0) > at}


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
