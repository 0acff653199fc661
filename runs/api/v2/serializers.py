"""JSON shapes of the V2 API (``contract/v2.md``), and what its query strings may say."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from rest_framework import serializers

from core.http.exceptions import InvalidInput
from metrics.read import EVERYTHING, Range
from runicorn import layout

from ..v1.serializers import since_field

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
"""What the list may be sorted by, and the column of it."""

SHOWN = (
    *("pk", "run_id", "directory", "created_time", "ended_at", "updated_at", "duration"),
    *("status", "pid", "best_metric_value", "best_metric_name", "project__name", "name"),
)


def experiment(row: tuple) -> dict[str, Any]:
    """A row of ``SHOWN`` as ``Experiment``."""
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


class ListQuery(serializers.Serializer):
    """Which page of the list, in which order."""

    page = serializers.IntegerField(default=1, min_value=1, max_value=2**31 - 1)
    per_page = serializers.IntegerField(default=50, min_value=1, max_value=1000)
    order_by = serializers.CharField(
        default="created_at", allow_blank=True, help_text=f"One of {', '.join(ORDERS)}."
    )
    order_desc = serializers.BooleanField(default=True)

    def validate_order_by(self, value: str) -> str:
        if value not in ORDERS:
            raise InvalidInput(f"Invalid order_by: {value}", ["query", "order_by"])
        return value


class FastQuery(serializers.Serializer):
    metric_names = serializers.CharField(
        default="", allow_blank=True, trim_whitespace=False, help_text="Separated by commas."
    )
    step_range = serializers.CharField(
        default="", allow_blank=True, help_text="`min:max`, both included."
    )
    downsample = serializers.IntegerField(
        required=False,
        help_text="How many rows at most. The first and the last are kept, and of each metric "
        "the lowest and highest value of every stretch: its extremes are exact.",
    )

    since = since_field()

    def validate_downsample(self, value: int) -> int:
        if value < 1:
            raise InvalidInput("downsample must be a positive integer", ["query", "downsample"])
        return value


def step_range(text: str) -> Range:
    """``min:max``; InvalidInput for anything else. Empty: no limit."""
    if not text:
        return EVERYTHING
    match = re.fullmatch(r"\s*([+-]?\d+)\s*:\s*([+-]?\d+)\s*", text)
    if match is None:
        raise InvalidInput("Invalid step_range format, use 'min:max'", ["query", "step_range"])
    return int(match[1]), int(match[2])


class MetricsQuestion(serializers.Serializer):
    """Which curves: every metric of every run, or those named."""

    run_ids = serializers.ListField(
        child=serializers.CharField(max_length=255), min_length=1, max_length=1000
    )
    metrics = serializers.ListField(
        child=serializers.CharField(max_length=500), required=False, allow_null=True
    )
    step_range = serializers.CharField(
        default="", allow_blank=True, help_text="`min:max`, both included."
    )
    points = serializers.IntegerField(
        default=1000,
        min_value=4,
        max_value=50_000,
        help_text="How many points at most of each curve. The first and the last are kept, and "
        "the lowest and highest of every stretch between them.",
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


class StatisticsQuery(serializers.Serializer):
    metric = serializers.CharField()
    step_range = serializers.CharField(
        default="", allow_blank=True, help_text="`min:max`, both included."
    )
    points = serializers.IntegerField(
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


class ExportQuery(serializers.Serializer):
    metric_names = serializers.CharField(
        default="", allow_blank=True, trim_whitespace=False, help_text="Separated by commas."
    )


class DaysQuery(serializers.Serializer):
    days = serializers.IntegerField(default=30, min_value=1, max_value=36_500)


class TrendsQuery(DaysQuery):
    metric_name = serializers.CharField()
    project = serializers.CharField(required=False)
    points = serializers.IntegerField(
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


class StepRange(serializers.Serializer):
    min = serializers.IntegerField()
    max = serializers.IntegerField()


class MetricsSummary(serializers.Serializer):
    total_data_points = serializers.IntegerField(help_text="Steps that the run has logged.")
    available_metrics = serializers.ListField(child=serializers.CharField())
    step_range = StepRange(allow_null=True)


class ExperimentDetail(serializers.Serializer):
    experiment = Experiment()
    metrics_summary = MetricsSummary()
    environment_available = serializers.BooleanField()
    file_count = serializers.IntegerField()


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


class ExperimentIds(serializers.Serializer):
    exp_ids = serializers.ListField(child=serializers.CharField(), min_length=1, max_length=1000)
    reason = serializers.CharField(default="user_batch_delete")


class BatchDeleted(serializers.Serializer):
    deleted = serializers.IntegerField()
    failed = serializers.IntegerField()
    results = serializers.DictField(child=serializers.BooleanField())
    deleted_count = serializers.IntegerField()
    message = serializers.CharField()
