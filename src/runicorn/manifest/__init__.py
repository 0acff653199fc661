"""A catalogue of the run files below a storage root, for clients that fetch only what differs."""

from .generator import ManifestGenerator
from .model import (
    ExperimentEntry,
    FileEntry,
    ManifestFormat,
    ManifestType,
    SyncManifest,
    read_manifest,
)

__all__ = [
    "ExperimentEntry",
    "FileEntry",
    "ManifestFormat",
    "ManifestGenerator",
    "ManifestType",
    "SyncManifest",
    "read_manifest",
]
