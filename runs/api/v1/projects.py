"""Projects, experiments and the environments of runs."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Prefetch
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers as fields
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.access import Right
from core.http.fields import Body, Flag, Number, OptionalText, Query, Text, TextList
from core.http.permissions import MayPurge
from runicorn import layout, run_store
from runs import actions
from runs.finding.filters import RunFilter
from runs.models import Run, Tag
from runs.querysets import RunQuerySet

from ..copies import refuse_copies
from . import serializers
from .views import RunView


class ProjectNames(fields.Serializer):
    projects = fields.ListField(child=fields.CharField())


class ExperimentNames(fields.Serializer):
    names = fields.ListField(child=fields.CharField())


@extend_schema(tags=["projects"])
class Projects(RunView):
    @extend_schema(operation_id="list_projects", responses=ProjectNames)
    def get(self, request: Request) -> Response:
        """Return the projects that have runs outside the recycle bin."""
        names = self.runs().active().exclude(project=None).values_list("project__name", flat=True)
        return Response({"projects": sorted(set(names.order_by().distinct()))})


@extend_schema(tags=["projects"])
class ProjectExperiments(RunView):
    @extend_schema(operation_id="list_experiment_names", responses=ExperimentNames)
    def get(self, request: Request, project: str) -> Response:
        """Return the experiments of a project; none if there is no such project."""
        names = _of(self.runs().active(), project).exclude(name=None)
        return Response(
            {"names": sorted(set(names.values_list("name", flat=True).order_by().distinct()))}
        )


@extend_schema(tags=["projects"])
class ExperimentRuns(RunView):
    @extend_schema(
        operation_id="list_experiment_runs", responses=serializers.RunListItem(many=True)
    )
    def get(self, request: Request, project: str, name: str) -> Response:
        """Return the runs of an experiment, in the shape of ``GET /runs``."""
        runs = _of(self.runs().active(), project).filter(name=name.replace("\x00", ""))
        actions.check_vanished(runs.running())
        return Response(
            serializers.listed(runs.in_listing_order().values_list(*serializers.LISTED))
        )


def _of(runs: RunQuerySet, project: str) -> RunQuerySet:
    return runs.filter(project__name=project.replace("\x00", ""))  # PostgreSQL rejects NUL


class EnvironmentAnswer(fields.Serializer):
    available = fields.BooleanField()
    environment = fields.DictField(required=False)


@extend_schema(tags=["runs"])
class Environment(RunView):
    @extend_schema(operation_id="get_environment", responses=EnvironmentAnswer)
    def get(self, request: Request, run_id: str) -> Response:
        """Return the environment of the run, if it was recorded."""
        run = self.run(run_id, f"Run {run_id} not found")
        if not run.indexed_files.filter(name=layout.ENVIRONMENT).exists():
            return Response({"available": False})
        return Response({"available": True, "environment": run.document(layout.ENVIRONMENT)})


# -- tags, search, deletion ----------------------------------------------------------------------


def _sentence(text: str, *codes: str) -> dict[str, str]:
    return dict.fromkeys(codes, text)


class TagRequest(Body):
    run_id = Text(
        error_messages=_sentence("run_id is required", "required", "null", "invalid", "blank")
    )
    tags = TextList(
        child=Text(allow_blank=True),
        default=list,
        error_messages=_sentence("tags must be a list of texts", "not_a_list", "null"),
    )
    append = Flag(
        default=True,
        help_text="Keep the tags that the run has.",
        error_messages=_sentence("append must be true or false", "invalid", "null"),
    )


class Success(fields.Serializer):
    success = fields.BooleanField()


@extend_schema(tags=["experiments"])
class TagExperiment(RunView):
    @extend_schema(operation_id="tag_experiment", request=TagRequest, responses=Success)
    def post(self, request: Request) -> Response:
        """Add tags to a run, or replace its tags."""
        params = TagRequest.read(request)
        try:
            run = self.run(params["run_id"], right=Right.CHANGE)
        except NotFound:
            return Response({"success": False})
        actions.set_tags(run, params["tags"], append=params["append"], by=request.user)
        return Response({"success": True})


class FoundExperiment(fields.Serializer):
    id = fields.CharField()
    project = fields.CharField(allow_null=True)
    name = fields.CharField(allow_null=True)
    tags = fields.ListField(child=fields.CharField())
    description = fields.CharField(allow_null=True)
    created_at = fields.FloatField(allow_null=True)
    updated_at = fields.FloatField(allow_null=True)
    archived = fields.BooleanField()
    pinned = fields.BooleanField()


class FoundExperiments(fields.Serializer):
    experiments = FoundExperiment(many=True)


class SearchQuery(Query):
    project = OptionalText(default="")
    tags = OptionalText(default="", help_text="Comma-separated; a run must have all.")
    text = OptionalText(
        default="", help_text="Words that all stand in name, project, description, a tag or the id."
    )
    archived = Flag(default=False, help_text="Show archived runs, too.")


@extend_schema(tags=["experiments"])
class SearchExperiments(RunView):
    @extend_schema(
        operation_id="search_experiments",
        parameters=[SearchQuery],
        responses=FoundExperiments,
    )
    def get(self, request: Request) -> Response:
        """Return runs with their annotations, the last annotated first."""
        params = SearchQuery.read(request)
        filters = {"project": params["project"], "tags": params["tags"], "search": params["text"]}
        runs = RunFilter.narrow(self.runs(), {k: v for k, v in filters.items() if v})
        if not params["archived"]:
            runs = runs.filter(archived=False)
        runs = runs.select_related("project").prefetch_related(_TAGS)
        records = run_store.experiments_file(settings.RUNICORN_STORAGE_ROOT).records()
        experiments = [
            _annotations(run, records.get(run.run_id, {})) for run in runs.last_changed_first()
        ]
        return Response({"experiments": experiments})


_TAGS = Prefetch("tags", Tag.objects.order_by("pk"))


def _annotations(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    """Return the annotations of *run*. Only its *record* in 0.4's file has the time of the first
    one."""
    created_at = record.get("created_at")
    is_time = isinstance(created_at, int | float) and not isinstance(created_at, bool)
    return {
        "id": run.run_id,
        "project": run.project.name if run.project else None,
        "name": run.name,
        "tags": [tag.key for tag in run.tags.all()],
        "description": run.notes or None,
        "created_at": created_at if is_time else run.created_time,
        "updated_at": run.annotated_at or run.created_time,
        "archived": run.archived,
        "pinned": run.pinned,
    }


class DeleteRequest(Body):
    run_ids = TextList(
        child=Text(allow_blank=True),
        allow_empty=False,
        error_messages={
            **_sentence("run_ids are required", "required", "null", "empty"),
            "not_a_list": "run_ids must be a list of texts",
        },
    )
    force = Flag(
        default=False,
        help_text="Delete pinned runs, too.",
        error_messages=_sentence("force must be true or false", "invalid", "null"),
    )


class DeletedExperiments(fields.Serializer):
    results = fields.DictField(child=fields.BooleanField())


@extend_schema(tags=["experiments"])
class DeleteExperiments(RunView):
    permission_classes = [MayPurge]

    @extend_schema(
        operation_id="delete_experiments",
        parameters=[serializers.CopyQuery],
        request={"application/json": DeleteRequest},
        responses={200: DeletedExperiments, 400: OpenApiTypes.OBJECT},
    )
    def delete(self, request: Request) -> Response:
        """Remove runs for good, bypassing the recycle bin."""
        directory = serializers.CopyQuery.read(request)["dir"]
        params = DeleteRequest.read(request)
        ids = list(dict.fromkeys(params["run_ids"]))
        runs = [run for run_id in ids for run in self.runs(Right.PURGE).copies(run_id, directory)]
        refuse_copies(runs)
        removed = actions.remove_runs(runs, force=params["force"], by=request.user)
        return Response({"results": {run_id: run_id in removed for run_id in ids}})


class CleanupRequest(Body):
    days = Number(default=30, min_value=0, help_text="Unchanged for so long.")
    dry_run = Flag(default=True, help_text="Only say which.")


class Cleaned(fields.Serializer):
    run_ids = fields.ListField(child=fields.CharField())


@extend_schema(tags=["experiments"])
class CleanupExperiments(RunView):
    permission_classes = [MayPurge]

    @extend_schema(operation_id="cleanup_experiments", request=CleanupRequest, responses=Cleaned)
    def post(self, request: Request) -> Response:
        """Remove runs for good that have ended and were not changed for some days.

        Pinned and archived ones stay. Says which they are, or with `dry_run` would be.
        """
        params = CleanupRequest.read(request)
        runs = self.runs(Right.PURGE).active().unchanged(params["days"])
        old = list(runs.in_listing_order())
        ids = [run.run_id for run in old]
        if not params["dry_run"]:
            removed = actions.remove_runs(old, force=False, by=request.user)
            ids = [run_id for run_id in ids if run_id in removed]
        return Response({"run_ids": ids})
