"""Metrics of many runs at once. Beyond v0.4."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from django.http.response import HttpResponseBase
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request

from core.http import conditional
from core.http.permissions import MaySee
from core.http.streams import streamed
from metrics import read as metrics
from metrics.read import EVERYTHING
from runs.finding.filters import RunFilter
from runs.models import Run
from runs.querysets import RunQuerySet
from runs.repair import with_repair

from ..forms import ARROW, PARQUET
from ..tables import dump_numbers, numbers_answer
from . import serializers
from .views import V2View


class ManyRunsView(V2View, generics.GenericAPIView):
    """A view of the runs that match the filters of the list."""

    queryset = Run.objects.none()  # for the schema; ``runs`` says which
    filter_backends = [DjangoFilterBackend]
    filterset_class = RunFilter
    pagination_class = None

    def filtered(self) -> RunQuerySet:
        return cast(RunQuerySet, self.filter_queryset(self.runs()))


@extend_schema(tags=["v2-metrics"])
class Query(V2View):
    permission_classes = [MaySee]  # reads, although it is a POST

    @extend_schema(
        operation_id="query_metrics",
        request=serializers.MetricsQuestion,
        responses=serializers.MetricsAnswer,
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Return curves of many metrics of many runs, downsampled so that extremes are exact."""
        params = serializers.MetricsQuestion.read(request)
        runs = self.runs().active().filter(run_id__in=params["run_ids"])
        ids = dict(runs.values_list("pk", "run_id"))
        curves = with_repair(
            lambda: metrics.curves(
                list(ids),
                params.get("metrics"),
                steps=params["step_range"] or EVERYTHING,
                points=params["points"],
            ),
        )
        order = {run_id: number for number, run_id in enumerate(params["run_ids"])}
        series = [
            {
                "run_id": ids[pk],
                "metric": key,
                "steps": curve.steps,
                "values": curve.values,
                "total": curve.total,
            }
            for (pk, key), curve in curves.items()
        ]
        series.sort(key=lambda item: (order[item["run_id"]], item["metric"]))
        missing = [run_id for run_id in order if run_id not in ids.values()]
        return numbers_answer({"series": series, "missing": missing, "query_time_ms": self.took()})


@extend_schema(tags=["v2-metrics"])
class Statistics(ManyRunsView):
    @extend_schema(
        operation_id="metric_statistics",
        parameters=[serializers.StatisticsQuery],
        responses=serializers.MetricStatistics,
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return mean, deviation, lowest and highest value by step over all matching runs."""
        params = serializers.StatisticsQuery.read(request)
        runs = self.filtered()

        def make() -> dict[str, Any]:
            statistics = with_repair(
                lambda: metrics.statistics(
                    runs.order_by().values("pk"),
                    params["metric"],
                    steps=params["step_range"] or EVERYTHING,
                    points=params.get("points"),
                ),
            )
            return {
                "metric": params["metric"],
                "runs": statistics.runs,
                "steps": statistics.steps,
                "count": statistics.count,
                "mean": statistics.mean,
                "std": statistics.deviation,
                "min": statistics.low,
                "max": statistics.high,
            }

        return conditional.json_response(
            request, make, lambda: {"query_time_ms": self.took()}, dump_numbers
        )


@extend_schema(tags=["v2-metrics"])
class Export(ManyRunsView):
    @extend_schema(
        operation_id="export_metrics",
        parameters=[serializers.ExportQuery],
        responses={
            (200, ARROW): OpenApiTypes.BINARY,
            (200, PARQUET): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return every point of every series of the matching runs, such as those of a project.

        One row per point: ``run_id``, ``metric``, ``step``, ``value``. Parquet if ``Accept`` asks
        for it, else an Arrow stream; one series is in memory at a time.
        """
        from .. import arrow

        names = serializers.ExportQuery.read(request)["metric_names"]
        wants_parquet = PARQUET in request.headers.get("Accept", "")
        form = PARQUET if wants_parquet else ARROW
        series = _series(self.filtered().newest_first(), names)
        return streamed(request, arrow.points(series, form), content_type=form)


def _series(runs: RunQuerySet, names: list[str] | None) -> Iterator[tuple[str, str, Any, Any]]:
    for pk, run_id in list(runs.values_list("pk", "run_id")):
        for key in metrics.number_keys(pk, names):
            curve = with_repair(partial(metrics.curves, [pk], [key], points=None)).get((pk, key))
            if curve is not None:
                yield run_id, key, curve.steps, curve.values
