"""The life of a model: training, stages, evaluations."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.access import Right
from core.http.exceptions import InvalidInput
from core.http.fields import path_integer
from runicorn import layout
from runicorn.artifacts import InvalidTransition
from runs.models import Run

from .. import actions, evaluations, serializers
from ..models import Artifact, Version
from .base import ArtifactView


@extend_schema(tags=["model-lifecycle"])
class TrainingMetrics(ArtifactView):
    @extend_schema(
        operation_id="get_training_metrics",
        parameters=[serializers.VersionQuery],
        responses=serializers.TrainingMetrics,
    )
    def get(self, request: Request, name: str) -> Response:
        """Return the summary of the run that produced the (newest) version; null without a run."""
        number = serializers.VersionQuery.read(request).get("version")
        artifact = self.artifact(name)
        if number is None:
            newest = self.versions(artifact).order_by("-number").first()
            if newest is None:
                raise NotFound(f"No versions found for artifact: {name}")
            number = newest.number
        version = self.numbered(artifact, number)
        return Response(training(version, request.user) if version else None)


def training(version: Version, user: Any) -> dict[str, Any] | None:
    """Return the run that produced *version*; None if it is unknown, deleted or gone."""
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
        parameters=[serializers.PerformanceQuery],
        responses=serializers.Performance(many=True),
    )
    def get(self, request: Request, name: str) -> Response:
        """Return the metrics of the versions' runs, oldest first; skip versions without a run."""
        metric = serializers.PerformanceQuery.read(request)["metric_name"]
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
        number = path_integer(version, "version")
        params = serializers.Promotion.read(request)
        stage = params["to_stage"]
        try:
            row = self.version(name, version, Right.CHANGE)
        except NotFound:
            raise NotFound(f"Artifact not found: {name}:v{number}") from None
        try:
            old = actions.promote(
                row,
                stage,
                notes=params["notes"],
                evaluator_run_id=params["evaluator_run_id"],
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
        """Record an evaluation of the version, which need not exist here."""
        number = path_integer(version, "version")
        facts = serializers.Evaluation.read(request)
        try:
            row = self.find_version(name, version)
        except NotFound:
            row = None
        try:
            eval_id = actions.record_evaluation(name, number, row, facts, by=request.user)
        except ValueError as error:
            raise InvalidInput(str(error), ["path", "name"]) from None
        message = "Evaluation recorded successfully"
        return Response({"ok": True, "eval_id": eval_id, "message": message})


@extend_schema(tags=["model-lifecycle"])
class Evaluations(ArtifactView):
    @extend_schema(
        operation_id="list_evaluations",
        parameters=[serializers.EvaluationsQuery],
        responses=serializers.EvaluationRecord(many=True),
    )
    def get(self, request: Request, name: str) -> Response:
        """Return the recorded evaluations of the artifact, the newest first."""
        number = serializers.EvaluationsQuery.read(request).get("version")
        named = Artifact.objects.filter(name=name)
        is_hidden = named.exists() and not named.visible_to(request.user).exists()
        return Response([] if is_hidden else evaluations.recorded(name, number))
