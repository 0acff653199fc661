"""Runs, their metrics, and the recycle bin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import access
from core.access import Right
from core.http import conditional
from core.http.permissions import MayPurge, SeeOrChange
from metrics import read as metrics
from runs import actions, system
from runs.ingest import folder_source
from runs.models import Run
from runs.querysets import RunQuerySet

from ..tables import Reached, TableResponse
from . import serializers


class RunView(APIView):
    """What the views of this module have in common: which runs the user has rights to."""

    permission_classes = [SeeOrChange]

    def runs(self, right: Right = Right.SEE) -> RunQuerySet:
        return access.rows(Run.objects.all(), self.request.user, right)

    def run(self, run_id: str, detail: str = "Run not found", *, right: Right = Right.SEE) -> Run:
        """The run as its folder says now; 404 if there is none or it was deleted."""
        runs = self.runs(right).active().select_related("project")
        run = folder_source.refresh(runs.by_id(run_id))
        if run is None or run.is_deleted:
            raise NotFound(detail)
        return run


@extend_schema(tags=["runs"])
class RunList(RunView):
    @extend_schema(operation_id="list_runs", responses=serializers.RunListItem(many=True))
    def get(self, request: Request) -> HttpResponseBase:
        """All runs that are not in the recycle bin, by project and experiment."""
        runs = self.runs().active()
        actions.check_vanished(runs.running())
        rows = runs.in_listing_order().values_list(*serializers.LISTED)
        return conditional.json_response(request, lambda: serializers.listed(rows))


@extend_schema(tags=["runs"])
class RunRetrieve(RunView):
    @extend_schema(operation_id="get_run", responses=serializers.RunDetail)
    def get(self, request: Request, run_id: str) -> Response:
        """One run. A run whose process has vanished is marked as failed first."""
        run = self.run(run_id)
        if actions.check_process(run):
            run = self.run(run_id)
        return Response(serializers.RunDetail(run).data)

    @extend_schema(
        operation_id="change_run",
        request=serializers.RunChanges,
        responses=serializers.RunDetail,
    )
    def patch(self, request: Request, run_id: str) -> Response:
        """Replace the notes or the tags of a run; answers with the run as it then is."""
        wanted = serializers.RunChanges.read(request)
        run = self.run(run_id, right=Right.CHANGE)
        if "notes" in wanted:
            actions.set_notes(run, wanted["notes"], by=request.user)
        if "tags" in wanted:
            actions.set_tags(run, wanted["tags"], by=request.user)
        return Response(serializers.RunDetail(self.run(run_id)).data)


class ChangeRuns(RunView):
    """Shared by soft-delete and restore: check all ids, then change each run, then report."""

    def change(
        self,
        submitted: list[str],
        candidates: RunQuerySet,
        action: Callable[..., actions.Outcome],
    ) -> dict[str, dict[str, Any]]:
        """Do *action* to the runs of these ids; per id the outcome in the documented form."""
        ids = list(dict.fromkeys(submitted))
        runs = {run.run_id: run for run in reversed(candidates.filter(run_id__in=ids))}
        outcome = action([runs[i] for i in ids if i in runs], by=self.request.user)
        return {run_id: _result(outcome.get(run_id, "run not found")) for run_id in ids}


def _result(error: str | None) -> dict[str, Any]:
    if error is None:
        return {"success": True}
    return {"success": False, "error": error} if error else {"success": False}


@extend_schema(tags=["runs"])
class SoftDelete(ChangeRuns):
    @extend_schema(
        operation_id="soft_delete_runs",
        request=serializers.RunsToDelete,
        responses=serializers.SoftDeleted,
    )
    def post(self, request: Request) -> Response:
        """Move runs to the recycle bin."""
        candidates = self.runs(Right.CHANGE).active().in_listing_order()
        submitted = serializers.RunsToDelete.read(request)["run_ids"]
        results = self.change(submitted, candidates, actions.soft_delete_runs)
        done = sum(result["success"] for result in results.values())
        return Response(
            {
                "deleted_count": done,
                "results": results,
                "message": f"Soft deleted {done} of {len(submitted)} runs",
            }
        )

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """v0.4 takes ``soft-delete`` for a run id here."""
        raise NotFound("Run not found")


@extend_schema(tags=["runs"])
class RecycleBin(RunView):
    @extend_schema(operation_id="list_recycle_bin", responses=serializers.RecycleBin)
    def get(self, request: Request) -> Response:
        """The runs in the recycle bin."""
        runs = self.runs().deleted().select_related("project").in_listing_order()
        return Response(serializers.RecycleBin({"deleted_runs": runs}).data)


@extend_schema(tags=["runs"])
class Restore(ChangeRuns):
    @extend_schema(
        operation_id="restore_runs",
        request=serializers.RunsToRestore,
        responses=serializers.Restored,
    )
    def post(self, request: Request) -> Response:
        """Bring runs back from the recycle bin."""
        candidates = self.runs(Right.CHANGE).in_listing_order()
        submitted = serializers.RunsToRestore.read(request)["run_ids"]
        results = self.change(submitted, candidates, actions.restore_runs)
        done = sum(result["success"] for result in results.values())
        return Response(
            {
                "restored_count": done,
                "results": results,
                "message": f"Restored {done} of {len(submitted)} runs",
            }
        )


@extend_schema(tags=["runs"])
class EmptyRecycleBin(RunView):
    permission_classes = [MayPurge]

    @extend_schema(
        operation_id="empty_recycle_bin",
        request=serializers.Confirmation,
        responses=serializers.Emptied,
    )
    def post(self, request: Request) -> Response:
        """Remove every run in the recycle bin for good."""
        serializers.Confirmation.read(request)
        purged = actions.purge_runs(self.runs(Right.PURGE).deleted(), by=request.user)
        return Response(
            {
                "permanently_deleted": purged.count,
                "message": f"Permanently deleted {purged.count} runs",
            }
        )


class MetricsResponse(TableResponse):
    """A table as V1 sends it: downsampled, or from a cursor on, if that is asked."""

    def __init__(self, request: Request, run: Run) -> None:
        self.asked = serializers.MetricsQuery.read(request)
        self.since: str | None = self.asked.get("since")
        super().__init__(request, run)

    def table(self, state: Any) -> metrics.Tables:
        tables = self.rows(state)
        points = self.asked.get("downsample")
        return tables.downsample(points) if points else tables

    def rows(self, state: Any) -> metrics.Tables:
        raise NotImplementedError

    def members(self, shown: metrics.Tables) -> dict[str, Any]:
        sampled = {"total": shown.total, "sampled": shown.rows}
        return (sampled if "downsample" in self.asked else {}) | (
            {"cursor": self.cursor} if self.since else {}
        )


class ByTime(MetricsResponse):
    def rows(self, state: Any) -> metrics.Tables:
        return metrics.by_time(self.run.pk)


class ByStep(MetricsResponse):
    def rows(self, state: metrics.EventLog | None) -> metrics.Tables:
        after = metrics.events_after(state, self.since) if self.since else 0
        return metrics.by_step(self.run.pk, log=state, after=after)


class Samples(MetricsResponse):
    def find_state(self) -> Reached:
        return Reached(system.cursor(self.run))

    def rows(self, state: Reached) -> metrics.Tables:
        after = system.bytes_before(self.run, self.since) if self.since else 0
        return system.table(self.run, after)


@extend_schema(tags=["metrics"])
class Metrics(RunView):
    @extend_schema(
        operation_id="get_metrics",
        parameters=[serializers.DownsampleQuery],
        responses=serializers.TABLES,
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """What the run logged, one row a moment, in seconds since its first event."""
        return ByTime(request, self.run(run_id)).response()


@extend_schema(tags=["metrics"])
class MetricsByStep(RunView):
    @extend_schema(
        operation_id="get_metrics_by_step",
        parameters=[serializers.MetricsQuery],
        responses=serializers.TABLES,
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """What the run logged, one row a step; of repeated values at a step the last counts."""
        return ByStep(request, self.run(run_id)).response()


@extend_schema(tags=["metrics"])
class SystemMetrics(RunView):
    @extend_schema(
        operation_id="get_system_metrics",
        parameters=[serializers.MetricsQuery],
        responses=serializers.TABLES,
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """What the run's machine did, one row a sample, by ``time`` in Unix seconds.

        Processors, memory, disks, network and GPUs, in per cent, MiB, MiB/s, °C and watts, as the
        names of the columns say. Empty for a run that was not sampled.
        """
        return Samples(request, self.run(run_id)).response()


@extend_schema(tags=["metrics"])
class Progress(RunView):
    @extend_schema(operation_id="get_progress", responses=serializers.Progress, deprecated=True)
    def get(self, request: Request, run_id: str) -> Response:
        """Says nothing, as in v0.4; kept for its clients."""
        return Response({"available": False, "status": "unknown"})


@extend_schema(tags=["runs"])
class StatusCheck(RunView):
    @extend_schema(operation_id="check_status", request=None, responses=serializers.StatusChecked)
    def post(self, request: Request) -> Response:
        """Mark running runs of this machine as failed if their process has vanished."""
        running = list(self.runs(Right.CHANGE).active().running())
        updated = actions.check_processes(running)
        return Response(
            {
                "checked": len(running),
                "updated": updated,
                "message": f"Checked {len(running)} running experiments, "
                f"updated {updated} statuses",
            }
        )
