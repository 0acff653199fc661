"""JSON shapes of the Runs and Metrics endpoints."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers

from core.http.fields import Body, Flag, Integer, OptionalText, Query, Text, TextList
from runicorn import layout
from runs.models import Run

from ..forms import ARROW, COLUMNS, JSON, PARQUET

LONGEST_NOTES = 100_000

LISTED = (
    *("run_id", "directory", "created_time", "status", "pid", "best_metric_value"),
    *("best_metric_name", "project__name", "name", "artifacts_created_count"),
    "artifacts_used_count",
)
"""The columns of a listed run, in the order of ``RunListItem``."""


def listed(rows: Any) -> list[dict[str, Any]]:
    """Return *rows* of ``LISTED`` as ``RunListItem``: plain dictionaries, for any number."""
    root = f"{settings.RUNICORN_STORAGE_ROOT}/"
    return [
        {
            "id": row[0],
            "run_dir": root + row[1] if row[1] else None,
            "created_time": row[2],
            "status": row[3],
            "pid": row[4],
            "best_metric_value": row[5],
            "best_metric_name": row[6],
            "project": row[7],
            "name": row[8],
            "artifacts_created_count": row[9],
            "artifacts_used_count": row[10],
        }
        for row in rows
    ]


class RunListItem(serializers.Serializer):
    """A run of a list, as ``listed`` returns it."""

    id = serializers.CharField()
    run_dir = serializers.CharField(allow_null=True)
    created_time = serializers.FloatField(allow_null=True, help_text="Unix seconds.")
    status = serializers.CharField(help_text="running, finished, failed or interrupted.")
    pid = serializers.IntegerField(allow_null=True)
    best_metric_value = serializers.FloatField(allow_null=True)
    best_metric_name = serializers.CharField(allow_null=True)
    project = serializers.CharField(allow_null=True)
    name = serializers.CharField(allow_null=True)
    artifacts_created_count = serializers.IntegerField()
    artifacts_used_count = serializers.IntegerField()


def silent_since_field() -> serializers.Field:
    return serializers.FloatField(
        allow_null=True,
        help_text="Unix seconds: when a running run, of whose process nothing can be known, was "
        "last written to; null for any other.",
    )


class RunDetail(serializers.Serializer):
    id = serializers.CharField(source="run_id")
    status = serializers.CharField()
    pid = serializers.IntegerField(allow_null=True)
    run_dir = serializers.SerializerMethodField()
    project = serializers.CharField(source="project.name", allow_null=True, default=None)
    name = serializers.CharField(allow_null=True)
    logs = serializers.SerializerMethodField()
    metrics = serializers.SerializerMethodField()
    metrics_step = serializers.SerializerMethodField(method_name="get_metrics")
    artifacts_created_count = serializers.IntegerField()
    artifacts_used_count = serializers.IntegerField()
    created_time = serializers.FloatField(allow_null=True)
    created_at = serializers.FloatField(source="created_time", allow_null=True)
    tags = serializers.SerializerMethodField()
    silent_since = silent_since_field()
    unreadable_lines = serializers.IntegerField(help_text="Lines that are no event.")
    hidden_values = serializers.IntegerField(
        help_text="Logged values that no table or chart shows: lists, objects, keys that are too "
        "long."
    )
    hidden_keys = serializers.ListField(
        child=serializers.CharField(), help_text="The first keys of such values."
    )
    notes = serializers.CharField(help_text="Free text that people keep about the run.")
    display_name = serializers.CharField(help_text="What people call the run; may be empty.")
    pinned = serializers.BooleanField()
    archived = serializers.BooleanField()

    def get_tags(self, run: Run) -> list[str]:
        return list(run.tags.order_by("pk").values_list("key", flat=True))

    def get_run_dir(self, run: Run) -> str | None:
        return str(run.path)

    def get_logs(self, run: Run) -> str | None:
        return str(run.path / layout.LOGS)

    def get_metrics(self, run: Run) -> str | None:
        return str(run.path / layout.EVENTS)


class RunChanges(Body):
    """The annotations of a run; missing members are not changed."""

    notes = Text(required=False, allow_blank=True, max_length=LONGEST_NOTES)
    tags = TextList(
        child=Text(max_length=255, trim_whitespace=True),
        required=False,
        help_text="All of its tags.",
    )
    display_name = Text(required=False, allow_blank=True, max_length=255)
    pinned = Flag(required=False)
    archived = Flag(required=False)
    project = Text(required=False, help_text="Move the run to this project.")
    name = Text(required=False, help_text="Move the run to this experiment.")


class DeletedRun(serializers.Serializer):
    id = serializers.CharField(source="run_id")
    project = serializers.CharField(source="project.name", allow_null=True, default=None)
    name = serializers.CharField(allow_null=True)
    created_time = serializers.FloatField(allow_null=True)
    deleted_at = serializers.SerializerMethodField()
    delete_reason = serializers.CharField()
    original_status = serializers.CharField()
    run_dir = serializers.SerializerMethodField()

    def get_deleted_at(self, run: Run) -> float | None:
        return run.deleted_at.timestamp() if run.deleted_at else None

    def get_run_dir(self, run: Run) -> str | None:
        return str(run.path)


class RecycleBin(serializers.Serializer):
    deleted_runs = DeletedRun(many=True)


class RunId(Text):
    whole_sentences = frozenset({"invalid"})
    default_error_messages = {"invalid": "Invalid run_id format: {run_id}"}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or "\x00" in data:
            self.fail("invalid", run_id=data)
        return str(data)


NO_RUN_IDS = "run_ids is required and must be a list"
MOST_RUNS = 100
"""The most runs that one request may delete or restore."""


def run_ids(verb: str) -> TextList:
    """Return the field with the ids of the runs to delete or restore, as *verb* says."""
    too_many = f"Cannot {verb} more than {MOST_RUNS} runs at once"
    return TextList(
        child=RunId(),
        allow_empty=False,
        most=MOST_RUNS,
        help_text=f"1 to {MOST_RUNS} run ids.",
        error_messages={
            **dict.fromkeys(("required", "null", "not_a_list", "empty"), NO_RUN_IDS),
            "too_many": too_many,
        },
    )


class RunsToDelete(Body):
    run_ids = run_ids("delete")


class RunsToRestore(Body):
    run_ids = run_ids("restore")


class RunOutcome(serializers.Serializer):
    success = serializers.BooleanField()
    error = serializers.CharField(required=False)


class SoftDeleted(serializers.Serializer):
    deleted_count = serializers.IntegerField()
    results = serializers.DictField(child=RunOutcome())
    message = serializers.CharField()


class Restored(serializers.Serializer):
    restored_count = serializers.IntegerField()
    results = serializers.DictField(child=RunOutcome())
    message = serializers.CharField()


class Confirmation(Body):
    _must_be_true = "Must set confirm=true to permanently delete"
    confirm = Flag(
        help_text="Must be true.",
        error_messages=dict.fromkeys(("required", "null", "invalid"), _must_be_true),
    )

    def validate_confirm(self, confirm: bool) -> bool:
        return confirm or self.fields["confirm"].fail("invalid")


class Emptied(serializers.Serializer):
    permanently_deleted = serializers.IntegerField()
    refused = serializers.DictField(
        child=serializers.CharField(), help_text="By run id why it stays in the recycle bin."
    )
    message = serializers.CharField()


class CopyQuery(Query):
    dir = OptionalText(
        default=None, help_text="The folder of the run, where copies have the same id."
    )


class DownsampleQuery(Query):
    downsample = Integer(
        required=False,
        min_value=100,
        max_value=50_000,
        help_text="How many rows at most. The first and the last are kept, and of each numeric "
        "column the lowest and highest value of every bucket: its extremes are exact.",
    )


def since_field() -> serializers.Field:
    return serializers.RegexField(
        r"^\d{1,18}\.\d{1,18}$",
        required=False,
        help_text="The cursor of an earlier answer (header `X-Cursor`): only what was logged "
        "after it is sent, with a new `cursor`. Rows of a step known already replace its cells.",
    )


class MetricsQuery(DownsampleQuery):
    since = since_field()


class MetricTable(serializers.Serializer):
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(
        child=serializers.DictField(child=serializers.JSONField(allow_null=True)),
        help_text="One object a row with a member for every column; null where nothing is known.",
    )


class Progress(serializers.Serializer):
    available = serializers.BooleanField()
    status = serializers.CharField()


class StatusChecked(serializers.Serializer):
    checked = serializers.IntegerField()
    updated = serializers.IntegerField()
    message = serializers.CharField()


TABLES = {
    (200, JSON): MetricTable,
    (200, COLUMNS): OpenApiTypes.OBJECT,
    (200, ARROW): OpenApiTypes.BINARY,
    (200, PARQUET): OpenApiTypes.BINARY,
}
"""A table in any of the forms that ``Accept`` may name."""
