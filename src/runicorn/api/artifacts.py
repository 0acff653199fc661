"""``client.artifacts``: versioned files that runs make and use."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from . import _requests as http
from . import _transfers as transfers
from ._calls import JSON, _slice, path
from ._steps import Awaiting, Blocking, Progress, Request, Steps, awaiting, blocking
from ._transfers import Client
from .exceptions import BadRequestError, NotFoundError


class _Extension:
    """A part of a client, on the connections of the whole."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._transport: Any = client._transport
        self.timeout: float = client.timeout
        self.max_retries: int = client.max_retries
        self.is_local: bool = self._transport.is_local


def list_artifacts(
    self: Client, type: str | None = None, limit: int | None = None, offset: int | None = None
) -> Steps[list[JSON]]:
    """Artifacts, the latest changed first; *type*: ``model``, ``dataset`` and so on."""
    artifacts = yield from http.get(self, "/api/artifacts", {"type": type})
    return _slice(artifacts, limit, offset)


def get_artifact(self: Client, artifact_id: str) -> Steps[JSON]:
    """One version, named ``name:v3``, ``name:3`` or by an alias, ``name:latest``."""
    name, version = yield from _resolve(self, artifact_id)
    return (yield from http.expect_object(http.get(self, path("artifacts", name, f"v{version}"))))


def list_versions(self: Client, artifact_name: str) -> Steps[list[JSON]]:
    """The versions of an artifact, newest first."""
    versions: list[JSON] = yield from http.get(self, path("artifacts", artifact_name, "versions"))
    return versions[::-1]


def list_files(self: Client, artifact_id: str) -> Steps[JSON]:
    """The files and references of a version, with sizes in bytes and digests."""
    name, version = yield from _resolve(self, artifact_id)
    return (
        yield from http.expect_object(
            http.get(self, path("artifacts", name, f"v{version}", "files"))
        )
    )


def get_artifact_lineage(self: Client, artifact_id: str, max_depth: int = 3) -> Steps[JSON]:
    """The graph around a version (``nodes``, ``edges``), with ``created_by`` (the id of the run
    that made it, or None) and ``used_by`` (ids of runs)."""
    name, version = yield from _resolve(self, artifact_id)
    graph = yield from http.get(
        self, path("artifacts", name, f"v{version}", "lineage"), {"max_depth": max_depth}
    )
    me = graph["root_artifact"]
    edges = [(_run(edge["source"]), _run(edge["target"])) for edge in graph["edges"]]
    makers = [source for source, target in edges if target == me]
    users = [target for source, target in edges if source == me]
    return {**graph, "created_by": makers[0] if makers else None, "used_by": users}


def _run(node_id: str) -> str:
    return node_id.removeprefix("run:")  # so in 0.4


def list_experiment_artifacts(
    self: Client, run_id: str, relation: str | None = None
) -> Steps[list[JSON]]:
    """List the versions that a run ``created`` and ``used``, or one *relation* of the two."""
    if relation not in (None, "created", "used"):
        raise BadRequestError(f"Bad request: relation is created or used, not {relation!r}")
    artifacts_by_relation = yield from http.get(self, path("runs", run_id, "artifacts"))
    return [
        {**artifact, "relation": kind}
        for kind in ("created", "used")
        if relation in (None, kind)
        for artifact in artifacts_by_relation[kind]
    ]


def delete_artifact(self: Client, artifact_id: str, permanent: bool = False) -> Steps[JSON]:
    """Mark a version as deleted or, with *permanent*, remove it for good."""
    name, version = yield from _resolve(self, artifact_id)
    address = path("artifacts", name, f"v{version}") + ("?permanent=true" if permanent else "")
    return (yield from http.expect_object(http.delete(self, address)))


def edit(
    self: Client,
    artifact_id: str,
    *,
    description: str | None = None,
    metadata: JSON | None = None,
    tags: list[str] | None = None,
) -> Steps[JSON]:
    """Replace what is given; what it was stays in the history. The version as it is now."""
    name, version = yield from _resolve(self, artifact_id)
    changes = {"description": description, "metadata": metadata, "tags": tags}
    request = Request(
        "PATCH",
        path("artifacts", name, f"v{version}"),
        json={key: value for key, value in changes.items() if value is not None},
    )
    return (yield from http.expect_object(http.json_answer(self, request)))


def restore_artifact(self: Client, artifact_id: str) -> Steps[JSON]:
    """Bring a deleted version back."""
    return (yield from _of_version(self, artifact_id, "restore"))


def verify(self: Client, artifact_id: str) -> Steps[JSON]:
    """Let the server read every file of a version: ``ok``, and ``problems`` by path."""
    return (yield from _of_version(self, artifact_id, "verify"))


def compare(self: Client, artifact_id: str, other: str) -> Steps[JSON]:
    """Which files differ between two versions; *other* is a version or an alias, ``v2``."""
    name, old = yield from _resolve(self, artifact_id)
    _, new = yield from _resolve(self, f"{name}:{other}")
    address = path("artifacts", name, "compare")
    return (yield from http.expect_object(http.get(self, address, {"from": old, "to": new})))


def set_alias(self: Client, artifact_id: str, alias: str) -> Steps[JSON]:
    """Let *alias* name this version, and no other any more. The version as it is now."""
    name, version = yield from _resolve(self, artifact_id)
    address = path("artifacts", name, "aliases", alias)
    return (yield from http.expect_object(http.put(self, address, {"version": version})))


def remove_alias(self: Client, artifact_name: str, alias: str) -> Steps[JSON]:
    """Remove the alias; the version stays. NotFoundError if there is none of that name."""
    address = path("artifacts", artifact_name, "aliases", alias)
    return (yield from http.expect_object(http.delete(self, address)))


def promote(
    self: Client,
    artifact_id: str,
    stage: str,
    *,
    notes: str | None = None,
    evaluator_run_id: str | None = None,
) -> Steps[JSON]:
    """Move a version to ``experimental``, ``staging``, ``production`` or ``archived``."""
    body = {"to_stage": stage, "notes": notes, "evaluator_run_id": evaluator_run_id}
    return (yield from _of_version(self, artifact_id, "promote", body))


def evaluate(
    self: Client,
    artifact_id: str,
    metrics: dict[str, float],
    *,
    status: str = "passed",
    test_dataset: str | None = None,
    notes: str | None = None,
    evaluator_run_id: str | None = None,
) -> Steps[JSON]:
    """Record how a version did; *status* is ``passed``, ``failed`` or ``pending``."""
    name, version = yield from _resolve(self, artifact_id)
    body = {
        "model_name": name,
        "model_version": version,
        "evaluation_date": time.time(),
        "metrics": metrics,
        "status": status,
        "test_dataset": test_dataset,
        "notes": notes,
        "evaluator_run_id": evaluator_run_id,
    }
    return (yield from _of_version(self, f"{name}:{version}", "evaluate", body))


def list_evaluations(
    self: Client, artifact_name: str, version: int | None = None
) -> Steps[list[JSON]]:
    """List the evaluations of an artifact, or of one version of it, the newest first."""
    address = path("artifacts", artifact_name, "evaluations")
    evaluations: list[JSON] = yield from http.get(self, address, {"version": version})
    return evaluations


def _of_version(self: Client, artifact_id: str, verb: str, body: JSON | None = None) -> Steps[JSON]:
    name, version = yield from _resolve(self, artifact_id)
    address = path("artifacts", name, f"v{version}", verb)
    return (yield from http.expect_object(http.post(self, address, body)))


def get_stats(self: Client) -> Steps[JSON]:
    """Numbers and sizes (bytes) of all that is kept."""
    return (yield from http.expect_object(http.get(self, "/api/artifacts/stats")))


def download_artifact(
    self: Client,
    artifact_id: str,
    output_path: str | os.PathLike[str],
    progress: Progress | bool | None = None,
    compress: bool | None = None,
) -> Steps[str]:
    """Bring the files of a version into the folder *output_path*; its path.

    Each file appears when it is complete and its content is what the version says it is; those
    that are there already are not asked for again, and one that broke off goes on where it was.
    *progress*: True for a bar, or a function of (bytes done, bytes in total). *compress*: take
    zstd; by default if the server is another machine. From an original server only files that can
    be seen from here can be copied; NotImplementedError elsewhere.
    """
    name, version = yield from _resolve(self, artifact_id)
    address = path("artifacts", name, f"v{version}", "files")
    yield from transfers.download(self, address, Path(output_path), progress, compress)
    return str(output_path)


def _resolve(self: Client, artifact_id: str) -> Steps[tuple[str, int]]:
    name, colon, version = artifact_id.rpartition(":")
    if not colon or not name or not version:
        raise BadRequestError(
            f"Bad request: {artifact_id!r} names no version; write name:v1 or name:latest"
        )
    if number := re.fullmatch(r"v?([0-9]+)", version):
        return name, int(number[1])
    detail = f"Artifact not found: {name}"
    for artifact in (yield from list_artifacts(self)):
        if artifact["name"] == name:
            aliases = artifact.get("aliases", {})
            if version in aliases:
                return name, int(aliases[version])
            known = f"Available aliases: {[*aliases]}"
            detail = f"Alias not found: {version} for artifact {name}. {known}"
    raise NotFoundError(f"Resource not found: {artifact_id}", status_code=404, detail=detail)


class ArtifactsAPI(_Extension):
    """The artifacts of a server."""

    _transport: Blocking

    list_artifacts = blocking(list_artifacts)
    get_artifact = blocking(get_artifact)
    list_versions = blocking(list_versions)
    list_files = blocking(list_files)
    get_artifact_lineage = blocking(get_artifact_lineage)
    list_experiment_artifacts = blocking(list_experiment_artifacts)
    delete_artifact = blocking(delete_artifact)
    edit = blocking(edit)
    restore_artifact = blocking(restore_artifact)
    verify = blocking(verify)
    compare = blocking(compare)
    set_alias = blocking(set_alias)
    remove_alias = blocking(remove_alias)
    promote = blocking(promote)
    evaluate = blocking(evaluate)
    list_evaluations = blocking(list_evaluations)
    get_stats = blocking(get_stats)
    download_artifact = blocking(download_artifact)
    upload = blocking(transfers.upload)


class AsyncArtifactsAPI(_Extension):
    """The artifacts of a server, asynchronously."""

    _transport: Awaiting

    list_artifacts = awaiting(list_artifacts)
    get_artifact = awaiting(get_artifact)
    list_versions = awaiting(list_versions)
    list_files = awaiting(list_files)
    get_artifact_lineage = awaiting(get_artifact_lineage)
    list_experiment_artifacts = awaiting(list_experiment_artifacts)
    delete_artifact = awaiting(delete_artifact)
    edit = awaiting(edit)
    restore_artifact = awaiting(restore_artifact)
    verify = awaiting(verify)
    compare = awaiting(compare)
    set_alias = awaiting(set_alias)
    remove_alias = awaiting(remove_alias)
    promote = awaiting(promote)
    evaluate = awaiting(evaluate)
    list_evaluations = awaiting(list_evaluations)
    get_stats = awaiting(get_stats)
    download_artifact = awaiting(download_artifact)
    upload = awaiting(transfers.upload)
