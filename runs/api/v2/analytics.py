"""Statistics of all runs, counted on request."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Avg, Count, Max, Min, Q
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.http import conditional
from metrics import read as metrics
from metrics.sampling import downsample
from runs.models import Project
from runs.querysets import RunQuerySet

from . import serializers
from .views import V2View

ENDED = ("finished", "failed", "interrupted")
SLOW_QUERY_MS = 100
LARGE_DATABASE_MB = 1000


class AnalyticsView(V2View):
    def performance(self) -> dict[str, float]:
        """Return this process's average response time of V2 and its share of memoized counts."""
        times = [*self.times, self.took()]
        return {
            "avg_query_time_ms": round(sum(times) / len(times), 2),
            "cache_hit_rate": round(conditional.hit_rate(), 4),
        }

    def counts(self) -> dict[str, Any]:
        """Return the numbers of runs of each kind, and their average duration."""
        runs = self.runs()
        by_status = runs.active().counted_by("status")
        ended = sum(by_status.get(status, 0) for status in ENDED)
        total, active = runs.count(), sum(by_status.values())
        average = runs.active().aggregate(seconds=Avg("duration"))["seconds"]
        return {
            "total_experiments": total,
            "active_experiments": active,
            "deleted_experiments": total - active,
            "by_status": by_status,
            "success_rate": by_status.get("finished", 0) / ended if ended else 0.0,
            "avg_duration_seconds": average or 0.0,
        }


@extend_schema(tags=["v2-analytics"])
class Summary(AnalyticsView):
    @extend_schema(operation_id="analytics_summary", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the numbers of runs by status and by project."""
        counts = self.counts()
        by_project = self.runs().active().counted_by("project")
        return Response(
            {
                **counts,
                "by_project": {name or "": count for name, count in with_names(by_project)},
                "generated_at": time.time(),
                "query_time_ms": self.took(),
            }
        )


@extend_schema(tags=["v2-analytics"])
class Overview(AnalyticsView):
    @extend_schema(operation_id="analytics_overview", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return an overview of the installation."""
        counts = self.counts()
        points = metrics.count_values(self.runs().values("pk"))
        size = database_bytes()
        megabytes = size / 2**20
        performance = self.performance()
        numbers = ("total_experiments", "active_experiments", "deleted_experiments")
        return Response(
            {
                "overview": {
                    "total_experiments": counts["total_experiments"],
                    "active_experiments": counts["active_experiments"],
                    "running_experiments": counts["by_status"].get("running", 0),
                    "success_rate": counts["success_rate"],
                    "avg_experiment_duration": counts["avg_duration_seconds"],
                    "storage_size_mb": megabytes,
                    "query_performance": performance,
                },
                "storage_info": {
                    "storage_type": connection.vendor,
                    "backend_type": "Django",
                    "statistics": {
                        **{name: counts[name] for name in numbers},
                        "total_metrics_points": points,
                        "storage_size_bytes": size,
                        **performance,
                        "db_size_mb": megabytes,
                        "db_fragmentation_pct": fragmentation_percent(),
                        "updated_at": time.time(),
                    },
                    "performance": performance,
                },
                "generated_at": time.time(),
            }
        )


@extend_schema(tags=["v2-analytics"])
class Projects(AnalyticsView):
    @extend_schema(
        operation_id="analytics_projects",
        parameters=[serializers.DaysQuery],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request) -> Response:
        """Return the activity of each project in the last days."""
        days = serializers.DaysQuery.read(request)["days"]
        rows = (
            recent(self.runs().active(), days)
            .values("project")
            .annotate(
                experiment_count=Count("pk"),
                running=Count("pk", Q(status="running")),
                finished=Count("pk", Q(status="finished")),
                ended=Count("pk", Q(status__in=ENDED)),
                avg_duration_seconds=Avg("duration"),
                best_metric_min=Min("best_metric_value"),
                best_metric_max=Max("best_metric_value"),
                last_created_at=Max("created_time"),
            )
            .order_by()
        )
        projects = []
        for name, counts in with_names({row["project"]: row for row in rows}):
            row: dict[str, Any] = {**counts, "project": name}
            ended = row.pop("ended")
            row["success_rate"] = row["finished"] / ended if ended else 0.0
            projects.append(row)
        return Response(
            {"projects": projects, "analysis_period_days": days, "generated_at": time.time()}
        )


@extend_schema(tags=["v2-analytics"])
class Trends(AnalyticsView):
    @extend_schema(
        operation_id="analytics_performance_trends",
        parameters=[serializers.TrendsQuery],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request) -> Response:
        """Return the last values of a metric in the runs of the last days, and their spread."""
        params = serializers.TrendsQuery.read(request)
        runs = recent(self.runs().active(), params["days"])
        if "project" in params:
            runs = runs.filter(project__name=params["project"])
        created = dict(runs.values_list("pk", "created_time"))
        last = metrics.last_values(params["metric_name"], runs.values("pk"))
        points = sorted((created[pk], pk, value) for pk, value in last if pk in created)
        values = [value for *_, value in points]
        spread = metrics.spread(values)
        sampled = [points[i] for i in downsample(np.array(values, np.float64), params["points"])]
        names_by_pk = {
            run[0]: run[1:]
            for run in self.runs()
            .filter(pk__in=[pk for _, pk, _ in sampled])
            .values_list("pk", "run_id", "project__name", "name")
        }
        return Response(
            {
                "metric_name": params["metric_name"],
                "project": params.get("project"),
                "trend_data": [
                    {
                        "experiment_id": run_id,
                        "project": project,
                        "name": name,
                        "created_at": created_time,
                        "value": value,
                    }
                    for created_time, pk, value in sampled
                    if pk in names_by_pk
                    for run_id, project, name in [names_by_pk[pk]]
                ],
                "statistics": {
                    "total_experiments": len(points),
                    "mean_value": spread.mean,
                    "std_dev": spread.deviation,
                    "min_value": spread.low,
                    "max_value": spread.high,
                },
                "analysis_period_days": params["days"],
                "generated_at": time.time(),
            }
        )


@extend_schema(tags=["v2-analytics"])
class Health(AnalyticsView):
    @extend_schema(operation_id="analytics_health", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return whether the database is fast and not too large."""
        start = time.perf_counter()
        total = self.runs().count()
        probe = round((time.perf_counter() - start) * 1000, 2)
        megabytes = database_bytes() / 2**20
        score, issues = 100.0, []
        if probe > SLOW_QUERY_MS:
            score -= 20
            issues.append(f"Slow queries detected: {probe:.1f}ms")
        if megabytes > LARGE_DATABASE_MB:
            score -= 10
            issues.append(f"Large database size: {megabytes:.1f}MB")
        grades = ((95, "excellent"), (80, "good"), (60, "fair"))
        return Response(
            {
                "health_status": next((name for least, name in grades if score >= least), "poor"),
                "health_score": score,
                "issues": issues,
                "performance": {
                    "test_query_time_ms": probe,
                    **self.performance(),
                },
                "storage": {
                    "backend_type": "Django",
                    "storage_type": connection.vendor,
                    "db_size_mb": megabytes,
                    "total_experiments": total,
                },
                "checked_at": time.time(),
            }
        )


def with_names(by_project: dict[int | None, Any]) -> list[tuple[str | None, Any]]:
    """Replace primary keys of projects by names: a join with each run would take longest."""
    names: dict[int | None, str] = dict(Project.objects.values_list("pk", "name"))
    named = [(names.get(pk), value) for pk, value in by_project.items()]
    return sorted(named, key=lambda item: item[0] or "")


def recent(runs: RunQuerySet, days: int) -> RunQuerySet:
    return runs.filter(created_time__gte=time.time() - days * 86_400)


def database_bytes() -> int:
    """Return the size of the database."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
            return cursor.fetchone()[0]
        return _pragma(cursor, "page_count") * _pragma(cursor, "page_size")


def fragmentation_percent() -> float:
    """Return the percentage of free pages; PostgreSQL manages its pages itself."""
    if connection.vendor != "sqlite":
        return 0.0
    with connection.cursor() as cursor:
        return 100 * _pragma(cursor, "freelist_count") / max(1, _pragma(cursor, "page_count"))


def _pragma(cursor: Any, name: str) -> int:
    cursor.execute(f"PRAGMA {name}")
    return cursor.fetchone()[0]
