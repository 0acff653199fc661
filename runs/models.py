from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from runicorn import layout
from runicorn.run_store import living

from .files import RunFiles
from .finding import tagged
from .querysets import ProjectQuerySet, RunQuerySet, TaggedRunQuerySet


class Project(models.Model):
    """The top folder of runs, and the unit of access for teams."""

    name = models.CharField(_("name"), max_length=255, unique=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        verbose_name = _("project")
        verbose_name_plural = _("projects")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Run(models.Model):
    """One execution of a program that logs.

    The run's folder is the truth; this row indexes it and can be deleted and made again.

    A run with ``deleted_at`` is in the recycle bin. It keeps its folder and its id, so that
    restoring never collides; only ``actions.purge_runs`` removes it.
    """

    class Status(models.TextChoices):
        """The state of the process. Any other text is kept, as v0.4 never checked it."""

        RUNNING = "running", _("running")
        FINISHED = "finished", _("finished")
        FAILED = "failed", _("failed")
        INTERRUPTED = "interrupted", _("interrupted")

    run_id = models.CharField(_("run id"), max_length=255, db_index=True)
    project = models.ForeignKey(
        Project, models.PROTECT, null=True, related_name="runs", verbose_name=_("project")
    )
    name = models.CharField(_("experiment"), max_length=255, null=True)
    directory = models.CharField(
        _("directory"),
        max_length=1100,
        unique=True,
        help_text=_("Relative to the storage root, with '/'."),
    )
    listing_key = models.BinaryField(
        help_text="Where a listing shows the run: bytes sort alike in every database."
    )
    directory_mtime = models.FloatField(default=0)

    status = models.CharField(_("status"), max_length=255, default=Status.FINISHED)
    created_time = models.FloatField(_("created (Unix seconds)"), null=True)
    created_at = models.DateTimeField(_("created"), null=True)
    started_at = models.DateTimeField(_("started"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)
    duration = models.FloatField(_("seconds from start to end"), null=True)
    exit_reason = models.CharField(_("exit reason"), max_length=255, default="")
    pid = models.BigIntegerField("pid", null=True)
    hostname = models.CharField(_("host"), max_length=255, default="")

    best_metric_name = models.CharField(_("best metric"), max_length=1024, null=True)
    best_metric_value = models.FloatField(_("best value"), null=True)
    best_metric_step = models.BigIntegerField(_("best step"), null=True)
    best_metric_mode = models.CharField(_("best mode"), max_length=8, default="")

    artifacts_created_count = models.IntegerField(default=0)
    artifacts_used_count = models.IntegerField(default=0)
    event_count = models.BigIntegerField(_("logged events"), default=0)
    log_bytes = models.BigIntegerField(default=0, help_text="Of all log files of the run.")
    system_bytes = models.BigIntegerField(default=0, help_text="Of all its files of samples.")
    unreadable_lines = models.BigIntegerField(_("unreadable lines"), default=0)
    hidden_values = models.BigIntegerField(_("values that are not shown"), default=0)
    hidden_keys = models.JSONField(default=list, help_text="The first keys of such values.")

    notes = models.TextField(_("notes"), default="", blank=True)
    display_name = models.CharField(_("display name"), max_length=255, default="", blank=True)
    pinned = models.BooleanField(_("pinned"), default=False)
    archived = models.BooleanField(_("archived"), default=False)
    annotated_at = models.FloatField(
        default=0, help_text="When a person noted something last, in Unix seconds; 0: never."
    )
    search_text = models.TextField(default="", help_text="What a search looks through.")

    deleted_at = models.DateTimeField(_("deleted"), null=True)
    delete_reason = models.CharField(_("delete reason"), max_length=255, default="")
    original_status = models.CharField(_("status when deleted"), max_length=255, default="")
    deleted_by = models.CharField(_("deleted by"), max_length=255, default="")
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        indexes = [
            models.Index(fields=["listing_key", "-directory_mtime"], name="runs_listing"),
            # Two partial indexes: the few deleted runs never make a planner sort all the others.
            models.Index(
                fields=["-created_at", "-id"],
                name="runs_newest",
                condition=models.Q(deleted_at__isnull=True),
            ),
            # One index for each order of the V2 list. The first includes the filtered columns, so
            # that counting with any filter reads nothing else.
            models.Index(
                fields=[
                    *("created_time", "run_id", "id", "deleted_at", "status", "project", "name"),
                    "best_metric_value",
                ],
                name="runs_by_created",
            ),
            models.Index(
                fields=["updated_at", "run_id", "id", "deleted_at"], name="runs_by_updated"
            ),
            models.Index(
                fields=["best_metric_value", "run_id", "id", "deleted_at"], name="runs_by_best"
            ),
            models.Index(fields=["status", "run_id", "id", "deleted_at"], name="runs_by_status"),
            models.Index(
                fields=["duration", "run_id", "id", "deleted_at"], name="runs_by_duration"
            ),
            models.Index(fields=["name", "run_id", "id", "deleted_at"], name="runs_by_name"),
            models.Index(fields=["run_id", "id", "deleted_at"], name="runs_by_id"),
            models.Index(
                fields=["project", "created_time", "run_id", "id", "deleted_at"],
                name="runs_of_project",
            ),
            models.Index(
                fields=["-deleted_at", "-id"],
                name="runs_deleted",
                condition=models.Q(deleted_at__isnull=False),
            ),
            models.Index(
                fields=["project", "run_id", "id", "deleted_at"], name="runs_of_project_by_id"
            ),
            models.Index(fields=["project", "name"], name="runs_experiment"),
        ]

    def __str__(self) -> str:
        return self.run_id

    def date(self, created_time: float) -> None:
        """Set when the run began, in Unix seconds. The caller saves the run."""
        self.created_time = created_time
        self.created_at = to_datetime(created_time)

    @property
    def path(self) -> Path:
        """Return the run's folder."""
        return settings.RUNICORN_STORAGE_ROOT / self.directory

    @property
    def files(self) -> RunFiles:
        """Return the run's files, the only way to read and write them."""
        return RunFiles(self.path)

    @property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None

    @property
    def is_at_home(self) -> bool:
        """Return whether the run's files name its folder; those of a copied folder name another."""
        return layout.is_at_home(self.directory or "", self.document(layout.META))

    @property
    def duration_seconds(self) -> float | None:
        """Return the seconds from start to end; None unless both are known."""
        return self.duration

    @property
    def silent_since(self) -> float | None:
        """Unix seconds: when a running run, of whose process nothing can be known, was last
        written to, if that is a while ago."""
        is_running = self.status == self.Status.RUNNING
        return living.silent_since(self.path) if is_running else None

    def document(self, name: str) -> dict:
        """Return the object in one of the run's small files; empty if there is none."""
        file = self.indexed_files.filter(name=name).only("content").first()
        return (layout.parse_json(bytes(file.content)) or {}) if file and file.content else {}


class IndexedFile(models.Model):
    """The progress of reading one file of a run, written together with its content."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="indexed_files")
    name = models.CharField(max_length=255)
    offset = models.BigIntegerField(default=0, help_text="Bytes read of a stream.")
    fingerprint = models.CharField(
        max_length=100, default="", help_text="Of the file as it was read; empty: look again."
    )
    # The first and the last bytes that were read: they tell a file that grew from one replaced.
    head = models.BinaryField(default=b"")
    tail = models.BinaryField(default=b"")
    content = models.BinaryField(null=True, help_text="The whole of a document.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="runs_file_once")]

    def __str__(self) -> str:
        return f"{self.run_id}:{self.name}"


class Chunk(models.Model):
    """Bytes of one of the run's growing files, as written.

    If several machines write a file each, the offset counts the bytes read of all of them.
    """

    offset = models.BigIntegerField()
    data = models.BinaryField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"@{self.offset}"


class LogChunk(Chunk):
    """A chunk of ``logs.txt``, not cut at lines."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="log_chunks")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "offset"], name="runs_log_once")]


class SystemChunk(Chunk):
    """A chunk of ``system.jsonl``, the samples of the machine (see ``system``)."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="system_chunks")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "offset"], name="runs_system_once")]


class Image(models.Model):
    """An image that the run logged; its file is in the run's folder."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="images")
    file = models.CharField(max_length=255, default=layout.EVENTS)
    offset = models.BigIntegerField(help_text="Of its line in that file.")
    key = models.CharField(_("key"), max_length=1024)
    path = models.CharField(_("path"), max_length=1100)
    step = models.BigIntegerField(_("step"), null=True)
    caption = models.TextField(_("caption"), default="")
    logged_at = models.DateTimeField(_("logged"), null=True)

    class Meta:
        verbose_name = _("image")
        verbose_name_plural = _("images")
        constraints = [
            models.UniqueConstraint(fields=["run", "file", "offset"], name="runs_image_once")
        ]

    def __str__(self) -> str:
        return self.path


class Tag(models.Model):
    """A label on a run, from its ``annotations.json``, in the order of the primary keys."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="tags")
    key = models.CharField(_("tag"), max_length=255)
    value = models.TextField(_("value"), default="")

    class Meta:
        verbose_name = _("tag")
        verbose_name_plural = _("tags")
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="runs_tag_once")]
        indexes = [models.Index(fields=["key", "run"], name="runs_tagged")]

    def __str__(self) -> str:
        return self.key


class TaggedRun(models.Model):
    """A tag of a run that is not in the recycle bin. SQLite only, see ``tagged``."""

    key = models.CharField(max_length=255)
    created_time = models.FloatField()
    name = models.CharField(max_length=255, help_text="The run's own id.")
    run = models.OneToOneField(Run, models.DO_NOTHING, primary_key=True, related_name="+")

    objects = TaggedRunQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = tagged.TABLE

    def __str__(self) -> str:
        return f"{self.key}: {self.name}"


_UNPAIRED = re.compile("[\ud800-\udfff]")


def as_json(value: object) -> str:
    """Return the JSON of *value* for ``Leaf.value``: unescaped, so that parts of texts are found.

    A lone surrogate, which no database stores, stays escaped.
    """
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _UNPAIRED.search(text) else text


class Leaf(models.Model):
    """A value in one of the run's JSON documents, its path joined by dots."""

    key = models.CharField(_("key"), max_length=500)
    value = models.TextField(_("value"), help_text="As JSON.")
    number = models.FloatField(null=True, help_text="The value, if it is a finite number.")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.key


class Param(Leaf):
    """A hyperparameter: one leaf of ``config.json``."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="params")

    class Meta:
        verbose_name = _("param")
        verbose_name_plural = _("params")
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="runs_param_once")]
        indexes = [models.Index(fields=["key", "number", "run"], name="runs_param_numbers")]


class SummaryValue(Leaf):
    """One leaf of ``summary.json``."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="summary")

    class Meta:
        verbose_name = _("summary value")
        verbose_name_plural = _("summary values")
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="runs_summary_once")]
        indexes = [models.Index(fields=["key", "number", "run"], name="runs_summary_numbers")]


def to_datetime(timestamp: object) -> datetime | None:
    """Return Unix seconds as a datetime; None if no calendar has that date."""
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        return None
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
