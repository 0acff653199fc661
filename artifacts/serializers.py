"""JSON shapes of the Artifacts endpoints (``contract/artifacts.md``)."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import serializers

from runicorn.artifacts.names import inside

from . import elsewhere
from .models import Artifact, File, Reference, Usage, Version


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
    kept = [key for key in ("lifecycle_stage", "evaluations") if key in changes]
    return shape | {key: changes[key] for key in kept}


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
    found = version.files.select_related("blob").order_by("pk")
    references = version.references.order_by("pk")
    is_remote = elsewhere.has(version)
    return {
        "artifact": str(version),
        "files": [_file(version, entry, is_remote) for entry in found],
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


class Promotion(serializers.Serializer):
    to_stage = serializers.ChoiceField(["experimental", "staging", "production", "archived"])
    notes = serializers.CharField(required=False, allow_null=True)
    evaluator_run_id = serializers.CharField(required=False, allow_null=True)


class Promoted(serializers.Serializer):
    ok = serializers.BooleanField()
    artifact = serializers.CharField()
    from_stage = serializers.CharField()
    to_stage = serializers.CharField()
    message = serializers.CharField()


class Evaluation(serializers.Serializer):
    model_name = serializers.CharField()
    model_version = serializers.IntegerField()
    evaluation_date = serializers.FloatField(help_text="Ignored: the server's clock counts.")
    metrics = serializers.DictField(child=serializers.FloatField())
    status = serializers.CharField(help_text="passed, failed or pending.")
    evaluator_run_id = serializers.CharField(required=False, allow_null=True)
    test_dataset = serializers.CharField(required=False, allow_null=True)
    notes = serializers.CharField(required=False, allow_null=True)


class Evaluated(serializers.Serializer):
    ok = serializers.BooleanField()
    eval_id = serializers.CharField()
    message = serializers.CharField()


class EvaluationRecord(Evaluation):
    id = serializers.CharField()


# -- beyond v0.4 ---------------------------------------------------------------------------------


class Edit(serializers.Serializer):
    description = serializers.CharField(required=False, allow_blank=True)
    metadata = serializers.DictField(required=False)
    tags = serializers.ListField(child=serializers.CharField(), required=False)


class HistoryEntry(serializers.Serializer):
    at = serializers.FloatField()
    by = serializers.CharField()
    field = serializers.CharField()


class AliasTarget(serializers.Serializer):
    version = serializers.IntegerField(min_value=1)


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


class Plan(serializers.Serializer):
    name = serializers.CharField()
    type = serializers.CharField(required=False, default="model")
    files = PlannedFile(many=True, required=False)
    references = ReferenceItem(many=True, required=False)
    description = serializers.CharField(required=False, allow_blank=True, default="")
    metadata = serializers.DictField(required=False)
    tags = serializers.ListField(child=serializers.CharField(), required=False)
    created_by_run = serializers.CharField(required=False, allow_blank=True, default="")
    key = serializers.CharField(
        required=False, help_text="With it, an unfinished upload of the same is gone on with."
    )
    attempt = serializers.CharField(
        required=False, help_text="With the same key and attempt, a finished one too."
    )


class Recipe(serializers.Serializer):
    chunks = serializers.ListField(help_text="[sha256 digest, bytes] of each, in order.")


class LackingChunks(serializers.Serializer):
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
    """What the version says of itself; what the run noted where it is gone."""
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
