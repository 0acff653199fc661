"""Artifacts (``contract/artifacts.md``), and what goes beyond v0.4."""

from __future__ import annotations

import math
import re
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from runicorn import layout
from runicorn.artifacts import InvalidTransition
from runicorn.artifacts.names import (
    check_alias,
    check_name,
    check_path,
    check_tags,
    check_type,
    inside,
    parse_digest,
)
from runicorn.artifacts.storage import EVALUATIONS
from runicorn_site.exceptions import InvalidInput, TooLarge
from runicorn_site.rest import json_object
from runs import folders
from runs.models import Run

from . import actions, index, lineage, serializers, streams, uploads
from .exceptions import ContentsMissing, UploadMismatch, UploadNotFound, WrongOffset
from .models import Artifact, Blob, Usage, Version

_INTEGER = re.compile(r"\s*[+-]?[0-9]+(_[0-9]+)*(\.0*)?\s*")
_TRUE = {"true", "1", "yes", "on", "t", "y"}
_FALSE = {"false", "0", "no", "off", "f", "n"}

TYPE = OpenApiParameter("type", description="model, dataset, config, code or custom.")


class Conflict(APIException):
    status_code = 409


def integer(text: str, loc: list[str | int]) -> int:
    """An integer as v0.4 takes it: signs, spaces, ``_`` and ``3.0`` are fine."""
    if not _INTEGER.fullmatch(text) or len(text) > 100:
        msg = "Input should be a valid integer, unable to parse string as an integer"
        raise InvalidInput(f"{loc[-1]}: {msg}", loc, msg)
    return int(text.strip().partition(".")[0])


def boolean(text: str, loc: list[str | int]) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        msg = "Input should be a valid boolean, unable to interpret input"
        raise InvalidInput(f"{loc[-1]}: {msg}", loc, msg)
    return word in _TRUE


class ArtifactView(APIView):
    """What the views of this module have in common: finding what the user may see."""

    def artifact(self, name: str) -> Artifact:
        """The artifact as its folder says now; 404 if there is none of that name and type."""
        kind = self.request.query_params.get("type") or None
        try:
            found = index.take_in(index.storage().find(name, kind))
        except FileNotFoundError as error:
            raise NotFound(str(error)) from None
        visible = Artifact.objects.visible_to(self.request.user)
        artifact = visible.filter(pk=found.pk).first() if found else None
        if artifact is None:
            raise NotFound(f"Artifact not found: {name}")
        return artifact

    def find_version(self, name: str, version: str) -> Version | None:
        """The version, if the artifact (404) has it."""
        number = integer(version, ["path", "version"])
        return self.numbered(self.artifact(name), number)

    def version(self, name: str, version: str) -> Version:
        found = self.find_version(name, version)
        if found is None:
            number = integer(version, ["path", "version"])
            raise NotFound(f"Version not found: {name}:v{number}")
        return found

    def numbered(self, artifact: Artifact, number: int) -> Version | None:
        if abs(number) >= 2**63:
            return None
        versions = Version.objects.visible_to(self.request.user).select_related("artifact")
        return versions.filter(artifact=artifact, number=number).first()


# -- looking -------------------------------------------------------------------------------------


@extend_schema(tags=["artifacts"])
class ArtifactList(ArtifactView):
    @extend_schema(
        operation_id="list_artifacts",
        parameters=[TYPE],
        responses=serializers.ArtifactItem(many=True),
    )
    def get(self, request: Request) -> Response:
        """Every artifact that has versions, the last updated first."""
        index.refresh_all()
        found = Artifact.objects.visible_to(request.user).filter(is_listed=True).with_versions()
        if kind := request.query_params.get("type", ""):
            found = found.filter(type=kind) if "\x00" not in kind else found.none()
        found = found.prefetch_related("aliases__version").order_by("-updated_time", "type", "name")
        return Response(serializers.ArtifactItem(found, many=True).data)


@extend_schema(tags=["artifacts"])
class Stats(ArtifactView):
    @extend_schema(operation_id="get_artifact_stats", responses=serializers.Stats)
    def get(self, request: Request) -> Response:
        """How much there is, and what storing equal contents once saves."""
        index.refresh_all()
        versions = Version.objects.visible_to(request.user)
        totals = versions.totals()
        size, pool = totals["size_bytes"], Blob.objects.stored_bytes()
        return Response(
            {
                "total_artifacts": totals["artifacts"],
                "total_versions": totals["versions"],
                "total_size_bytes": size,
                "total_files": totals["files"],
                "dedup_enabled": True,
                "by_type": versions.totals_by_type(),
                "dedup_pool_size_bytes": pool,
                "space_saved_bytes": max(0, size - pool),
                "dedup_ratio": max(0.0, 1 - pool / size) if size else 0.0,
            }
        )


@extend_schema(tags=["artifacts"])
class VersionList(ArtifactView):
    @extend_schema(
        operation_id="list_artifact_versions",
        parameters=[TYPE],
        responses=serializers.VersionItem(many=True),
    )
    def get(self, request: Request, name: str) -> Response:
        """The artifact's versions, the oldest first; deleted ones say so."""
        artifact = self.artifact(name)
        versions = Version.objects.visible_to(request.user).filter(artifact=artifact)
        versions = versions.select_related("artifact").order_by("number")
        found = list(versions.prefetch_related("artifact__aliases"))
        return Response(serializers.VersionItem(found, many=True).data)


@extend_schema(tags=["artifacts"])
class VersionRetrieve(ArtifactView):
    @extend_schema(
        operation_id="get_artifact_version",
        parameters=[TYPE],
        responses=serializers.VersionDetail,
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """One version."""
        return Response(serializers.detail(self.version(name, version)))

    @extend_schema(
        operation_id="delete_artifact_version",
        parameters=[TYPE, OpenApiParameter("permanent", OpenApiTypes.BOOL)],
        responses=serializers.Deleted,
    )
    def delete(self, request: Request, name: str, version: str) -> Response:
        """Mark the version as deleted, or remove it for good with its bytes."""
        number = integer(version, ["path", "version"])
        permanent = boolean(request.query_params.get("permanent", "false"), ["query", "permanent"])
        found = self.version(name, version)
        if permanent:
            purged = actions.purge_versions([found], by=request.user)
            message = f"Permanently deleted {name}:v{number} locally"
            return Response({"success": True, "message": message, "freed_bytes": purged.bytes})
        actions.soft_delete_versions([found], by=request.user)
        return Response({"success": True, "message": f"Soft deleted {name}:v{number} locally"})

    @extend_schema(
        operation_id="edit_artifact_version",
        parameters=[TYPE],
        request=serializers.Edit,
        responses=serializers.VersionDetail,
    )
    def patch(self, request: Request, name: str, version: str) -> Response:
        """Replace description, metadata or tags; what they were is kept in the history."""
        body = json_object(request)
        keys: list[str] = [key for key in ("description", "metadata", "tags") if key in body]
        changes = {key: body[key] for key in keys}
        for key, kind, what in (("description", str, "text"), ("metadata", dict, "object")):
            if key in changes and not isinstance(changes[key], kind):
                raise InvalidInput(f"{key} must be a JSON {what}.", ["body", key])
        found = self.version(name, version)
        try:
            actions.edit_version(found, changes, by=request.user)
        except ValueError as error:
            raise InvalidInput(str(error), ["body", "tags"]) from None
        return Response(serializers.detail(self.version(name, version)))


@extend_schema(tags=["artifacts"])
class VersionFiles(ArtifactView):
    @extend_schema(
        operation_id="list_artifact_files", parameters=[TYPE], responses=serializers.Files
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """The version's files and references."""
        return Response(serializers.files(self.version(name, version)))


@extend_schema(tags=["artifacts"])
class VersionLineage(ArtifactView):
    @extend_schema(
        operation_id="get_artifact_lineage",
        parameters=[TYPE, OpenApiParameter("max_depth", OpenApiTypes.INT)],
        responses=serializers.Lineage,
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """What the version came from and what came of it, as a graph."""
        number = integer(version, ["path", "version"])
        depth = integer(request.query_params.get("max_depth", "3"), ["query", "max_depth"])
        index.refresh_all()
        found = self.find_version(name, version)
        if found is None:
            return Response({"root_artifact": f"{name}:v{number}", "nodes": [], "edges": []})
        return Response(lineage.build(found, depth, user=request.user).to_dict())


@extend_schema(tags=["artifacts"])
class RunArtifacts(ArtifactView):
    @extend_schema(operation_id="list_run_artifacts", responses=serializers.RunArtifacts)
    def get(self, request: Request, run_id: str) -> Response:
        """The artifact versions that the run created and used."""
        run = folders.refresh(Run.objects.visible_to(request.user).active().by_id(run_id))
        if run is None or run.is_deleted:
            raise NotFound(f"Run not found: {run_id}")
        index.refresh_all()
        answer: dict[str, list[Any]] = {"created": [], "used": []}
        for usage in Usage.objects.visible_to(request.user).filter(run=run).order_by("pk"):
            versions = Version.objects.visible_to(request.user).select_related("artifact")
            version = versions.filter(
                artifact__name=usage.name, artifact__type=usage.type, number=usage.number
            ).first()
            answer[usage.kind].append(serializers.run_artifact(usage, version))
        return Response(answer)


# -- models --------------------------------------------------------------------------------------


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
            newest = artifact.versions.order_by("-number").first()
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
        for version in self.artifact(name).versions.select_related("artifact").order_by("number"):
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
            found = self.version(name, version)
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
            key: _number(value, ["body", "metrics", key]) for key, value in body["metrics"].items()
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


def required(body: dict[str, Any], kinds: dict[str, type]) -> dict[str, Any]:
    """The members named in *kinds*. Says of all of them at once what is wrong."""
    absent = [key for key in kinds if key not in body]
    if absent:
        error = InvalidInput(
            f"The request body lacks {', '.join(absent)}.", ["body", absent[0]], "Field required"
        )
        error.errors = [{"loc": ["body", key], "msg": "Field required"} for key in absent]
        raise error
    for key, kind in kinds.items():
        value = body[key]
        if kind in (int, float):
            number = _number(value, ["body", key])
            if kind is int and not number.is_integer():
                raise InvalidInput(f"{key} must be an integer.", ["body", key])
        elif not isinstance(value, kind):
            what = "text" if kind is str else "object"
            raise InvalidInput(f"{key} must be a JSON {what}.", ["body", key])
    return {key: body[key] for key in kinds}


def optional_texts(body: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if body.get(key) is not None and not isinstance(body[key], str):
            raise InvalidInput(f"{key} must be a JSON text.", ["body", key])


def _number(value: Any, loc: list[str | int]) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"{loc[-1]} must be a number.", loc, "Input should be a valid number")
    return number


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
        found = []
        for path in (index.storage().root / EVALUATIONS).glob("*.json"):
            if path.name.startswith(f"{name}_v"):
                record = layout.read_json(path)
                if record.get("model_name") == name and number in (
                    None,
                    record.get("model_version"),
                ):
                    found.append(record)
        return Response(sorted(found, key=_evaluation_date, reverse=True))


def _evaluation_date(record: dict[str, Any]) -> float:
    date = record.get("evaluation_date")
    return date if isinstance(date, int | float) else 0


# -- beyond v0.4 ---------------------------------------------------------------------------------


@extend_schema(tags=["artifacts"])
class RestoreVersion(ArtifactView):
    @extend_schema(
        operation_id="restore_artifact_version",
        parameters=[TYPE],
        request=None,
        responses=serializers.Deleted,
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Bring a deleted version back."""
        found = self.version(name, version)
        actions.restore_versions([found], by=request.user)
        return Response({"success": True, "message": f"Restored {found}"})


@extend_schema(tags=["artifacts"])
class History(ArtifactView):
    @extend_schema(
        operation_id="list_artifact_history",
        parameters=[TYPE],
        responses=serializers.HistoryEntry(many=True),
    )
    def get(self, request: Request, name: str, version: str) -> Response:
        """What was edited, by whom, and what it was before; the oldest first."""
        history = self.version(name, version).kept_changes().get("history")
        return Response(history if isinstance(history, list) else [])


@extend_schema(tags=["artifacts"])
class AliasDetail(ArtifactView):
    @extend_schema(
        operation_id="set_artifact_alias",
        parameters=[TYPE],
        request=serializers.AliasTarget,
        responses=serializers.VersionDetail,
    )
    def put(self, request: Request, name: str, alias: str) -> Response:
        """Let the alias name this version, and no other any more."""
        number = int(required(json_object(request), {"version": int})["version"])
        version = self.version(name, str(number))
        try:
            actions.set_alias(version, check_alias(alias), by=request.user)
        except ValueError as error:
            raise InvalidInput(str(error), ["path", "alias"]) from None
        return Response(serializers.detail(self.version(name, str(number))))

    @extend_schema(
        operation_id="remove_artifact_alias", parameters=[TYPE], responses=serializers.Deleted
    )
    def delete(self, request: Request, name: str, alias: str) -> Response:
        """Remove the alias; the version stays."""
        try:
            removed = actions.remove_alias(self.artifact(name), alias, by=request.user)
        except ValueError as error:
            raise InvalidInput(str(error), ["path", "alias"]) from None
        if not removed:
            raise NotFound(f"Alias not found: {alias} for artifact {name}")
        return Response({"success": True, "message": f"Removed alias {alias} of {name}"})


@extend_schema(tags=["artifacts"])
class FileContent(ArtifactView):
    @extend_schema(
        operation_id="download_artifact_file",
        parameters=[TYPE],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, name: str, version: str, path: str) -> Any:
        """One file's bytes, or a range of them."""
        found = self.version(name, version)
        entry = found.files.select_related("blob").filter(path=path).first()
        place = inside(found.files_folder, entry.path) if entry else None
        if entry is None or place is None or not place.is_file():
            raise NotFound(f"File not found: {path} in {found}")
        return streams.file(request._request, place, entry.blob.digest)


@extend_schema(tags=["artifacts"])
class Archive(ArtifactView):
    @extend_schema(
        operation_id="download_artifact_archive",
        parameters=[TYPE],
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, name: str, version: str) -> Any:
        """All files of the version as one tar."""
        return streams.archive(self.version(name, version))


@extend_schema(tags=["artifacts"])
class Verify(ArtifactView):
    @extend_schema(
        operation_id="verify_artifact_version",
        parameters=[TYPE],
        request=None,
        responses=serializers.Verified,
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Read every file and compare it with its digest."""
        found = self.version(name, version)
        problems = index.storage().verify(found.artifact.location, found.number)
        return Response(
            {
                "artifact": str(found),
                "ok": not problems,
                "problems": [{"path": p.path, "problem": p.problem} for p in problems],
            }
        )


@extend_schema(tags=["artifacts"])
class Compare(ArtifactView):
    @extend_schema(
        operation_id="compare_artifact_versions",
        parameters=[
            TYPE,
            OpenApiParameter("from", OpenApiTypes.INT, required=True),
            OpenApiParameter("to", OpenApiTypes.INT, required=True),
        ],
        responses=serializers.Comparison,
    )
    def get(self, request: Request, name: str) -> Response:
        """Which files differ between two versions."""
        sides = []
        for key in ("from", "to"):
            if key not in request.query_params:
                raise InvalidInput(f"{key} is missing.", ["query", key], "Field required")
            number = integer(request.query_params[key], ["query", key])
            version = self.numbered(self.artifact(name), number)
            if version is None:
                raise NotFound(f"Version not found: {name}:v{number}")
            rows = version.files.values_list("path", "blob__size_bytes", "blob__digest")
            sides.append({p: {"size": s, "digest": f"sha256:{d}"} for p, s, d in rows})
        old, new = sides
        return Response(compare(old, new))


def compare(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """How the files *new* differ from *old*; both are facts by path."""
    both = sorted(old.keys() & new.keys())
    changed = [path for path in both if old[path] != new[path]]
    return {
        "added": [{"path": path, **new[path]} for path in sorted(new.keys() - old.keys())],
        "removed": [{"path": path, **old[path]} for path in sorted(old.keys() - new.keys())],
        "changed": [{"path": path, "from": old[path], "to": new[path]} for path in changed],
        "unchanged": len(both) - len(changed),
    }


@extend_schema(tags=["artifacts"])
class CollectGarbage(ArtifactView):
    @extend_schema(
        operation_id="collect_artifact_garbage", request=None, responses=serializers.Collected
    )
    def post(self, request: Request) -> Response:
        """Remove contents that no version needs, and what killed processes left."""
        collected = actions.collect_garbage(by=request.user)
        return Response({"contents": collected.count, "freed_bytes": collected.bytes})


# -- uploads -------------------------------------------------------------------------------------


class UploadView(APIView):
    def upload(self, upload_id: str) -> uploads.Upload:
        try:
            return uploads.get(upload_id)
        except UploadNotFound:
            raise NotFound(f"Upload not found: {upload_id}") from None


@extend_schema(tags=["artifacts"])
class UploadList(UploadView):
    @extend_schema(
        operation_id="start_artifact_upload",
        request=serializers.Plan,
        responses={201: serializers.UploadState},
    )
    def post(self, request: Request) -> Response:
        """Announce a version; the answer says which of its contents are missing here."""
        upload = uploads.start(plan(json_object(request)), by=request.user)
        return Response({"upload_id": upload.id, "missing": upload.missing()}, status=201)


def plan(body: dict[str, Any]) -> dict[str, Any]:
    """An announced version in the form that is kept. Raises InvalidInput."""

    def checked(check: Any, value: Any, *loc: str | int) -> Any:
        try:
            return check(value)
        except ValueError as error:
            raise InvalidInput(str(error), ["body", *loc]) from None

    def listed(key: str) -> list[dict[str, Any]]:
        entries = body.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InvalidInput(f"{key} must be a list of objects.", ["body", key])
        return entries

    required(body, {"name": str})
    optional_texts(body, "description", "created_by_run")
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InvalidInput("metadata must be a JSON object.", ["body", "metadata"])
    files: list[dict[str, Any]] = []
    sizes: dict[str, int] = {}
    for place, entry in enumerate(listed("files")):
        loc = ("files", place)
        size = entry.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise InvalidInput("size must be a number of bytes.", ["body", *loc, "size"])
        digest = checked(parse_digest, entry.get("digest"), *loc, "digest")
        if sizes.setdefault(digest, size) != size:
            raise InvalidInput("One digest has two sizes.", ["body", *loc, "size"])
        time = entry.get("modified_at")
        files.append(
            {
                "path": checked(check_path, entry.get("path"), *loc, "path"),
                "size": size,
                "digest": digest,
                "modified_at": None if time is None else _number(time, ["body", *loc]),
            }
        )
    references = []
    for place, entry in enumerate(listed("references")):
        if not isinstance(entry.get("uri"), str):
            raise InvalidInput("uri must be a JSON text.", ["body", "references", place, "uri"])
        optional_texts(entry, "checksum")
        size, more = entry.get("size"), entry.get("metadata") or {}
        if not (size is None or isinstance(size, int)) or not isinstance(more, dict):
            raise InvalidInput("Not a reference.", ["body", "references", place])
        references.append(
            {
                "uri": entry["uri"],
                "checksum": entry.get("checksum"),
                "size": size,
                "metadata": more,
            }
        )
    if not files and not references:
        raise InvalidInput("Artifact has no files or references to save", ["body", "files"])
    return {
        "name": checked(check_name, body["name"], "name"),
        "type": checked(check_type, body.get("type") or "model", "type"),
        "files": files,
        "references": references,
        "description": body.get("description") or "",
        "metadata": metadata,
        "tags": checked(check_tags, body.get("tags") or [], "tags"),
        "created_by_run": body.get("created_by_run") or "",
    }


@extend_schema(tags=["artifacts"])
class UploadDetail(UploadView):
    @extend_schema(operation_id="get_artifact_upload", responses=serializers.UploadState)
    def get(self, request: Request, upload_id: str) -> Response:
        """Which contents are still missing, and where to continue each."""
        upload = self.upload(upload_id)
        return Response({"upload_id": upload.id, "missing": upload.missing()})

    @extend_schema(operation_id="cancel_artifact_upload", responses={204: None})
    def delete(self, request: Request, upload_id: str) -> HttpResponse:
        """Give the upload up."""
        uploads.discard(self.upload(upload_id))
        return HttpResponse(status=204)


@extend_schema(tags=["artifacts"])
class UploadPart(UploadView):
    @extend_schema(
        operation_id="upload_artifact_part",
        parameters=[OpenApiParameter("offset", OpenApiTypes.INT)],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=serializers.PartWritten,
    )
    def put(self, request: Request, upload_id: str, digest: str) -> Response:
        """Bytes of a content from an offset on, at most 64 MiB at once."""
        upload = self.upload(upload_id)
        try:
            digest = parse_digest(digest)
        except ValueError as error:
            raise InvalidInput(str(error), ["path", "digest"]) from None
        if digest not in upload.sizes:
            raise NotFound(f"The upload has no content sha256:{digest}")
        offset = integer(request.query_params.get("offset", "0"), ["query", "offset"])
        if int(request.META.get("CONTENT_LENGTH") or 0) > uploads.LARGEST_PART:
            raise TooLarge(f"Send at most {uploads.LARGEST_PART} bytes at once.")
        try:
            reached = uploads.write_part(upload, digest, offset, request._request.read)
        except WrongOffset as error:
            raise Conflict(str(error)) from None
        except UploadMismatch as error:
            raise InvalidInput(str(error), ["body"]) from None
        return Response({"offset": reached, "complete": reached == upload.sizes[digest]})


@extend_schema(tags=["artifacts"])
class UploadCommit(UploadView):
    @extend_schema(
        operation_id="commit_artifact_upload",
        request=None,
        responses={201: serializers.VersionDetail},
    )
    def post(self, request: Request, upload_id: str) -> Response:
        """Make the upload a version."""
        try:
            version = uploads.commit(self.upload(upload_id), by=request.user)
        except ContentsMissing as error:
            raise Conflict(str(error)) from None
        except ValueError as error:
            raise InvalidInput(str(error), ["body"]) from None
        return Response(serializers.detail(version), status=201)
