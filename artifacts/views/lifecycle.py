"""The life of a model (``contract/artifacts.md`` §8 to §12): training, stages, evaluations."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.access import Right
from core.http.exceptions import InvalidInput
from core.http.rest import json_object
from runicorn import layout
from runicorn.artifacts import InvalidTransition
from runs.models import Run

from .. import actions, evaluations, serializers
from ..models import Version
from .base import TYPE, ArtifactView, finite, integer, optional_texts, required


@extend_schema(tags=["model-lifecycle"])
class TrainingMetrics(ArtifactView):
    @extend_schema(
        operation_id="get_training_metrics",
        parameters=[TYPE, OpenApiParameter("version", OpenApiTypes.INT)],
        responses=serializers.TrainingMetrics,
    )
    def get(self, request: Request, name: str) -> Response:
        """The summary of the run that produced the version (the newest one); null without it."""
        asked = request.query_params.get("version")
        number = integer(asked, ["query", "version"]) if asked is not None else None
        artifact = self.artifact(name)
        if number is None:
            newest = self.versions(artifact).order_by("-number").first()
            if newest is None:
                raise NotFound(f"No versions found for artifact: {name}")
            number = newest.number
        version = self.numbered(artifact, number)
        return Response(training(version, request.user) if version else None)


def training(version: Version, user: Any) -> dict[str, Any] | None:
    """The run that produced *version*; None if it is not known, deleted or gone."""
    if not version.created_by_run:
        return None
    runs = Run.objects.visible_to(user).active().select_related("project")
    run = runs.by_id(version.created_by_run)
    if run is None:
        return None
    return {
        "run_id": run.run_id,
        "run_name": run.name or "default",
        "project": run.project.name if run.project else "default",
        "metrics": run.document(layout.SUMMARY),
        "created_at": run.created_time,
        "duration_seconds": run.duration_seconds,
        "status": run.status,
    }


@extend_schema(tags=["model-lifecycle"])
class PerformanceHistory(ArtifactView):
    @extend_schema(
        operation_id="get_performance_history",
        parameters=[TYPE, OpenApiParameter("metric_name")],
        responses=serializers.Performance(many=True),
    )
    def get(self, request: Request, name: str) -> Response:
        """What the versions' runs reached, oldest first; versions without a run are left out."""
        metric = request.query_params.get("metric_name")
        history = []
        for version in self.versions(self.artifact(name)).order_by("number"):
            if (trained := training(version, request.user)) is not None:
                values = {
                    key: value
                    for key, value in trained["metrics"].items()
                    if isinstance(value, int | float)
                }
                if metric is not None and metric in trained["metrics"]:
                    values = {metric: trained["metrics"][metric]}
                history.append(
                    {
                        "version": version.number,
                        "created_at": version.created_time,
                        "run_id": trained["run_id"],
                        "status": trained["status"],
                        "metrics": values,
                    }
                )
        return Response(history)


@extend_schema(tags=["model-lifecycle"])
class Promote(ArtifactView):
    @extend_schema(
        operation_id="promote_artifact",
        request=serializers.Promotion,
        responses=serializers.Promoted,
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Move the version to another stage of its life."""
        number = integer(version, ["path", "version"])
        body = json_object(request)
        stage = required(body, {"to_stage": str})["to_stage"]
        optional_texts(body, "notes", "evaluator_run_id")
        try:
            found = self.version(name, version, Right.CHANGE)
        except NotFound:
            raise NotFound(f"Artifact not found: {name}:v{number}") from None
        try:
            old = actions.promote(
                found,
                stage,
                notes=body.get("notes"),
                evaluator_run_id=body.get("evaluator_run_id"),
                by=request.user,
            )
        except InvalidTransition as error:
            raise InvalidInput(str(error), ["body", "to_stage"]) from None
        return Response(
            {
                "ok": True,
                "artifact": f"{name}:v{number}",
                "from_stage": old,
                "to_stage": stage,
                "message": f"Successfully promoted to {stage}",
            }
        )


@extend_schema(tags=["model-lifecycle"])
class Evaluate(ArtifactView):
    @extend_schema(
        operation_id="evaluate_artifact",
        request=serializers.Evaluation,
        responses=serializers.Evaluated,
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Record how the version did; the version itself need not be kept here."""
        number = integer(version, ["path", "version"])
        body = json_object(request)
        kinds = {"model_name": str, "model_version": int, "evaluation_date": float}
        facts = required(body, {**kinds, "metrics": dict, "status": str})
        optional_texts(body, "evaluator_run_id", "test_dataset", "notes")
        facts |= {key: body.get(key) for key in ("evaluator_run_id", "test_dataset", "notes")}
        facts["metrics"] = {
            key: finite(value, ["body", "metrics", key]) for key, value in body["metrics"].items()
        }
        try:
            found = self.find_version(name, version)
        except NotFound:
            found = None
        try:
            eval_id = actions.record_evaluation(name, number, found, facts, by=request.user)
        except ValueError as error:
            raise InvalidInput(str(error), ["path", "name"]) from None
        message = "Evaluation recorded successfully"
        return Response({"ok": True, "eval_id": eval_id, "message": message})


@extend_schema(tags=["model-lifecycle"])
class Evaluations(ArtifactView):
    @extend_schema(
        operation_id="list_evaluations",
        parameters=[OpenApiParameter("version", OpenApiTypes.INT)],
        responses=serializers.EvaluationRecord(many=True),
    )
    def get(self, request: Request, name: str) -> Response:
        """The recorded evaluations of the artifact, the newest first."""
        asked = request.query_params.get("version")
        number = integer(asked, ["query", "version"]) if asked is not None else None
        return Response(evaluations.recorded(name, number))
