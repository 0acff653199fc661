"""Lineage: versions, the runs that produced them and the runs that used them.

``trace`` walks; what it walks over is a ``Source``: the files of a storage root here, the index in
the server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .. import layout
from .documents import ArtifactMetadata
from .storage import ArtifactStorage

DEEPEST = 10


class VersionKey(NamedTuple):
    name: str
    type: str
    version: int


@dataclass
class LineageNode:
    node_type: str
    node_id: str
    label: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class LineageEdge:
    source: str
    target: str
    edge_type: str
    created_at: float


@dataclass
class LineageGraph:
    root_artifact: str
    nodes: list[LineageNode] = field(default_factory=list)
    edges: list[LineageEdge] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Source(Protocol):
    """Answers which runs made and used which versions."""

    def version(self, key: VersionKey) -> dict[str, Any]:
        """``type`` and ``size``, ``created_at`` where known; ``deleted`` or ``purged`` if it is."""

    def run(self, run_id: str) -> dict[str, Any]:
        """``project``, ``name``, ``run_id``; ``deleted`` or ``purged`` if it is."""

    def producer(self, key: VersionKey) -> str | None: ...
    def users(self, key: VersionKey) -> Iterable[str]: ...
    def created(self, run_id: str) -> Iterable[VersionKey]: ...
    def used(self, run_id: str) -> Iterable[VersionKey]: ...


def trace(source: Source, root: VersionKey, max_depth: int = 3) -> LineageGraph:
    """Everything within *max_depth* artifacts (at most 10) up and down from *root*.

    Nodes and edges are there once, also where paths meet again or run in a circle.
    """
    graph = LineageGraph(_id(root))
    now = time.time()
    nodes: dict[str, LineageNode] = {}
    edges: dict[tuple[str, str], LineageEdge] = {}

    def artifact(key: VersionKey) -> str:
        if (name := _id(key)) not in nodes:
            facts = source.version(key)
            if key != root:
                facts.pop("created_at", None)
            nodes[name] = LineageNode("artifact", name, f"{key.name} v{key.version}", facts)
        return name

    def run(run_id: str) -> str:
        if run_id not in nodes:
            nodes[run_id] = LineageNode("run", run_id, "Training Run", source.run(run_id))
        return run_id

    def edge(start: str, end: str, kind: str) -> None:
        edges.setdefault((start, end), LineageEdge(start, end, kind, now))

    expanded: dict[tuple[str, VersionKey], int] = {}

    def is_new(direction: str, key: VersionKey, depth: int) -> bool:
        """Return whether *key* was not looked behind yet, or with less depth left than now."""
        if depth <= expanded.get((direction, key), 0):
            return False
        expanded[direction, key] = depth
        return True

    def upstream(key: VersionKey, depth: int) -> None:
        if not is_new("up", key, depth) or not (producer := source.producer(key)):
            return
        edge(run(producer), artifact(key), "produces")
        for used in source.used(producer):
            edge(artifact(used), producer, "uses")
            upstream(used, depth - 1)

    def downstream(key: VersionKey, depth: int) -> None:
        if not is_new("down", key, depth):
            return
        for user in source.users(key):
            edge(artifact(key), run(user), "uses")
            for created in source.created(user):
                edge(user, artifact(created), "produces")
                downstream(created, depth - 1)

    depth = min(max_depth, DEEPEST)
    artifact(root)
    upstream(root, depth)
    downstream(root, depth)
    graph.nodes, graph.edges = list(nodes.values()), list(edges.values())
    return graph


def _id(key: VersionKey) -> str:
    return f"{key.name}:v{key.version}"


class LineageTracker:
    """Lineage from the files of a storage root alone: reads every run's records once."""

    def __init__(self, storage_root: str | os.PathLike[str]) -> None:
        self.storage = ArtifactStorage(storage_root)

    def build_lineage_graph(
        self, name: str, type: str, version: int, max_depth: int = 3
    ) -> LineageGraph:
        """Without nodes if there is no such version."""
        key = VersionKey(name, type, version)
        source = _Files(self.storage)
        if source.metadata(key) is None:
            return LineageGraph(_id(key))
        return trace(source, key, max_depth)


class _Files:
    def __init__(self, storage: ArtifactStorage) -> None:
        self._storage = storage

    @cached_property
    def _runs(self) -> dict[str, tuple[str, list[VersionKey], list[VersionKey]]]:
        """Folder, what it created and what it used, by run id."""
        runs: dict[str, tuple[str, list[VersionKey], list[VersionKey]]] = {}
        for _, entry in layout.iter_run_dirs(self._storage.root):
            created, used = (
                record_keys(layout.read_json(os.path.join(entry.path, document)))
                for document in (layout.ARTIFACTS_CREATED, layout.ARTIFACTS_USED)
            )
            runs.setdefault(entry.name, (entry.path, created, used))
        return runs

    @cached_property
    def _users(self) -> dict[VersionKey, list[str]]:
        users: dict[VersionKey, list[str]] = {}
        for run_id, (_, _, used) in self._runs.items():
            for key in used:
                users.setdefault(key, []).append(run_id)
        return users

    def metadata(self, key: VersionKey) -> ArtifactMetadata | None:
        try:
            location = self._storage.find(key.name, key.type)
            return self._storage.describe(location, key.version)
        except (OSError, ValueError):
            return None

    def version(self, key: VersionKey) -> dict[str, Any]:
        metadata = self.metadata(key)
        if metadata is None:
            return {"type": key.type, "size": 0, "purged": True}
        facts = {"type": key.type, "size": metadata.size_bytes, "created_at": metadata.created_at}
        folder = self._storage.find(key.name, key.type).version(key.version)
        return facts | ({"deleted": True} if (folder / layout.DELETED).exists() else {})

    def run(self, run_id: str) -> dict[str, Any]:
        facts: dict[str, Any] = {"project": None, "name": None, "run_id": run_id}
        if run_id not in self._runs:
            return facts | {"purged": True}
        folder = self._runs[run_id][0]
        meta = layout.read_json(os.path.join(folder, layout.META))
        facts |= {"project": meta.get("project"), "name": meta.get("name")}
        is_deleted = Path(folder, layout.DELETED).exists()
        return facts | ({"deleted": True} if is_deleted else {})

    def producer(self, key: VersionKey) -> str | None:
        metadata = self.metadata(key)
        if metadata is not None:
            return metadata.created_by_run or None
        return next((i for i, (_, made, _) in self._runs.items() if key in made), None)

    def users(self, key: VersionKey) -> list[str]:
        return self._users.get(key, [])

    def created(self, run_id: str) -> list[VersionKey]:
        return self._runs[run_id][1] if run_id in self._runs else []

    def used(self, run_id: str) -> list[VersionKey]:
        return self._runs[run_id][2] if run_id in self._runs else []


def record_entries(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a run's record that name a version; the others are passed over."""
    entries = record.get("artifacts")
    return [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("type"), str)
        and isinstance(entry.get("version"), int)
    ]


def record_keys(record: dict[str, Any]) -> list[VersionKey]:
    return [VersionKey(e["name"], e["type"], e["version"]) for e in record_entries(record)]
