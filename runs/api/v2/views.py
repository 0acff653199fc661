"""Experiments of the V2 API, which is its word for runs."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

from django.db import DatabaseError
from django.http.response import HttpResponseBase
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.access import Right
from core.http import conditional
from core.http.errors import translated
from metrics import read as metrics
from runicorn import layout
from runs import actions
from runs.finding.filters import RunFilter
from runs.finding.listing import Listing
from runs.ingest import folder_source
from runs.models import Run, TaggedRun
from runs.querysets import RunQuerySet
from runs.repair import with_repair

from ..copies import refuse_copies
from ..tables import TableResponse
from ..v1.serializers import CopyQuery
from ..v1.views import RunView
from . import serializers


class V2View(RunView):
    """A view of V2, which reports its duration and why a query failed."""

    times: ClassVar[deque[float]] = deque(maxlen=1000)
    """The milliseconds that the last requests of this process took."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()
        super().initial(request, *args, **kwargs)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        self.times.append(self.took())
        return super().finalize_response(request, response, *args, **kwargs)

    def took(self) -> float:
        """Return the milliseconds since the request arrived."""
        return round((time.perf_counter() - self.started) * 1000, 2)

    def experiment(self, run_id: str) -> Run:
        """Return the run, deleted or not, refreshed from its folder; 404 if there is none."""
        directory = CopyQuery.read(self.request)["dir"]
        run = folder_source.refresh(folder_source.look_up(self.runs(), run_id, directory))
        if run is None:
            raise NotFound(f"Experiment {run_id} not found")
        if not run.is_deleted and actions.check_process(run):
            run.refresh_from_db()
        return run

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, DatabaseError) and translated(exc) is None:
            actions.logger.exception("A query failed")
            return Response({"detail": f"Database query failed: {exc}"}, status=500)
        return super().handle_exception(exc)


@extend_schema(tags=["v2-experiments"])
class ExperimentList(V2View, generics.GenericAPIView):
    queryset = Run.objects.none()  # for the schema; ``runs`` says which
    filter_backends = [DjangoFilterBackend]
    filterset_class = RunFilter

    @extend_schema(
        operation_id="list_experiments",
        filters=True,  # the shape of a page hides that it is a list
        parameters=[serializers.ListQuery],
        responses=serializers.ExperimentPage,
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return a page of the runs that match the filters; ``total`` counts all of them."""
        params = serializers.ListQuery.read(request)
        listing = Listing(
            self.runs(),
            TaggedRun.objects.visible_to(request.user),
            request.query_params,
            lambda runs: cast(RunQuerySet, self.filter_queryset(runs)),
        )
        return conditional.json_response(
            request, lambda: self.page(listing, params), lambda: {"query_time_ms": self.took()}
        )

    def page(self, listing: Listing, params: dict[str, Any]) -> dict[str, Any]:
        page, size = params["page"], params["per_page"]
        start = (page - 1) * size
        order, descending = params["order_by"], params["order_desc"]
        total, rows = listing.page(start, size, order, descending=descending)
        return {
            "experiments": [serializers.experiment(row) for row in rows],
            "total": total,
            "page": page,
            "per_page": size,
            "has_next": start + len(rows) < total,
            "has_prev": page > 1,
        }


@extend_schema(tags=["v2-experiments"])
class ExperimentDetail(V2View):
    @extend_schema(operation_id="get_experiment", responses=serializers.ExperimentDetail)
    def get(self, request: Request, run_id: str) -> Response:
        """Return one run, even in the recycle bin, and a summary of its logged values."""
        run = self.experiment(run_id)
        row = Run.objects.filter(pk=run.pk).values_list(*serializers.SHOWN).get()
        logged = with_repair(lambda: metrics.overview(run.pk))
        return Response(
            {
                "experiment": serializers.experiment(row),
                "metrics_summary": {
                    "total_data_points": logged.steps,
                    "available_metrics": logged.keys,
                    "step_range": {"min": logged.low, "max": logged.high} if logged.steps else None,
                },
                "environment_available": bool(
                    run.path and (run.path / layout.ENVIRONMENT).exists()
                ),
                "file_count": _count_files(run.path),
                "silent_since": run.silent_since,
            }
        )


def _count_files(folder: Path) -> int:
    """Return the number of entries below *folder*, including folders."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


class FastResponse(TableResponse):
    """The numbers of selected metrics and steps, downsampled on request."""

    def __init__(self, request: Request, run: Run, took: Callable[[], float]) -> None:
        params = serializers.FastQuery.read(request)
        self.names: list[str] | None = params["metric_names"]
        self.steps: metrics.Range | None = params["step_range"]
        self.points: int | None = params.get("downsample")
        self.since: str | None = params.get("since")
        self.took = took
        super().__init__(request, run)

    def table(self, state: metrics.EventLog | None) -> metrics.Tables:
        after = metrics.events_after(state, self.since) if self.since else 0
        chosen: dict[str, Any] = {"keys": self.names, "steps": self.steps or metrics.EVERYTHING}
        chosen |= {"after": after, "log": state}
        if self.points is None:
            tables = metrics.by_step(self.run.pk, numbers=True, **chosen)
        else:
            tables = metrics.sampled_by_step(self.run.pk, self.points, **chosen)
        if self.names is not None and tables.columns:
            tables.columns = [tables.columns[0], *self.names]
        return tables

    def members(self, shown: metrics.Tables) -> dict[str, Any]:
        return {
            "query_time_ms": self.took(),
            "total_points": shown.rows,
            "applied_filters": {
                "metrics": self.names,
                "step_range": list(self.steps) if self.steps else None,
                "downsampled": shown.rows < shown.total,
            },
            **({"cursor": self.cursor} if self.since else {}),
        }


@extend_schema(tags=["v2-experiments"])
class FastMetrics(V2View):
    @extend_schema(
        operation_id="get_metrics_fast",
        parameters=[serializers.FastQuery],
        responses=serializers.FastTable,
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """Return the run's numbers, one row per step, downsampled on request."""
        return FastResponse(request, self.experiment(run_id), self.took).response()


@extend_schema(tags=["v2-experiments"])
class BatchDelete(V2View):
    @extend_schema(
        operation_id="batch_delete_experiments",
        request=serializers.ExperimentIds,
        responses=serializers.BatchDeleted,
    )
    def post(self, request: Request) -> Response:
        """Move runs to the recycle bin, from which V1 restores them."""
        params = serializers.ExperimentIds.read(request)
        ids = list(dict.fromkeys(params["exp_ids"]))
        folder_source.index_unknown(ids)
        candidates = self.runs(Right.CHANGE).active().in_listing_order()
        runs = list(candidates.filter(run_id__in=ids))
        refuse_copies(runs)
        run_by_id = {run.run_id: run for run in runs}
        outcome = actions.soft_delete_runs(
            [run_by_id[i] for i in ids if i in run_by_id], by=request.user, reason=params["reason"]
        )
        results = {run_id: outcome.get(run_id, "not found") is None for run_id in ids}
        deleted = sum(results.values())
        return Response(
            {
                "deleted": deleted,
                "failed": len(ids) - deleted,
                "results": results,
                "deleted_count": deleted,
                "message": f"Soft deleted {deleted} of {len(params['exp_ids'])} runs",
            }
        )
