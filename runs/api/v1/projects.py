"""Projects, experiments and what a run ran on."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers as fields
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.access import Right
from core.http.exceptions import InvalidInput
from core.http.fields import Body, Flag, Number
from core.http.permissions import MayPurge
from core.http.rest import json_object
from runicorn import layout
from runs import actions
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
        """The projects that have runs outside the recycle bin."""
        names = self.runs().active().exclude(project=None).values_list("project__name", flat=True)
        return Response({"projects": sorted(set(names.order_by().distinct()))})


@extend_schema(tags=["projects"])
class ProjectExperiments(RunView):
    @extend_schema(operation_id="list_experiment_names", responses=ExperimentNames)
    def get(self, request: Request, project: str) -> Response:
        """The experiments of a project; none if there is no such project."""
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
        """The runs of an experiment, in the shape of ``GET /runs``."""
        runs = _of(self.runs().active(), project).filter(name=name.replace("\x00", ""))
        actions.check_vanished(runs.running())
        return Response(
            serializers.listed(runs.in_listing_order().values_list(*serializers.LISTED))
        )


def _of(runs: RunQuerySet, project: str) -> RunQuerySet:
    return runs.filter(project__name=project.replace("\x00", ""))  # which PostgreSQL refuses


class EnvironmentAnswer(fields.Serializer):
    available = fields.BooleanField()
    environment = fields.DictField(required=False)


@extend_schema(tags=["runs"])
class Environment(RunView):
    @extend_schema(operation_id="get_environment", responses=EnvironmentAnswer)
    def get(self, request: Request, run_id: str) -> Response:
        """What the run ran on, if it kept that."""
        run = self.run(run_id, f"Run {run_id} not found")
        if not run.indexed_files.filter(name=layout.ENVIRONMENT).exists():
            return Response({"available": False})
        return Response({"available": True, "environment": run.document(layout.ENVIRONMENT)})


# -- tags, search, deletion ----------------------------------------------------------------------


class TagRequest(fields.Serializer):
    run_id = fields.CharField()
    tags = fields.ListField(child=fields.CharField(), required=False)
    append = fields.BooleanField(default=True, help_text="Keep the tags that the run has.")


class Success(fields.Serializer):
    success = fields.BooleanField()


@extend_schema(tags=["experiments"])
class TagExperiment(RunView):
    @extend_schema(operation_id="tag_experiment", request=TagRequest, responses=Success)
    def post(self, request: Request) -> Response:
        """Add tags to a run, or replace those it has."""
        body = json_object(request)
        run_id, append = body.get("run_id"), body.get("append", True)
        if not isinstance(run_id, str) or not run_id:
            raise InvalidInput("run_id is required", ["body", "run_id"])
        if not isinstance(append, bool):
            raise InvalidInput("append must be true or false", ["body", "append"])
        tags = _texts(body.get("tags", []), "tags")
        try:
            run = self.run(run_id, right=Right.CHANGE)
        except NotFound:
            return Response({"success": False})
        actions.set_tags(run, tags, append=append, by=request.user)
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


@extend_schema(tags=["experiments"])
class SearchExperiments(RunView):
    @extend_schema(
        operation_id="search_experiments",
        parameters=[
            OpenApiParameter("project", str),
            OpenApiParameter("tags", str, description="Comma-separated; a run must have all."),
            OpenApiParameter("text", str, description="In name, project, description or a tag."),
            OpenApiParameter("archived", bool, description="Show archived runs, too."),
        ],
        responses=FoundExperiments,
    )
    def get(self, request: Request) -> Response:
        """Runs by what people noted about them, the latest noted first."""
        query = request.query_params
        tags = [tag.strip() for tag in query.get("tags", "").split(",") if tag.strip()]
        runs = self.runs().active().tagged(*dict.fromkeys(tags))
        if not _boolean(query.get("archived", "false"), "archived"):
            runs = runs.filter(archived=False)
        if project := query.get("project", "").replace("\x00", ""):
            runs = runs.filter(project__name=project)
        runs = runs.noted_containing(query.get("text", "")).select_related("project")
        found = [_noted(run) for run in runs.prefetch_related(_TAGS).last_changed_first()]
        return Response({"experiments": found})


_TAGS = Prefetch("tags", Tag.objects.order_by("pk"))


def _noted(run: Run) -> dict[str, Any]:
    return {
        "id": run.run_id,
        "project": run.project.name if run.project else None,
        "name": run.name,
        "tags": [tag.key for tag in run.tags.all()],
        "description": run.notes or None,
        "created_at": run.created_time,
        "updated_at": run.annotated_at or run.created_time,
        "archived": run.archived,
        "pinned": run.pinned,
    }


class DeleteRequest(fields.Serializer):
    run_ids = fields.ListField(child=fields.CharField(), min_length=1)
    force = fields.BooleanField(default=False, help_text="Delete pinned runs, too.")


class DeletedExperiments(fields.Serializer):
    results = fields.DictField(child=fields.BooleanField())


@extend_schema(tags=["experiments"])
class DeleteExperiments(RunView):
    permission_classes = [MayPurge]

    @extend_schema(
        operation_id="delete_experiments",
        request={"application/json": DeleteRequest},
        responses={200: DeletedExperiments, 400: OpenApiTypes.OBJECT},
    )
    def delete(self, request: Request) -> Response:
        """Remove runs for good, past the recycle bin."""
        body = json_object(request)
        force = body.get("force", False)
        if not isinstance(force, bool):
            raise InvalidInput("force must be true or false", ["body", "force"])
        if not body.get("run_ids"):
            raise InvalidInput("run_ids are required", ["body", "run_ids"])
        ids = list(dict.fromkeys(_texts(body["run_ids"], "run_ids")))
        directory = request.query_params.get("dir")
        runs = [run for run_id in ids for run in self.runs(Right.PURGE).copies(run_id, directory)]
        refuse_copies(runs)
        removed = actions.remove_runs(runs, force=force, by=request.user)
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
        asked = CleanupRequest.read(request)
        runs = self.runs(Right.PURGE).active().unchanged(asked["days"])
        old = list(runs.in_listing_order())
        ids = [run.run_id for run in old]
        if not asked["dry_run"]:
            removed = actions.remove_runs(old, force=False, by=request.user)
            ids = [run_id for run_id in ids if run_id in removed]
        return Response({"run_ids": ids})


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{name} must be a list of texts", ["body", name])
    return value


def _boolean(text: str, name: str) -> bool:
    word = text.strip().lower()
    if word in ("true", "1", "yes", "on", "t", "y"):
        return True
    if word in ("false", "0", "no", "off", "f", "n"):
        return False
    raise InvalidInput(
        f"{name} must be true or false",
        ["query", name],
        "Input should be a valid boolean, unable to interpret input",
    )
