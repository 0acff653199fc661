"""Queries for runs, in the terms of the domain."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import connection, models
from django.db.models.functions import Coalesce

from core.access import AccessQuerySet
from runicorn import heartbeats

from .finding import fulltext

if TYPE_CHECKING:
    from .models import Project, Run, TaggedRun  # noqa: F401  (named as text below)


def count_values() -> None:
    """Let SQLite collect the statistics by which it chooses between indexes.

    PostgreSQL does so by itself. It takes most of a second for 100,000 runs.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def contains(column: str, text: str) -> models.Q:
    """Return the condition that *column* contains *text*, ignoring case.

    SQLite's LIKE knows the cases of ASCII only; a regular expression knows all, but is slower.
    """
    has_more_cases = any(not c.isascii() and c.lower() != c.upper() for c in text)
    lookup, pattern = ("iregex", re.escape(text)) if has_more_cases else ("icontains", text)
    return models.Q(**{f"{column}__{lookup}": pattern})


def _of_each(condition: models.Q) -> models.Q:
    """Return *condition* with subqueries that are evaluated for one run after the other."""
    children: list[Any] = []
    for child in condition.children:
        if isinstance(child, models.Q):
            children.append(_of_each(child))
        elif child[0] == "pk__in" and isinstance(child[1], models.QuerySet):  # type: ignore[index]
            rows = child[1].filter(run=models.OuterRef("pk"))  # type: ignore[index]
            children.append(models.Exists(rows))
        else:
            children.append(child)
    return models.Q(*children, _connector=condition.connector, _negated=condition.negated)


def _related(model: type[models.Model], field: str) -> Any:
    """Return the model that *field* refers to; models are loaded after this module."""
    return model._meta.get_field(field).related_model


class ProjectQuerySet(AccessQuerySet["Project"]):
    def with_run_counts(self) -> Self:
        """Add ``active_runs`` and ``deleted_runs``, the numbers of listed and of deleted runs."""
        is_active = models.Q(runs__deleted_at__isnull=True)
        return self.annotate(
            active_runs=models.Count("runs", filter=is_active),
            deleted_runs=models.Count("runs", filter=~is_active),
        )


class RunQuerySet(AccessQuerySet["Run"]):
    scans_in_order = False
    """Whether databases scan the runs in order, and check each of them against the conditions.

    If most runs match, that fills a page after a few. If few match, or if they are counted, it is
    faster to look up the runs that match.
    """

    def _clone(self) -> Self:
        clone = super()._clone()  # type: ignore[misc]
        clone.scans_in_order = self.scans_in_order
        return clone

    def scan_in_order(self) -> Self:
        clone = self.all()
        clone.scans_in_order = True
        return clone

    def active(self) -> Self:
        """Keep runs that are not in the recycle bin."""
        return self.filter(deleted_at__isnull=True)

    def deleted(self) -> Self:
        """Keep runs in the recycle bin."""
        return self.filter(deleted_at__isnull=False)

    def running(self) -> Self:
        return self.filter(status="running")

    def judged_by_processes(self) -> Self:
        """Running, or lost not long ago: what became of their processes is to be looked at."""
        recently = datetime.now(UTC) - timedelta(days=7)
        is_lost = models.Q(status="failed", exit_reason=heartbeats.LOST, ended_at__gt=recently)
        return self.filter(models.Q(status="running") | is_lost)

    def full_text(self, text: str) -> Self:
        """Keep runs with each word of *text* in id, names, project, notes or tags; ignore case."""
        return self.filter(fulltext.containing(text, self.db))

    @property
    def is_everything(self) -> bool:
        """Return whether this is the whole table, so that statistics of the table apply."""
        return not self.query.where

    def tagged(self, *keys: str) -> Self:
        """Keep runs that have all of these tags."""
        if not keys:
            return self
        tags = _related(self.model, "tags").objects
        tagged = tags.filter(key=keys[0])
        for key in keys[1:]:
            tagged = tagged.filter(run__in=tags.filter(key=key).values("run"))
        if self.scans_in_order:
            # "id + 0" has no index: the runs are scanned in order, and each is looked up among
            # those with the tags.
            return self.alias(each=models.F("pk") + 0).filter(each__in=tagged.values("run"))
        return self.filter(pk__in=tagged.values("run"))

    def matching_q(self, condition: models.Q) -> Self:
        """Keep runs that match *condition*; evaluate its subqueries (``pk__in``) run by run if
        the runs are scanned in order."""
        return self.filter(_of_each(condition) if self.scans_in_order else condition)

    def sorted_by(self, column: str, *, descending: bool) -> Self:
        """Order by *column*, then by id in the same direction; runs without a value come last."""
        order = models.F(column)
        first = order.desc(nulls_last=True) if descending else order.asc(nulls_last=True)
        sign = "-" if descending else ""
        return self.order_by(first, f"{sign}run_id", f"{sign}id")

    def page(self, start: int, size: int, columns: tuple[str, ...]) -> list[tuple]:
        """Return *columns*, the primary key first, of *size* runs from *start* on.

        An index counts off the runs that are skipped, so that only those of the page are read.
        """
        keys = self.values_list("pk", flat=True)[start : start + size]
        return self.rows_of(list(keys), columns)

    def rows_of(self, keys: list[int], columns: tuple[str, ...]) -> list[tuple]:
        """Return *columns*, the primary key first, of the runs with these keys, in their order."""
        rows = self.model.objects.filter(pk__in=keys).values_list(*columns)
        by_key = {row[0]: row for row in rows}
        return [by_key[key] for key in keys if key in by_key]

    def counted_by(self, column: str) -> dict[Any, int]:
        """Return the number of runs for each value of *column*."""
        rows = self.order_by().values_list(column).annotate(count=models.Count("pk"))
        return dict(rows.order_by(column))

    def page_by_project(
        self,
        counts: Mapping[int | None, int],
        start: int,
        size: int,
        columns: tuple[str, ...],
        *,
        descending: bool,
    ) -> list[tuple]:
        """Return a page ordered by project name, then by id; runs without a project come last.

        *counts* (``counted_by("project")``) skips whole projects, so that only those on the page
        are read.
        """
        projects = _related(self.model, "project").objects.filter(pk__in=counts)
        order = projects.order_by("-name" if descending else "name").values_list("pk", flat=True)
        keys: list[int] = []
        for project in [*order, None]:
            count = counts.get(project, 0)
            if start < count and len(keys) < size:
                runs = self.filter(project=project).sorted_by("run_id", descending=descending)
                keys += runs.values_list("pk", flat=True)[start : start + size - len(keys)]
            start = max(0, start - count)
        return self.rows_of(keys, columns)

    def in_bulk_list(self, keys: list[int]) -> list[Run]:
        """Return the runs with these primary keys, in batches that any database accepts."""
        batches = (keys[start : start + 1000] for start in range(0, len(keys), 1000))
        return [run for batch in batches for run in self.filter(pk__in=batch)]

    def in_listing_order(self) -> Self:
        """Order by project, experiment, and newest folder first; the legacy layout comes last."""
        return self.order_by("listing_key", "-directory_mtime", "id")

    def directories(self) -> models.QuerySet[Run, Any]:
        """Return the folders of these runs."""
        return self.values_list("directory", flat=True)

    def newest_first(self) -> Self:
        return self.order_by(models.F("created_at").desc(nulls_last=True), "-id")

    def with_changed(self) -> Self:
        """Add ``changed``, the time of the last change by a person or the run itself."""
        by_people = models.Case(models.When(annotated_at__gt=0, then="annotated_at"))
        return self.annotate(changed=Coalesce(by_people, "created_time"))

    def last_changed_first(self) -> Self:
        return self.with_changed().order_by(models.F("changed").desc(nulls_last=True), "-pk")

    def unchanged(self, days: float) -> Self:
        """Keep runs that have ended and not changed for *days*, neither pinned nor archived."""
        before = time.time() - days * 24 * 3600
        at = datetime.fromtimestamp(max(before, 0), UTC)
        # The age of an annotated run counts from its annotations, that of any other from its end.
        old = (
            models.Q(annotated_at__gt=0, annotated_at__lt=before)
            | models.Q(annotated_at=0, ended_at__lt=at)
            | models.Q(annotated_at=0, ended_at=None, created_time__lt=before)
            | models.Q(annotated_at=0, ended_at=None, created_time=None)
        )
        protected = models.Q(pinned=True) | models.Q(archived=True) | models.Q(status="running")
        return self.filter(old).exclude(protected)

    def by_id(self, run_id: str, directory: str | None = None) -> Run | None:
        """Return the run with that id, or the one in *directory*. Of several copies, return the
        one whose files name its folder, else the oldest."""
        copies = self.copies(run_id, directory)
        if len(copies) < 2:
            return copies[0] if copies else None
        return min(copies, key=lambda run: (not run.is_at_home, run.directory_mtime, run.directory))

    def copies(self, run_id: str, directory: str | None = None) -> list[Run]:
        """Return the runs with that id: more than one if a run's folder was copied."""
        runs = self.filter(run_id=run_id)
        if directory is not None:
            runs = runs.filter(directory=directory.strip("/"))
        if "\x00" in run_id + (directory or ""):  # PostgreSQL rejects such a query
            return []
        return list(runs)


class TaggedRunQuerySet(AccessQuerySet["TaggedRun"]):
    def of_all(self, keys: list[str]) -> Self:
        """Return a row for each run that has all of these tags."""
        rows = self.filter(key__in=keys[:1])
        for key in keys[1:]:
            same_run = {name: models.OuterRef(name) for name in ("created_time", "name", "run_id")}
            rows = rows.filter(models.Exists(self.filter(key=key, **same_run)))
        return rows

    def newest_first(self) -> Self:
        """Order as the V2 list: by time, then by the run's own id, then by primary key."""
        return self.order_by("-created_time", "-name", "-run")
