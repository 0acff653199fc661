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
from core.http.exceptions import Conflict, InvalidInput
from core.http.permissions import MayPurge, SeeOrChange
from metrics import read as metrics
from runicorn import layout
from runicorn.run_store import RunConflict, RunNotFound
from runs import actions, system
from runs.ingest import folder_source
from runs.models import Run
from runs.querysets import RunQuerySet

from ..copies import refuse_copies
from ..tables import Reached, TableResponse
from . import serializers


class RunView(APIView):
    """A view that finds runs to which the user has a right."""

    permission_classes = [SeeOrChange]

    def runs(self, right: Right = Right.SEE) -> RunQuerySet:
        return access.rows(Run.objects.all(), self.request.user, right)

    def run(self, run_id: str, detail: str = "Run not found", *, right: Right = Right.SEE) -> Run:
        """Return the run, refreshed from its folder; 404 if there is none or it was deleted.

        ``?dir=`` names one of several copies of a run's folder; only readers may omit it.
        """
        runs = self.runs(right).active().select_related("project")
        directory = serializers.CopyQuery.read(self.request)["dir"]
        run = folder_source.refresh(folder_source.look_up(runs, run_id, directory))
        if right is not Right.SEE:
            refuse_copies(runs.copies(run_id, directory))
        if run is None or run.is_deleted:
            raise NotFound(detail)
        return run


@extend_schema(tags=["runs"])
class RunList(RunView):
    @extend_schema(operation_id="list_runs", responses=serializers.RunListItem(many=True))
    def get(self, request: Request) -> HttpResponseBase:
        """Return all runs outside the recycle bin, by project and experiment."""
        runs = self.runs().active()
        actions.check_vanished(runs.running())
        rows = runs.in_listing_order().values_list(*serializers.LISTED)
        return conditional.json_response(request, lambda: serializers.listed(rows))


@extend_schema(tags=["runs"])
class RunRetrieve(RunView):
    @extend_schema(operation_id="get_run", responses=serializers.RunDetail)
    def get(self, request: Request, run_id: str) -> Response:
        """Return one run; mark it as failed first if its process has vanished."""
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
        """Change the annotations of a run, or move it to another project or experiment.

        The response is the changed run. A run that is running is not moved (409).
        """
        changes = serializers.RunChanges.read(request)
        run = self.run(run_id, right=Right.CHANGE)
        target = {key: changes.pop(key, None) for key in ("project", "name")}
        if changes:
            actions.annotate(run, changes, by=request.user)
        if any(target.values()):
            self._move(run, target)
        changed = folder_source.refresh(Run.objects.filter(pk=run.pk).first())
        if changed is None:
            raise NotFound("Run not found")
        return Response(serializers.RunDetail(changed).data)

    def _move(self, run: Run, target: dict[str, str | None]) -> None:
        project = target["project"] or (run.project.name if run.project else "")
        try:
            actions.move_run(run, project, target["name"] or run.name or "", by=self.request.user)
        except RunNotFound as error:
            raise NotFound("Run not found") from error
        except RunConflict as error:
            raise Conflict(str(error)) from error
        except ValueError as error:
            raise InvalidInput(str(error), ["body"]) from error


class ChangeRuns(RunView):
    """Shared by soft-delete and restore: check all ids, then change each run, then report."""

    is_restored = False
    """Whether the verb changes runs that are in the recycle bin."""

    def change(
        self,
        submitted: list[str],
        candidates: RunQuerySet,
        action: Callable[..., actions.Outcome],
    ) -> dict[str, dict[str, Any]]:
        """Apply *action* to the runs with these ids; return the outcome per id as documented."""
        ids = list(dict.fromkeys(submitted))
        folder_source.index_unknown(ids)
        runs = {run.run_id: run for run in self._candidates(candidates.filter(run_id__in=ids))}
        outcome = action([runs[i] for i in ids if i in runs], by=self.request.user)
        return {run_id: _result(outcome.get(run_id, "run not found")) for run_id in ids}

    def _candidates(self, runs: RunQuerySet) -> list[Run]:
        """Return those of *runs* that the request means; 409 if several have the same id."""
        directory = serializers.CopyQuery.read(self.request)["dir"]
        if directory is not None:
            runs = runs.filter(directory=directory.strip("/").replace("\x00", ""))
        # Of a run and its copy in the other state, the verb means the one that it can change.
        fits = [run for run in runs if run.is_deleted == self.is_restored]
        refuse_copies(fits)
        run_by_id = {run.run_id: run for run in runs} | {run.run_id: run for run in fits}
        return list(run_by_id.values())

    def _check(self, run_ids: list[str]) -> list[str]:
        """Return *run_ids*; refuse ids that are neither well-formed nor those of listed runs."""
        for index, run_id in enumerate(run_ids):
            if not layout.is_run_id(run_id) and not self.runs().copies(run_id):
                raise InvalidInput(f"Invalid run_id format: {run_id}", ["body", "run_ids", index])
        return run_ids


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
        submitted = self._check(serializers.RunsToDelete.read(request)["run_ids"])
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
        """Answer 404, as v0.4, which reads ``soft-delete`` as a run id here."""
        raise NotFound("Run not found")


@extend_schema(tags=["runs"])
class RecycleBin(RunView):
    @extend_schema(operation_id="list_recycle_bin", responses=serializers.RecycleBin)
    def get(self, request: Request) -> Response:
        """Return the runs in the recycle bin."""
        runs = self.runs().deleted().select_related("project").in_listing_order()
        return Response(serializers.RecycleBin({"deleted_runs": runs}).data)


@extend_schema(tags=["runs"])
class Restore(ChangeRuns):
    is_restored = True

    @extend_schema(
        operation_id="restore_runs",
        request=serializers.RunsToRestore,
        responses=serializers.Restored,
    )
    def post(self, request: Request) -> Response:
        """Restore runs from the recycle bin."""
        candidates = self.runs(Right.CHANGE).in_listing_order()
        submitted = self._check(serializers.RunsToRestore.read(request)["run_ids"])
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
                "refused": purged.refusals,
                "message": f"Permanently deleted {purged.count} runs",
            }
        )


class MetricsResponse(TableResponse):
    """A table as V1 sends it, on request downsampled or from a cursor on."""

    def __init__(self, request: Request, run: Run) -> None:
        self.params = serializers.MetricsQuery.read(request)
        self.since: str | None = self.params.get("since")
        super().__init__(request, run)

    def table(self, state: Any) -> metrics.Tables:
        tables = self.rows(state)
        points = self.params.get("downsample")
        return tables.downsample(points) if points else tables

    def rows(self, state: Any) -> metrics.Tables:
        raise NotImplementedError

    def members(self, shown: metrics.Tables) -> dict[str, Any]:
        sampled = {"total": shown.total, "sampled": shown.rows}
        return (sampled if "downsample" in self.params else {}) | (
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
        """Return the logged values, one row per time, in seconds since the run's first event."""
        return ByTime(request, self.run(run_id)).response()


@extend_schema(tags=["metrics"])
class MetricsByStep(RunView):
    @extend_schema(
        operation_id="get_metrics_by_step",
        parameters=[serializers.MetricsQuery],
        responses=serializers.TABLES,
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """Return the logged values, one row per step with the last value of each metric."""
        return ByStep(request, self.run(run_id)).response()


@extend_schema(tags=["metrics"])
class SystemMetrics(RunView):
    @extend_schema(
        operation_id="get_system_metrics",
        parameters=[serializers.MetricsQuery],
        responses=serializers.TABLES,
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        """Return the samples of the run's machine, one row each, by ``time`` in Unix seconds.

        They cover processors, memory, disks, network and GPUs; the names of the columns have the
        units. Empty for a run that was not sampled.
        """
        return Samples(request, self.run(run_id)).response()


@extend_schema(tags=["metrics"])
class Progress(RunView):
    @extend_schema(operation_id="get_progress", responses=serializers.Progress, deprecated=True)
    def get(self, request: Request, run_id: str) -> Response:
        """Return no information, as v0.4; kept for its clients."""
        return Response({"available": False, "status": "unknown"})


@extend_schema(tags=["runs"])
class StatusCheck(RunView):
    @extend_schema(operation_id="check_status", request=None, responses=serializers.StatusChecked)
    def post(self, request: Request) -> Response:
        """Mark running runs as failed if their process has vanished, or shows no sign of life."""
        judged = list(self.runs(Right.CHANGE).active().judged_by_processes())
        running = [run for run in judged if run.status == Run.Status.RUNNING]
        updated = actions.check_processes(judged)
        return Response(
            {
                "checked": len(running),
                "updated": updated,
                "message": f"Checked {len(running)} running experiments, "
                f"updated {updated} statuses",
            }
        )
