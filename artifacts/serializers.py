"""JSON shapes of the Artifacts endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.http.exceptions import InvalidInput
from core.http.fields import (
    Body,
    Checked,
    Flag,
    Integer,
    Number,
    OptionalText,
    Query,
    Text,
    TextList,
    read_number,
)
from runicorn.artifacts import ReferenceEntry
from runicorn.artifacts.chunking import Chunk
from runicorn.artifacts.names import check_name, check_path, check_type, inside, parse_digest
from runicorn.artifacts.staging import find_clash
from runicorn.artifacts.validation import EDITABLE, check_size

from . import remote_files
from .models import Artifact, File, Reference, Usage, Version
from .uploads import LARGEST_PART


class TypeQuery(Query):
    """The type of the artifact, where several types have the name."""

    type = OptionalText(default="", help_text="model, dataset, config, code or custom.")


class DeleteQuery(TypeQuery):
    permanent = Flag(default=False)


class LineageQuery(TypeQuery):
    max_depth = Integer(default=3)


class VersionQuery(TypeQuery):
    version = Integer(required=False)


class EvaluationsQuery(Query):
    version = Integer(required=False)


class PerformanceQuery(TypeQuery):
    metric_name = OptionalText(default=None)


class CompareQuery(TypeQuery):
    def get_fields(self) -> dict[str, serializers.Field]:
        return {**super().get_fields(), "from": Integer(), "to": Integer()}


class OffsetQuery(Query):
    offset = Integer(default=0)


class ArtifactItem(serializers.Serializer):
    name = serializers.CharField()
    type = serializers.CharField()
    num_versions = serializers.IntegerField()
    latest_version = serializers.IntegerField()
    size_bytes = serializers.IntegerField(source="latest_size", help_text="Of the latest version.")
    created_at = serializers.FloatField(source="created_time", help_text="Unix seconds.")
    updated_at = serializers.FloatField(source="updated_time")
    aliases = serializers.SerializerMethodField(help_text="Alias to version number.")

    def get_aliases(self, artifact: Artifact) -> dict[str, int]:
        return {alias.name: alias.version.number for alias in artifact.aliases.all()}


class VersionItem(serializers.Serializer):
    version = serializers.IntegerField(source="number")
    created_at = serializers.FloatField(source="created_time")
    created_by_run = serializers.CharField()
    size_bytes = serializers.IntegerField()
    num_files = serializers.IntegerField()
    status = serializers.CharField(source="shown_status", help_text="ready, deleted, corrupted.")
    aliases = serializers.ListField(child=serializers.CharField(), source="alias_names")


class VersionDetail(serializers.Serializer):
    name = serializers.CharField()
    type = serializers.CharField()
    version = serializers.IntegerField()
    created_at = serializers.FloatField()
    updated_at = serializers.FloatField()
    created_by_run = serializers.CharField()
    created_by_user = serializers.CharField(allow_null=True)
    size_bytes = serializers.IntegerField(help_text="Files and references.")
    num_files = serializers.IntegerField()
    num_references = serializers.IntegerField()
    status = serializers.CharField()
    metadata = serializers.DictField()
    description = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    aliases = serializers.ListField(child=serializers.CharField())
    manifest_digest = serializers.CharField(allow_null=True)
    lifecycle_stage = serializers.CharField(required=False)
    evaluations = serializers.ListField(required=False)


def detail(version: Version) -> dict[str, Any]:
    metadata = version.metadata()
    shape: dict[str, Any] = {name: getattr(metadata, name) for name in _STORED}
    digest = metadata.manifest_digest
    changes = version.kept_changes()
    shape["status"] = version.shown_status
    shape["aliases"] = version.alias_names()
    shape["manifest_digest"] = f"sha256:{digest}" if digest else None
    present = [key for key in ("lifecycle_stage", "evaluations") if key in changes]
    return shape | {key: changes[key] for key in present}


_STORED = (
    *("name", "type", "version", "created_at", "updated_at", "created_by_run", "created_by_user"),
    *("size_bytes", "num_files", "num_references", "status", "metadata", "description", "tags"),
)


class FileItem(serializers.Serializer):
    path = serializers.CharField()
    size = serializers.IntegerField()
    digest = serializers.CharField()
    modified_at = serializers.FloatField(allow_null=True)
    absolute_path = serializers.CharField(allow_null=True)
    is_remote = serializers.BooleanField(help_text="Whether it is on a host and not here.")


class ReferenceItem(serializers.Serializer):
    uri = serializers.CharField()
    checksum = serializers.CharField(allow_null=True)
    size = serializers.IntegerField(allow_null=True)
    metadata = serializers.DictField()


class Files(serializers.Serializer):
    artifact = serializers.CharField()
    files = FileItem(many=True)
    references = ReferenceItem(many=True)
    total_size = serializers.IntegerField()
    total_files = serializers.IntegerField()
    total_references = serializers.IntegerField()
    is_remote = serializers.BooleanField(help_text="Whether it is on a host and not here.")


def files(version: Version) -> dict[str, Any]:
    entries = version.files.select_related("blob").order_by("pk")
    references = version.references.order_by("pk")
    is_remote = remote_files.is_remote(version)
    return {
        "artifact": str(version),
        "files": [_file(version, entry, is_remote) for entry in entries],
        "references": [_reference(entry) for entry in references],
        "total_size": version.size_bytes,
        "total_files": version.num_files,
        "total_references": version.num_references,
        "is_remote": is_remote,
    }


def _file(version: Version, entry: File, is_remote: bool) -> dict[str, Any]:
    path = inside(version.files_folder, entry.path)
    return {
        "path": entry.path,
        "size": entry.blob.size_bytes,
        "digest": f"sha256:{entry.blob.digest}",
        "modified_at": entry.modified_time,
        "absolute_path": str(path) if path and path.is_file() else None,
        "is_remote": is_remote,
    }


def _reference(entry: Reference) -> dict[str, Any]:
    return {
        "uri": entry.uri,
        "checksum": entry.checksum,
        "size": entry.size_bytes,
        "metadata": json.loads(entry.metadata),
    }


class LineageNode(serializers.Serializer):
    node_type = serializers.ChoiceField(["artifact", "run"])
    node_id = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    metadata = serializers.DictField(
        help_text="With deleted or purged: true if it is in the bin, or gone."
    )


class LineageEdge(serializers.Serializer):
    source = serializers.CharField()  # type: ignore[assignment]
    target = serializers.CharField()
    edge_type = serializers.ChoiceField(["produces", "uses"])
    created_at = serializers.FloatField()


class Lineage(serializers.Serializer):
    root_artifact = serializers.CharField()
    nodes = LineageNode(many=True)
    edges = LineageEdge(many=True)


class Stats(serializers.Serializer):
    total_artifacts = serializers.IntegerField()
    total_versions = serializers.IntegerField()
    total_size_bytes = serializers.IntegerField()
    total_files = serializers.IntegerField()
    dedup_enabled = serializers.BooleanField()
    by_type = serializers.DictField()
    dedup_pool_size_bytes = serializers.IntegerField()
    space_saved_bytes = serializers.IntegerField()
    dedup_ratio = serializers.FloatField(help_text="0 to 1, higher is better.")
    connected = serializers.BooleanField(
        required=False, help_text="This and what follows only in remote mode."
    )
    last_sync = serializers.FloatField(required=False, allow_null=True)
    cached_artifacts = serializers.IntegerField(
        required=False, help_text="Of the host, known here."
    )
    cache_size_bytes = serializers.IntegerField(
        required=False, help_text="Of the host's runs and artifacts, here; can be fetched again."
    )
    remote_size_bytes = serializers.IntegerField(
        required=False, help_text="Of the host's artifacts, there."
    )
    sync_count = serializers.IntegerField(required=False)
    error_count = serializers.IntegerField(required=False)


class Deleted(serializers.Serializer):
    success = serializers.BooleanField()
    message = serializers.CharField()
    freed_bytes = serializers.IntegerField(required=False, help_text="Of a permanent deletion.")


class TrainingMetrics(serializers.Serializer):
    run_id = serializers.CharField()
    run_name = serializers.CharField()
    project = serializers.CharField()
    metrics = serializers.DictField()
    created_at = serializers.FloatField(allow_null=True)
    duration_seconds = serializers.FloatField(allow_null=True)
    status = serializers.CharField()


class Performance(serializers.Serializer):
    version = serializers.IntegerField()
    created_at = serializers.FloatField()
    run_id = serializers.CharField()
    status = serializers.CharField()
    metrics = serializers.DictField()


class Promotion(Body):
    to_stage = Text(help_text="experimental, staging, production or archived.")
    notes = OptionalText(default=None)
    evaluator_run_id = OptionalText(default=None)


class Promoted(serializers.Serializer):
    ok = serializers.BooleanField()
    artifact = serializers.CharField()
    from_stage = serializers.CharField()
    to_stage = serializers.CharField()
    message = serializers.CharField()


class Evaluation(Body):
    model_name = Text(allow_blank=True)
    model_version = Integer()
    evaluation_date = Number(help_text="Ignored: the server's clock counts.")
    metrics = serializers.DictField(child=Number())
    status = Text(allow_blank=True, help_text="passed, failed or pending.")
    evaluator_run_id = OptionalText(default=None)
    test_dataset = OptionalText(default=None)
    notes = OptionalText(default=None)


class Evaluated(serializers.Serializer):
    ok = serializers.BooleanField()
    eval_id = serializers.CharField()
    message = serializers.CharField()


class EvaluationRecord(Evaluation):
    id = serializers.CharField()


# -- beyond v0.4 ---------------------------------------------------------------------------------


class Edit(Body):
    description = Checked(EDITABLE["description"], like=Text(allow_blank=True), required=False)
    metadata = Checked(EDITABLE["metadata"], like=serializers.DictField(), required=False)
    tags = Checked(EDITABLE["tags"], like=TextList(child=Text(allow_blank=True)), required=False)


class HistoryEntry(serializers.Serializer):
    at = serializers.FloatField()
    by = serializers.CharField()
    field = serializers.CharField()


class AliasTarget(Body):
    version = Integer(min_value=1)


class Problem(serializers.Serializer):
    path = serializers.CharField()
    problem = serializers.CharField(help_text="missing, changed, unsafe or unreadable.")


class Verified(serializers.Serializer):
    artifact = serializers.CharField()
    ok = serializers.BooleanField()
    problems = Problem(many=True)


class Comparison(serializers.Serializer):
    added = FileItem(many=True)
    removed = FileItem(many=True)
    changed = serializers.ListField(help_text="path, from and to (size and digest each).")
    unchanged = serializers.IntegerField()


class Collected(serializers.Serializer):
    contents = serializers.IntegerField()
    freed_bytes = serializers.IntegerField()


class PlannedFile(serializers.Serializer):
    path = serializers.CharField()
    size = serializers.IntegerField(min_value=0)
    digest = serializers.CharField(help_text="sha256:<64 hexadecimal digits>")
    modified_at = serializers.FloatField(required=False, allow_null=True)


class _Listed(serializers.Field):
    """A list of objects, so long that a serializer for each would take minutes."""

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            name = str(self.field_name)
            raise InvalidInput(f"{name} must be a list of objects.", ["body", name])
        return self.checked(data)

    def checked(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        raise NotImplementedError


@extend_schema_field(PlannedFile(many=True))
class PlannedFiles(_Listed):
    def checked(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = []
        sizes: dict[str, int] = {}
        for index, entry in enumerate(data):
            loc = ("body", "files", index)
            size = checked(check_size, entry.get("size"), *loc, "size")
            digest = checked(parse_digest, entry.get("digest"), *loc, "digest")
            if sizes.setdefault(digest, size) != size:
                raise InvalidInput("One digest has two sizes.", [*loc, "size"])
            time = entry.get("modified_at")
            files.append(
                {
                    "path": checked(check_path, entry.get("path"), *loc, "path"),
                    "size": size,
                    "digest": digest,
                    "modified_at": None
                    if time is None
                    else checked(read_number, time, *loc, "modified_at"),
                }
            )
        if clash := find_clash([file["path"] for file in files]):
            raise InvalidInput(f"Two files cannot both be stored: {clash}", ["body", "files"])
        return files


@extend_schema_field(ReferenceItem(many=True))
class PlannedReferences(_Listed):
    def checked(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        references = []
        for index, entry in enumerate(data):
            reference = ReferenceEntry(
                entry.get("uri", ""),
                entry.get("checksum"),
                entry.get("size"),
                entry.get("metadata") or {},
            )
            checked(ReferenceEntry.check, reference, "body", "references", index)
            references.append(asdict(reference))
        total = sum(reference["size"] or 0 for reference in references)
        checked(check_size, total, "body", "references")
        return references


def checked(check: Callable[[Any], Any], value: Any, *loc: str | int) -> Any:
    """Return *check* of *value*; turn its ValueError into InvalidInput at *loc*."""
    try:
        return check(value)
    except ValueError as error:
        raise InvalidInput(str(error), list(loc)) from None


def _unless_empty(check: Callable[[Any], Any], otherwise: Any) -> Callable[[Any], Any]:
    """Return *check*, but with *otherwise* for an empty text, list or object."""
    return lambda value: check(value) if value else otherwise


class Plan(Body):
    name = Checked(check_name, like=Text(allow_blank=True))
    type = Checked(
        _unless_empty(check_type, "model"),
        like=Text(allow_blank=True),
        default="model",
        allow_null=True,
    )
    files = PlannedFiles(default=list)
    references = PlannedReferences(default=list)
    description = Checked(
        _unless_empty(EDITABLE["description"], ""),
        like=Text(allow_blank=True),
        default="",
        allow_null=True,
    )
    metadata = Checked(
        _unless_empty(EDITABLE["metadata"], {}),
        like=serializers.DictField(),
        default=dict,
        allow_null=True,
    )
    tags = Checked(
        _unless_empty(EDITABLE["tags"], []),
        like=TextList(child=Text(allow_blank=True)),
        default=list,
        allow_null=True,
    )
    created_by_run = Checked(
        _unless_empty(check_name, ""), like=Text(allow_blank=True), default="", allow_null=True
    )
    key = OptionalText(
        default="", help_text="With it, an unfinished upload of the same is gone on with."
    )
    attempt = OptionalText(
        default="", help_text="With the same key and attempt, a finished one too."
    )

    def validate(self, plan: dict[str, Any]) -> dict[str, Any]:
        if not plan["files"] and not plan["references"]:
            raise InvalidInput("Artifact has no files or references to save", ["body", "files"])
        absent = {key: _NOTHING[key] for key in _NOTHING if plan[key] is None}
        return plan | absent


_NOTHING: dict[str, Any] = {
    "type": "model",
    "description": "",
    "metadata": {},
    "tags": [],
    "created_by_run": "",
    "key": "",
    "attempt": "",
}


@extend_schema_field(serializers.ListField(child=serializers.ListField()))
class Chunks(serializers.Field):
    def to_internal_value(self, data: Any) -> list[Chunk]:
        if not isinstance(data, list):
            raise InvalidInput("chunks must be a JSON list.", ["body", "chunks"])
        chunks = []
        for index, row in enumerate(data):
            try:
                digest, length = row
                is_length = isinstance(length, int) and 0 < length <= LARGEST_PART
                chunks.append(Chunk(parse_digest(digest), length if is_length else int("")))
            except (TypeError, ValueError):
                loc: list[str | int] = ["body", "chunks", index]
                raise InvalidInput("A chunk is [sha256 digest, bytes].", loc) from None
        return chunks


class Recipe(Body):
    chunks = Chunks(help_text="[sha256 digest, bytes] of each, in order.")


class MissingChunks(serializers.Serializer):
    missing = serializers.ListField(child=serializers.CharField(), help_text="Digests.")
    complete = serializers.BooleanField()


class PackReceived(serializers.Serializer):
    received = serializers.IntegerField()


class MissingContent(serializers.Serializer):
    digest = serializers.CharField()
    size = serializers.IntegerField()
    offset = serializers.IntegerField(help_text="Where to continue.")


class UploadState(serializers.Serializer):
    upload_id = serializers.CharField()
    missing = MissingContent(many=True)
    encodings = serializers.ListField(child=serializers.CharField(), help_text="Of parts, packs.")
    chunks = serializers.DictField(help_text="How contents are cut: FastCDC 2020, bytes.")


class PartWritten(serializers.Serializer):
    offset = serializers.IntegerField()
    complete = serializers.BooleanField()


class RunArtifact(serializers.Serializer):
    name = serializers.CharField()
    type = serializers.CharField()
    version = serializers.IntegerField()
    size_bytes = serializers.IntegerField()
    created_at = serializers.FloatField()
    description = serializers.CharField(allow_null=True)
    aliases = serializers.ListField(child=serializers.CharField())
    lifecycle_stage = serializers.CharField(allow_null=True)


class RunArtifacts(serializers.Serializer):
    created = RunArtifact(many=True)
    used = RunArtifact(many=True)


def run_artifact(usage: Usage, version: Version | None) -> dict[str, Any]:
    """Return the version's own description, or the run's record of it if it is gone."""
    shape: dict[str, Any] = {
        "name": usage.name,
        "type": usage.type,
        "version": usage.number,
        "size_bytes": usage.size_bytes,
        "created_at": usage.time if usage.kind == Usage.Kind.CREATED else 0,
        "description": None,
        "aliases": [],
        "lifecycle_stage": None,
    }
    if version is None:
        return shape
    metadata = version.metadata()
    return shape | {
        "size_bytes": metadata.size_bytes,
        "created_at": metadata.created_at,
        "description": metadata.description,
        "aliases": metadata.aliases,
        "lifecycle_stage": version.stage,
    }
