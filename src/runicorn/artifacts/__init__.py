"""Artifacts: models, datasets and other files in versions that never change.

Imported only when asked for: ``import runicorn`` does not load it.
"""

from __future__ import annotations

import os

from .artifact import Artifact, DigestMismatch
from .documents import (
    ArtifactIndex,
    ArtifactManifest,
    ArtifactMetadata,
    ArtifactStatus,
    ArtifactVersionInfo,
    FileEntry,
    ReferenceEntry,
)
from .lineage import LineageEdge, LineageGraph, LineageNode, LineageTracker
from .names import ArtifactType
from .storage import ArtifactStorage, InvalidTransition


def create_artifact_storage(storage_root: str | os.PathLike[str]) -> ArtifactStorage:
    return ArtifactStorage(storage_root)


def get_artifact_storage(
    storage_root: str | os.PathLike[str] | None = None,
) -> ArtifactStorage:
    """The store of the storage root that a run would use."""
    return ArtifactStorage(storage_root)


__all__ = [
    "Artifact",
    "ArtifactIndex",
    "ArtifactManifest",
    "ArtifactMetadata",
    "ArtifactStatus",
    "ArtifactStorage",
    "ArtifactType",
    "ArtifactVersionInfo",
    "DigestMismatch",
    "FileEntry",
    "InvalidTransition",
    "LineageEdge",
    "LineageGraph",
    "LineageNode",
    "LineageTracker",
    "ReferenceEntry",
    "create_artifact_storage",
    "get_artifact_storage",
]
