"""JSON shapes and query parameters of the V2 API."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.fields import empty

from core.http.fields import Body, Choice, Flag, Integer, OptionalText, Query, Text, TextList
from metrics.read import Range
from runicorn import layout

from ..v1.serializers import silent_since_field, since_field

ORDERS = {
    "created_at": "created_time",
    "updated_at": "updated_at",
    "best_metric_value": "best_metric_value",
    "duration": "duration",
    "status": "status",
    "project": "project__name",
    "name": "name",
    "id": "run_id",
}
"""The orders of the list, with their columns."""

SHOWN = (
    *("pk", "run_id", "directory", "created_time", "ended_at", "updated_at", "duration"),
    *("status", "pid", "best_metric_value", "best_metric_name", "project__name", "name"),
)


def experiment(row: tuple) -> dict[str, Any]:
    """Return a row of ``SHOWN`` as ``Experiment``."""
    _, run_id, directory, created, ended, updated, duration, *rest = row
    status, pid, best_value, best_name, project, name = rest
    run_dir = f"{settings.RUNICORN_STORAGE_ROOT}/{directory}" if directory else None
    events = run_dir and f"{run_dir}/{layout.EVENTS}"
    return {
        "id": run_id,
        "run_dir": run_dir,
        "created_time": created,
        "created_at": created,
        "ended_at": ended.timestamp() if ended else None,
        "updated_at": updated.timestamp(),
        "duration_seconds": duration,
        "status": status,
        "pid": pid,
        "best_metric_value": best_value,
        "best_metric_name": best_name,
        "project": project,
        "name": name,
        "logs": run_dir and f"{run_dir}/{layout.LOGS}",
        "metrics": events,
        "metrics_step": events,
    }


class ListQuery(Query):
    """The page of the list and its order."""

    page = Integer(default=1, min_value=1, max_value=2**31 - 1)
    per_page = Integer(default=50, min_value=1, max_value=1000)
    order_by = Choice(
        list(ORDERS),
        default="created_at",
        error_messages={"invalid_choice": "Invalid order_by: {input}"},
    )
    order_desc = Flag(default=True)


class MetricNames(OptionalText):
    """Names separated by commas, unchanged; None: all metrics."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"default": None, "help_text": "Separated by commas.", **options})

    def to_internal_value(self, data: Any) -> list[str] | None:  # type: ignore[override]
        text = super().to_internal_value(data)
        return text.split(",") if text else None

    def run_validation(self, data: Any = empty) -> Any:
        return None if data == "" else super().run_validation(data)


class StepRange(OptionalText):
    """``min:max``, as integers; None: no limit."""

    whole_sentences = frozenset({"range"})
    default_error_messages = {"range": "Invalid step_range format, use 'min:max'"}

    def __init__(self, **options: Any) -> None:
        shown = {"default": None, "help_text": "`min:max`, both included."}
        super().__init__(**{**shown, **options})

    def to_internal_value(self, data: Any) -> Range:  # type: ignore[override]
        text = super().to_internal_value(data)
        match = re.fullmatch(r"\s*([+-]?\d+)\s*:\s*([+-]?\d+)\s*", text)
        if match is None:
            return self.fail("range")
        return int(match[1]), int(match[2])

    def run_validation(self, data: Any = empty) -> Any:
        return None if data == "" else super().run_validation(data)


class FastQuery(Query):
    metric_names = MetricNames()
    step_range = StepRange()
    downsample = Integer(
        required=False,
        min_value=1,
        help_text="How many rows at most. The first and the last are kept, and of each metric "
        "the lowest and highest value of every bucket: its extremes are exact.",
    )
    since = since_field()


class MetricsQuestion(Body):
    """The requested curves: every metric of every run, or those named."""

    run_ids = TextList(child=Text(max_length=255), allow_empty=False, most=1000)
    metrics = TextList(child=Text(max_length=500), required=False, allow_null=True)
    step_range = StepRange()
    points = Integer(
        default=1000,
        min_value=4,
        max_value=50_000,
        help_text="How many points at most of each curve. The first and the last are kept, and "
        "the lowest and highest of every bucket between them.",
    )


class MetricCurve(serializers.Serializer):
    run_id = serializers.CharField()
    metric = serializers.CharField()
    steps = serializers.ListField(child=serializers.IntegerField())
    values = serializers.ListField(child=serializers.FloatField(allow_null=True))
    total = serializers.IntegerField(help_text="Points that there are.")


class MetricsAnswer(serializers.Serializer):
    series = MetricCurve(many=True)
    missing = serializers.ListField(child=serializers.CharField())
    query_time_ms = serializers.FloatField()


class StatisticsQuery(Query):
    metric = Text()
    step_range = StepRange()
    points = Integer(
        required=False, min_value=10, max_value=50_000, help_text="How many steps at most."
    )


class MetricStatistics(serializers.Serializer):
    """Lists of equal length, by step. ``std`` is that of the whole population."""

    metric = serializers.CharField()
    runs = serializers.IntegerField(help_text="How many logged the metric.")
    steps = serializers.ListField(child=serializers.IntegerField())
    count = serializers.ListField(child=serializers.IntegerField())
    mean = serializers.ListField(child=serializers.FloatField())
    std = serializers.ListField(child=serializers.FloatField())
    min = serializers.ListField(child=serializers.FloatField())
    max = serializers.ListField(child=serializers.FloatField())
    query_time_ms = serializers.FloatField()


class ExportQuery(Query):
    metric_names = MetricNames()


class DaysQuery(Query):
    days = Integer(default=30, min_value=1, max_value=36_500)


class TrendsQuery(DaysQuery):
    metric_name = Text()
    project = Text(required=False)
    points = Integer(
        default=2000,
        min_value=4,
        max_value=10_000,
        help_text="How many runs at most are in `trend_data`; first, last, lowest and highest are "
        "always there. `statistics` are over all of them.",
    )


class Experiment(serializers.Serializer):
    id = serializers.CharField()
    run_dir = serializers.CharField(allow_null=True)
    created_time = serializers.FloatField(allow_null=True, help_text="Unix seconds.")
    created_at = serializers.FloatField(allow_null=True, help_text="Unix seconds.")
    ended_at = serializers.FloatField(allow_null=True, help_text="Unix seconds.")
    updated_at = serializers.FloatField(help_text="Unix seconds.")
    duration_seconds = serializers.FloatField(allow_null=True)
    status = serializers.CharField()
    pid = serializers.IntegerField(allow_null=True)
    best_metric_value = serializers.FloatField(allow_null=True)
    best_metric_name = serializers.CharField(allow_null=True)
    project = serializers.CharField(allow_null=True)
    name = serializers.CharField(allow_null=True)
    logs = serializers.CharField(allow_null=True)
    metrics = serializers.CharField(allow_null=True)
    metrics_step = serializers.CharField(allow_null=True)


class ExperimentPage(serializers.Serializer):
    experiments = Experiment(many=True)
    total = serializers.IntegerField(help_text="How many the filters let through.")
    page = serializers.IntegerField()
    per_page = serializers.IntegerField()
    has_next = serializers.BooleanField()
    has_prev = serializers.BooleanField()
    query_time_ms = serializers.FloatField()


class Steps(serializers.Serializer):
    min = serializers.IntegerField()
    max = serializers.IntegerField()


class MetricsSummary(serializers.Serializer):
    total_data_points = serializers.IntegerField(help_text="Steps that the run has logged.")
    available_metrics = serializers.ListField(child=serializers.CharField())
    step_range = Steps(allow_null=True)


class ExperimentDetail(serializers.Serializer):
    experiment = Experiment()
    metrics_summary = MetricsSummary()
    environment_available = serializers.BooleanField()
    file_count = serializers.IntegerField()
    silent_since = silent_since_field()


class AppliedFilters(serializers.Serializer):
    metrics = serializers.ListField(child=serializers.CharField(), allow_null=True)
    step_range = serializers.ListField(child=serializers.IntegerField(), allow_null=True)
    downsampled = serializers.BooleanField(help_text="Whether rows were left out.")


class FastTable(serializers.Serializer):
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.DictField())
    query_time_ms = serializers.FloatField()
    total_points = serializers.IntegerField(help_text="Rows in this answer.")
    applied_filters = AppliedFilters()


MOST_EXPERIMENTS = 1000
"""The most runs that one request may delete."""


class ExperimentIds(Body):
    exp_ids = TextList(
        child=Text(
            allow_blank=True, error_messages={"invalid": "exp_ids must be a list of run ids"}
        ),
        allow_empty=False,
        most=MOST_EXPERIMENTS,
        error_messages={
            **dict.fromkeys(("required", "null", "empty"), "exp_ids is required"),
            "not_a_list": "exp_ids must be a list",
            "too_many": f"Cannot delete more than {MOST_EXPERIMENTS} experiments at once",
        },
    )
    reason = Text(
        default="user_batch_delete",
        allow_blank=True,
        error_messages={"invalid": "reason must be text"},
    )


class BatchDeleted(serializers.Serializer):
    deleted = serializers.IntegerField()
    failed = serializers.IntegerField()
    results = serializers.DictField(child=serializers.BooleanField())
    deleted_count = serializers.IntegerField()
    message = serializers.CharField()
