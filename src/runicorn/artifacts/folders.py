"""The artifacts folder of a storage root: its layout, its readers, and its lock.

``<root>/artifacts/<type>/<name>/v<N>`` as Runicorn 0.4 has it. Numbers are given, and documents
changed, under ``<type>/<name>/.lock``, which is never removed; the first to take it repairs what a
killed process left (``_settle``).
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import layout
from . import names
from .blobs import BlobStore
from .copying import copy_hashed
from .documents import ArtifactIndex, ArtifactManifest, ArtifactMetadata, ArtifactVersionInfo
from .staging import STAGING, is_abandoned

ARTIFACTS = "artifacts"
POOL = ".dedup"
EVALUATIONS = "evaluations"
VERSIONS = "versions.json"
METADATA = "metadata.json"
MANIFEST = "manifest.json"
FILES = "files"
CHANGES = "changes.json"
"""Beside v0.4's documents, which 0.4.0 refuses to read if they hold more than it knows: a version's
stage, its evaluations, and what was edited."""

HIGHEST = ".highest"
TRASH = ".trash-"
_LOCK = ".lock"
_LOCK_SECONDS = 30
_VERSION_FOLDER = re.compile(r"v([1-9][0-9]{0,17})")

LATEST = "latest"
STAGES = ["experimental", "staging", "production", "archived"]
LIFECYCLE = ("lifecycle_stage", "lifecycle_updated_at", "stage_transitions", "evaluations")


@dataclass
class Location:
    """One artifact: where it is, and what it is called."""

    type: str
    name: str
    folder: Path

    def version(self, number: int) -> Path:
        """The folder of the version. Raises FileNotFoundError."""
        folder = self.folder / f"v{number}"
        if number < 1 or not folder.is_dir() or folder.is_symlink():
            raise FileNotFoundError(f"Version not found: {self.name}:v{number}")
        return folder

    def numbers(self) -> list[int]:
        """Return the numbers of the versions that exist, ascending."""
        matches = (_VERSION_FOLDER.fullmatch(e.name) for e in folders_in(self.folder))
        return sorted(int(match[1]) for match in matches if match)


class ArtifactFolders:
    """Finds and reads artifacts; ``ArtifactStorage`` changes them."""

    def __init__(self, storage_root: str | os.PathLike[str] | None = None) -> None:
        self.root = layout.storage_root(storage_root)
        self.folder = self.root / ARTIFACTS
        self.blobs = BlobStore(self.folder / POOL, copy_hashed)

    # -- finding -------------------------------------------------------------------------------

    def locations(self, kind: str | None = None) -> Iterator[Location]:
        """Yield every artifact, the known types first; invalid names are passed over."""
        for folder in self._type_folders(kind):
            type_name = names.canonical_type(folder.name)
            for entry in folders_in(folder.path):
                if _is_valid(names.check_name, entry.name):
                    is_shadowed = type_name != folder.name and self._is_in(type_name, entry.name)
                    kind_name = folder.name if is_shadowed else type_name
                    yield Location(kind_name, entry.name, Path(entry.path))

    def find(self, name: str, kind: str | None = None) -> Location:
        """The artifact of that name; without a type the first that has it. Raises
        FileNotFoundError; a name or type that none may have is not found either."""
        locations = []
        if _is_valid(names.check_name, name):
            for folder in self._type_folders(kind):
                path = Path(folder.path) / name
                if path.is_dir() and not path.is_symlink():
                    locations.append(Location(names.canonical_type(folder.name), name, path))
        # One without versions, of a first saving that was killed, hides no other.
        if locations:
            return next((location for location in locations if location.numbers()), locations[0])
        suffix = f" (type={kind})" if kind else ""
        raise FileNotFoundError(f"Artifact not found: {name}{suffix}")

    def _type_folders(self, kind: str | None) -> list[os.DirEntry[str]]:
        order = {known: place for place, known in enumerate(names.TYPES)}
        folders = [
            entry
            for entry in folders_in(self.folder)
            if _is_valid(names.check_type, entry.name)
            and kind in (None, names.canonical_type(entry.name), entry.name)
        ]

        def place(entry: os.DirEntry[str]) -> tuple[int, bool, str]:
            kind = names.canonical_type(entry.name)
            return order.get(kind, len(order)), kind != entry.name, entry.name

        return sorted(folders, key=place)

    def _is_in(self, kind: str, name: str) -> bool:
        return (self.folder / kind / name).is_dir()

    def index(self, location: Location) -> ArtifactIndex:
        data = layout.read_json(location.folder / VERSIONS)
        return ArtifactIndex.from_dict(data, location.name, location.type)

    def metadata(self, location: Location, number: int) -> ArtifactMetadata:
        """Raises FileNotFoundError for a version that is not there, ValueError if unreadable."""
        data = read_document(location.version(number) / METADATA, f"{location.name}:v{number}")
        return ArtifactMetadata.from_dict(data, location.name, location.type, number)

    def describe(self, location: Location, number: int) -> ArtifactMetadata:
        """Return the metadata, or what the other documents know if it is unreadable.

        Raises FileNotFoundError for a version that is not there.
        """
        try:
            return self.metadata(location, number)
        except ValueError:
            listed = self.index(location).find(number)
            manifest = self.manifest(location, number)
            return ArtifactMetadata.from_index(
                listed, manifest, location.name, location.type, number
            )

    def manifest(self, location: Location, number: int) -> ArtifactManifest:
        """Empty where it is missing or unreadable."""
        path = location.version(number) / MANIFEST
        return ArtifactManifest.from_dict(layout.read_json(path))

    def changes(self, location: Location, number: int) -> dict[str, Any]:
        """The version's ``lifecycle_stage``, ``evaluations`` and ``history``, as far as kept.

        0.4.0 keeps the first two in ``metadata.json``; the newer ones count.
        """
        folder = location.version(number)
        theirs = layout.read_json(folder / METADATA)
        theirs = {key: theirs[key] for key in LIFECYCLE if key in theirs}
        ours = layout.read_json(folder / CHANGES)
        both = (theirs, ours) if _stage_time(ours) >= _stage_time(theirs) else (ours, theirs)
        return {**both[0], **both[1]}

    def resolve(self, location: Location, reference: str) -> int:
        """The number that ``v3`` or an alias names. Raises ValueError, FileNotFoundError."""
        number = names.parse_version(reference)
        if number is not None and number > 0:
            return number
        aliases = self.aliases(location)
        if reference in aliases:
            return aliases[reference]
        if number is not None or reference[:1] in ("v", "V"):
            raise ValueError(f"Invalid version format: {reference}")
        raise ValueError(
            f"Alias not found: {reference} for artifact {location.name}. "
            f"Available aliases: {list(aliases)}"
        )

    def aliases(self, location: Location) -> dict[str, int]:
        """Return the index's aliases, and those that 0.4.0 wrote to a version's metadata alone."""
        index, numbers = self.index(location), location.numbers()
        self._keep(index, numbers)
        unlisted: dict[str, int] = {}
        for number in numbers:
            data = layout.read_json(location.folder / f"v{number}" / METADATA)
            theirs = data.get("aliases")
            for alias in theirs if isinstance(theirs, list) else []:
                if isinstance(alias, str) and alias != LATEST and alias not in index.aliases:
                    unlisted[alias] = number
        return {**index.aliases, **unlisted}

    def _highest(self, location: Location, index: ArtifactIndex) -> int:
        """The highest number that was ever given, also to versions that are gone."""
        try:
            kept = int((location.folder / HIGHEST).read_text())
        except (OSError, ValueError):
            kept = 0
        listed = [info.version for info in index.versions]
        return max([0, kept, *listed, *location.numbers()])

    @staticmethod
    def _list(index: ArtifactIndex, metadata: ArtifactMetadata) -> None:
        index.versions.append(
            ArtifactVersionInfo(
                metadata.version,
                metadata.created_at,
                metadata.created_by_run,
                metadata.size_bytes,
                metadata.num_files,
                metadata.status,
                list(metadata.aliases),
            )
        )
        index.aliases[LATEST] = metadata.version
        index.updated_at = metadata.created_at

    @staticmethod
    def _write_index(location: Location, index: ArtifactIndex) -> None:
        layout.write_json(location.folder / VERSIONS, index.to_dict())

    # -- the lock, and what a killed process left ----------------------------------------------

    @contextmanager
    def _locked(self, location: Location) -> Iterator[ArtifactIndex]:
        """Hold the artifact's lock; gives its index, repaired."""
        from filelock import FileLock

        with FileLock(location.folder / _LOCK, timeout=_LOCK_SECONDS):
            index = self.index(location)
            if not index.created_at:
                index.created_at = index.updated_at = time.time()
            if self._settle(location, index):
                self._write_index(location, index)
            yield index

    def _settle(self, location: Location, index: ArtifactIndex) -> bool:
        """List complete versions that were not listed yet, and drop those that are gone.

        Returns whether the index changed. Leftovers of killed processes are removed.
        """
        self._remove_leftovers(location)
        there = location.numbers()
        listed = {info.version for info in index.versions}
        if listed == set(there):
            return False
        for number in there:
            if number not in listed:
                try:
                    metadata = self.metadata(location, number)
                except (OSError, ValueError):
                    continue  # another program is not done with it, or never will be
                latest = index.aliases.get(LATEST, 0)
                self._list(index, metadata)
                index.aliases[LATEST] = max(latest, number)
        index.versions.sort(key=lambda info: info.version)
        self._keep(index, there)
        return True

    @staticmethod
    def _keep(index: ArtifactIndex, numbers: list[int]) -> None:
        """Forget the versions, and the aliases of versions, that are not there."""
        there = set(numbers)
        index.versions = [info for info in index.versions if info.version in there]
        index.aliases = {alias: n for alias, n in index.aliases.items() if n in there}
        if LATEST not in index.aliases and index.versions:
            index.aliases[LATEST] = index.versions[-1].version

    @staticmethod
    def _remove_leftovers(location: Location) -> None:
        remove_half_documents(location.folder)
        for entry in folders_in(location.folder):
            if entry.name.startswith(TRASH) or (
                entry.name.startswith(STAGING) and is_abandoned(entry.path)
            ):
                shutil.rmtree(entry.path, ignore_errors=True)


def stage_of(changes: dict[str, Any]) -> str:
    stage = changes.get("lifecycle_stage")
    return stage if stage in STAGES else STAGES[0]


def _stage_time(changes: dict[str, Any]) -> float:
    at = changes.get("lifecycle_updated_at")
    return at if isinstance(at, int | float) else 0


def read_document(path: Path, what: str) -> dict[str, Any]:
    try:
        data = layout.parse_json(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"Metadata not found for {what}") from None
    if data is None:
        raise ValueError(f"Invalid metadata JSON for {what}")
    return data


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def remove_half_documents(folder: Path) -> None:
    """Remove unfinished documents; only the holder of the artifact's lock writes any."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _is_valid(check: Callable[[object], str], name: str) -> bool:
    try:
        return bool(check(name))
    except ValueError:
        return False


def folders_in(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
