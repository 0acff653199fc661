"""The artifacts folder of a storage root: save, find, change and remove versions.

``<root>/artifacts/<type>/<name>/v<N>`` as Runicorn 0.4 has it. The rules that make it safe with
several processes at once, killed at any moment:

- A version is built in a folder of its own beside the others (``.staging-…``, with a lock that
  tells whether its builder lives) and becomes ``v<N>`` by one rename: no half version is visible.
- Numbers are given, and documents changed, under ``<type>/<name>/.lock``, which is never removed.
- Who takes that lock first repairs what a killed process left (``_settle``).
- What is removed is first renamed away as a whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import layout
from . import names
from .pool import Pool, Progress, hash_file
from .records import (
    ArtifactIndex,
    ArtifactManifest,
    ArtifactMetadata,
    ArtifactVersionInfo,
    FileEntry,
    ReferenceEntry,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

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

_LOCK = ".lock"
_HIGHEST = ".highest"
_STAGING = ".staging-"
_TRASH = ".trash-"
_LOCK_SECONDS = 30
_MANY = 100
_THREADS = 4
_VERSION_FOLDER = re.compile(r"v([1-9][0-9]{0,17})")
_DIGEST = re.compile(rb"[0-9a-f]{64}")

LATEST = "latest"
PRODUCTION = "production"
STAGES = ["experimental", "staging", "production", "archived"]
_NEXT_STAGES = {
    "experimental": {"staging", "archived"},
    "staging": {"production", "experimental", "archived"},
    "production": {"staging", "archived"},
    "archived": {"experimental"},
}
_LIFECYCLE = ("lifecycle_stage", "lifecycle_updated_at", "stage_transitions", "evaluations")
_KEPT_EVALUATIONS = 10


@dataclass
class Draft:
    """What is to become a version."""

    name: str
    type: str
    files: list[tuple[str | Path, str]] = field(default_factory=list)
    """(where the bytes are, path in the artifact)."""
    references: list[ReferenceEntry] = field(default_factory=list)
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)


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
        """The versions that are there, ascending."""
        found = (_VERSION_FOLDER.fullmatch(e.name) for e in _folders(self.folder))
        return sorted(int(match[1]) for match in found if match)


@dataclass
class Purged:
    count: int = 0
    bytes: int = 0


@dataclass
class Problem:
    """A file of a version that is not what the manifest says: ``missing``, ``changed``, ``unsafe``
    (its path leads outside), or a document that cannot be read (``unreadable``)."""

    path: str
    problem: str


class InvalidTransition(ValueError):
    """A stage that does not exist, or that cannot follow the present one."""


class ArtifactStorage:
    def __init__(self, storage_root: str | os.PathLike[str] | None = None) -> None:
        self.root = layout.storage_root(storage_root)
        self.folder = self.root / ARTIFACTS
        self.pool = Pool(self.folder / POOL)

    # -- finding -------------------------------------------------------------------------------

    def locations(self, kind: str | None = None) -> Iterator[Location]:
        """Every artifact, of the known types first; a name that none may have is passed over."""
        for folder in self._type_folders(kind):
            type_name = names.canonical_type(folder.name)
            for entry in _folders(folder.path):
                if _is_valid(names.check_name, entry.name):
                    is_shadowed = type_name != folder.name and self._is_in(type_name, entry.name)
                    shown = folder.name if is_shadowed else type_name
                    yield Location(shown, entry.name, Path(entry.path))

    def find(self, name: str, kind: str | None = None) -> Location:
        """The artifact of that name; without a type the first that has it. Raises
        FileNotFoundError; a name or type that none may have is not found either."""
        if _is_valid(names.check_name, name):
            for folder in self._type_folders(kind):
                path = Path(folder.path) / name
                if path.is_dir() and not path.is_symlink():
                    return Location(names.canonical_type(folder.name), name, path)
        suffix = f" (type={kind})" if kind else ""
        raise FileNotFoundError(f"Artifact not found: {name}{suffix}")

    def _type_folders(self, kind: str | None) -> list[os.DirEntry[str]]:
        order = {known: place for place, known in enumerate(names.TYPES)}
        found = [
            entry
            for entry in _folders(self.folder)
            if _is_valid(names.check_type, entry.name)
            and kind in (None, names.canonical_type(entry.name), entry.name)
        ]

        def place(entry: os.DirEntry[str]) -> tuple[int, bool, str]:
            kind = names.canonical_type(entry.name)
            return order.get(kind, len(order)), kind != entry.name, entry.name

        return sorted(found, key=place)

    def _is_in(self, kind: str, name: str) -> bool:
        return (self.folder / kind / name).is_dir()

    def index(self, location: Location) -> ArtifactIndex:
        data = layout.read_json(location.folder / VERSIONS)
        return ArtifactIndex.from_dict(data, location.name, location.type)

    def metadata(self, location: Location, number: int) -> ArtifactMetadata:
        """Raises FileNotFoundError for a version that is not there, ValueError if unreadable."""
        data = _read(location.version(number) / METADATA, f"{location.name}:v{number}")
        return ArtifactMetadata.from_dict(data, location.name, location.type, number)

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
        theirs = {key: theirs[key] for key in _LIFECYCLE if key in theirs}
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
        """What the index says, and below it what 0.4.0 wrote to a version's metadata alone."""
        index = self.index(location)
        found: dict[str, int] = {}
        for number in location.numbers():
            data = layout.read_json(location.folder / f"v{number}" / METADATA)
            theirs = data.get("aliases")
            for alias in theirs if isinstance(theirs, list) else []:
                if isinstance(alias, str) and alias != LATEST and alias not in index.aliases:
                    found[alias] = number
        return {**index.aliases, **found}

    # -- saving --------------------------------------------------------------------------------

    def save(
        self,
        draft: Draft,
        *,
        created_by_run: str = "",
        created_by_user: str | None = None,
        store: Callable[[str | Path, str], FileEntry] | None = None,
        modified_at: Mapping[str, float | None] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> tuple[ArtifactMetadata, ArtifactManifest]:
        """Make *draft* the next version of its artifact.

        *store*: how a file gets to its place, where that is not copying it. *modified_at*: the
        times to note instead of the files' own, by path. *changes*: what ``changes.json`` is to
        say from the first moment on. Raises ValueError for what may not be
        saved, and OSError; then nothing of it remains.
        """
        if not draft.files and not draft.references:
            raise ValueError("Artifact has no files or references to save")
        kind, name = names.check_type(draft.type), names.check_name(draft.name)
        paths = [names.check_path(path) for _, path in draft.files]
        if clash := _clash(paths):
            raise ValueError(f"Two files of the artifact cannot both be stored: {clash}")
        location = self._home(name, kind)
        with _staging(location.folder) as staging:
            files = staging / FILES
            files.mkdir()
            for folder in sorted({path.rpartition("/")[0] for path in paths} - {""}):
                (files / folder).mkdir(parents=True, exist_ok=True)
            if store is None:
                store = self._store(location)
            entries = _store_all(store, [source for source, _ in draft.files], paths, str(files))
            for entry in entries if modified_at is not None else ():
                entry.modified_at = (modified_at or {}).get(entry.path)
            manifest = ArtifactManifest.of(entries, draft.references, time.time())
            text = manifest.dump()
            (staging / MANIFEST).write_bytes(text)
            if changes:
                (staging / CHANGES).write_bytes(layout.dump_json(dict(changes)))
            metadata = ArtifactMetadata(
                name,
                kind,
                version=0,
                created_by_run=created_by_run,
                created_by_user=created_by_user,
                size_bytes=manifest.total_size,
                num_files=manifest.total_files,
                num_references=manifest.total_references,
                metadata=draft.metadata,
                description=draft.description,
                tags=draft.tags,
                aliases=[LATEST],
                manifest_digest=hashlib.sha256(text).hexdigest(),
            )
            self._commit(location, staging, metadata)
        return metadata, manifest

    def _home(self, name: str, kind: str) -> Location:
        """Where the artifact is, or is to be."""
        try:
            return self.find(name, kind)
        except FileNotFoundError:
            folder = self.folder / kind / name
            folder.mkdir(parents=True, exist_ok=True)
            return Location(kind, name, folder)

    def _store(self, location: Location) -> Callable[[str | Path, str], FileEntry]:
        # A large file of the newest version's size is likely to be that file again.
        numbers = location.numbers()
        known = self.manifest(location, numbers[-1]).files if numbers else []
        sizes = {file.size for file in known}

        def store(source: str | Path, target: str) -> FileEntry:
            is_known = bool(sizes) and Path(source).stat().st_size in sizes
            stored = self.pool.store(source, target, is_known=is_known)
            return FileEntry("", stored.size, f"sha256:{stored.digest}", stored.modified_at)

        return store

    def _commit(self, location: Location, staging: Path, metadata: ArtifactMetadata) -> None:
        with self._locked(location) as index:
            metadata.version = self._highest(location, index) + 1
            metadata.created_at = metadata.updated_at = time.time()
            (staging / METADATA).write_bytes(layout.dump_json(metadata.to_dict()))
            staging.rename(location.folder / f"v{metadata.version}")
            self._list(index, metadata)
            self._write_index(location, index)

    def _highest(self, location: Location, index: ArtifactIndex) -> int:
        """The highest number that was ever given, also to versions that are gone."""
        try:
            kept = int((location.folder / _HIGHEST).read_text())
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
        self._drop(index, listed - set(there))
        return True

    @staticmethod
    def _drop(index: ArtifactIndex, gone: set[int]) -> None:
        index.versions = [info for info in index.versions if info.version not in gone]
        index.aliases = {alias: n for alias, n in index.aliases.items() if n not in gone}
        if LATEST not in index.aliases and index.versions:
            index.aliases[LATEST] = index.versions[-1].version

    @staticmethod
    def _remove_leftovers(location: Location) -> None:
        _remove_half_documents(location.folder)
        for entry in _folders(location.folder):
            if entry.name.startswith(_TRASH) or (
                entry.name.startswith(_STAGING) and _is_abandoned(entry.path)
            ):
                shutil.rmtree(entry.path, ignore_errors=True)

    # -- changing ------------------------------------------------------------------------------

    def soft_delete(self, location: Location, number: int, *, by: str = "user") -> bool:
        """Mark the version with ``.deleted``; it stays loadable. False if it was marked."""
        with self._locked(location):
            marker = location.version(number) / layout.DELETED
            if marker.exists():
                return False
            content = {
                "deleted_at": time.time(),
                "deleted_by": by,
                "version": number,
                "artifact_name": location.name,
            }
            layout.write_bytes(marker, json.dumps(content).encode())
        return True

    def restore(self, location: Location, number: int) -> bool:
        """Take the mark away. False if there was none."""
        with self._locked(location):
            marker = location.version(number) / layout.DELETED
            found = marker.exists()
            marker.unlink(missing_ok=True)
        return found

    def purge(self, versions: Iterable[tuple[Location, int]]) -> Purged:
        """Remove *versions* for good, and the bytes that nothing else refers to."""
        purged = Purged()
        digests: set[str] = set()
        for location, number in versions:
            with self._locked(location) as index:
                try:
                    folder = location.version(number)
                except FileNotFoundError:
                    continue
                content = _content(folder / MANIFEST)
                highest = str(self._highest(location, index)).encode()
                layout.write_bytes(location.folder / _HIGHEST, highest)
                aside = location.folder / f"{_TRASH}{uuid.uuid4().hex}"
                folder.rename(aside)
                self._drop(index, {number})
                self._write_index(location, index)
                purged.count += 1
                purged.bytes += _own_bytes(aside / FILES)
                shutil.rmtree(aside, ignore_errors=True)
                digests |= {digest.decode() for digest in _DIGEST.findall(content)}
        purged.bytes += self._release(digests)
        return purged

    def _release(self, digests: set[str]) -> int:
        """Let go of those of *digests* that no version needs; bytes freed."""
        loose = {digest for digest in digests if self._is_loose(digest)}
        return self.pool.release(loose - self._referenced(loose)) if loose else 0

    def _is_loose(self, digest: str) -> bool:
        try:
            return self.pool.path(digest).stat().st_nlink == 1
        except OSError:
            return False

    def _referenced(self, digests: set[str]) -> set[str]:
        """Which of *digests* a manifest names: versions may hold copies instead of links."""
        wanted = {digest.encode() for digest in digests}
        found: set[bytes] = set()
        for location in self.locations():
            for number in location.numbers():
                content = _content(location.folder / f"v{number}" / MANIFEST)
                found |= wanted.intersection(_DIGEST.findall(content))
        return {digest.decode() for digest in found}

    def set_alias(self, location: Location, alias: str, number: int) -> None:
        """Let *alias* name this version, and no other any more."""
        names.check_alias(alias)
        if alias == LATEST:
            raise ValueError("The alias 'latest' always names the newest version.")
        with self._locked(location) as index:
            location.version(number)
            self._move_alias(location, index, alias, number)

    def remove_alias(self, location: Location, alias: str) -> bool:
        """False if nothing was called so."""
        if alias == LATEST:
            raise ValueError("The alias 'latest' always names the newest version.")
        if alias not in self.aliases(location):
            return False
        with self._locked(location) as index:
            self._move_alias(location, index, alias, None)
        return True

    def _move_alias(
        self, location: Location, index: ArtifactIndex, alias: str, number: int | None
    ) -> None:
        """In the versions' metadata first, then in the index, which decides."""
        for other in location.numbers():
            path = location.folder / f"v{other}" / METADATA
            data = layout.read_json(path)
            theirs = data.get("aliases")
            current = theirs if isinstance(theirs, list) else []
            wanted = [a for a in current if a != alias] + [alias] * (other == number)
            if data and wanted != current and (alias in current or other == number):
                layout.write_json(path, {**data, "aliases": wanted})
        if number is None:
            index.aliases.pop(alias, None)
        else:
            index.aliases[alias] = number
        index.updated_at = time.time()
        self._write_index(location, index)

    def edit(self, location: Location, number: int, changes: dict[str, Any], *, by: str) -> bool:
        """Replace ``description``, ``metadata`` or ``tags``; what they were goes to the history.

        Returns whether anything changed. The content of a version never changes.
        """
        with self._locked(location):
            folder = location.version(number)
            data = _read(folder / METADATA, f"{location.name}:v{number}")
            now = time.time()
            history = [
                {"at": now, "by": by, "field": key, "from": data.get(key), "to": value}
                for key, value in changes.items()
                if data.get(key) != value
            ]
            if history:
                kept = layout.read_json(folder / CHANGES)
                kept["history"] = [*_list_in(kept, "history"), *history]
                layout.write_json(folder / CHANGES, kept)
                layout.write_json(folder / METADATA, {**data, **changes, "updated_at": now})
        return bool(history)

    def promote(
        self,
        location: Location,
        number: int,
        stage: str,
        *,
        notes: str | None = None,
        evaluator_run_id: str | None = None,
    ) -> str:
        """Move the version to *stage*; the alias ``production`` follows. Returns the old stage."""
        if stage not in STAGES:
            raise InvalidTransition(f"Invalid target stage: {stage}. Must be one of {STAGES}")
        with self._locked(location) as index:
            changes = self._own_changes(location, number)
            current = stage_of(changes)
            if stage not in _NEXT_STAGES[current]:
                raise InvalidTransition(f"Invalid transition from {current} to {stage}")
            transition = {
                "from_stage": current,
                "to_stage": stage,
                "timestamp": time.time(),
                "notes": notes,
                "evaluator_run_id": evaluator_run_id,
            }
            changes["lifecycle_stage"] = stage
            changes["lifecycle_updated_at"] = transition["timestamp"]
            changes["stage_transitions"] = [*_list_in(changes, "stage_transitions"), transition]
            layout.write_json(location.version(number) / CHANGES, changes)
            if stage == PRODUCTION:
                self._move_alias(location, index, PRODUCTION, number)
            elif current == PRODUCTION and index.aliases.get(PRODUCTION) == number:
                self._move_alias(location, index, PRODUCTION, None)
        return current

    def note_evaluation(self, location: Location, number: int, record: dict[str, Any]) -> None:
        """Keep a short form of an evaluation with the version: the last ten."""
        with self._locked(location):
            changes = self._own_changes(location, number)
            entry = {
                "eval_id": record["id"],
                "date": record["evaluation_date"],
                "status": record["status"],
                "metrics_summary": dict(list(record["metrics"].items())[:5]),
            }
            kept = [*_list_in(changes, "evaluations"), entry][-_KEPT_EVALUATIONS:]
            changes["evaluations"] = kept
            layout.write_json(location.version(number) / CHANGES, changes)

    def _own_changes(self, location: Location, number: int) -> dict[str, Any]:
        """The version's changes, moved out of ``metadata.json``, where 0.4.0 cannot bear them."""
        folder = location.version(number)
        changes = self.changes(location, number)
        data = layout.read_json(folder / METADATA)
        if any(key in data for key in _LIFECYCLE):
            layout.write_json(folder / CHANGES, changes)
            rest = {key: value for key, value in data.items() if key not in _LIFECYCLE}
            layout.write_json(folder / METADATA, rest)
        return changes

    # -- upkeep --------------------------------------------------------------------------------

    def verify(
        self, location: Location, number: int, progress: Progress | None = None
    ) -> list[Problem]:
        """Read every file of the version and compare it with the manifest."""
        folder = location.version(number)
        problems = []
        content = _content(folder / MANIFEST)
        try:
            metadata = self.metadata(location, number)
        except (OSError, ValueError):
            return [Problem(METADATA, "unreadable")]
        if layout.parse_json(content) is None:
            return [Problem(MANIFEST, "unreadable")]
        if metadata.manifest_digest not in (None, hashlib.sha256(content).hexdigest()):
            problems.append(Problem(MANIFEST, "changed"))
        for entry in self.manifest(location, number).files:
            problem = _check(folder / FILES, entry, progress)
            if problem:
                problems.append(Problem(entry.path, problem))
        return problems

    def share(self, folder: Path) -> None:
        """Store those files of a version, which came to *folder* from elsewhere, once with all
        others. A file that is not what the manifest says stays as it is, for ``verify`` to tell."""
        manifest = ArtifactManifest.from_dict(layout.read_json(folder / MANIFEST))
        for entry in manifest.files:
            if not _check(folder / FILES, entry, None):
                path = names.inside(folder / FILES, entry.path)
                self.pool.share(names.parse_digest(entry.digest), entry.size, str(path))

    def collect_garbage(self) -> Purged:
        """Remove what no version needs: contents, and what killed processes left."""
        for location in self.locations():
            with self._locked(location):  # taking the lock repairs
                for number in location.numbers():
                    _remove_half_documents(location.folder / f"v{number}")
        collected = Purged(bytes=self.pool.collect_leftovers())
        loose = {digest for digest, info in self.pool.contents() if info.st_nlink == 1}
        for digest in loose - self._referenced(loose):
            freed = self.pool.release([digest])
            collected.bytes += freed
            collected.count += not self.pool.path(digest).exists()
        return collected

    def cleanup_orphaned_dedup(self) -> int:
        """``collect_garbage``, under the name that 0.4 has for it: how many contents went."""
        return self.collect_garbage().count


def stage_of(changes: dict[str, Any]) -> str:
    stage = changes.get("lifecycle_stage")
    return stage if stage in STAGES else STAGES[0]


def _stage_time(changes: dict[str, Any]) -> float:
    at = changes.get("lifecycle_updated_at")
    return at if isinstance(at, int | float) else 0


def _list_in(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        data = layout.parse_json(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"Metadata not found for {what}") from None
    if data is None:
        raise ValueError(f"Invalid metadata JSON for {what}")
    return data


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _check(folder: Path, entry: FileEntry, progress: Progress | None) -> str | None:
    path = names.inside(folder, entry.path)
    if path is None:
        return "unsafe"
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != entry.size:
                return "changed"
            digest, _ = hash_file(file.fileno(), progress)
    except OSError:
        return "missing"
    return None if digest == names.parse_digest(entry.digest) else "changed"


def _remove_half_documents(folder: Path) -> None:
    """Whoever holds the artifact's lock is the only one to write documents."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _own_bytes(folder: Path) -> int:
    """Bytes that removing *folder* frees: of files that nobody else links to."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            info = os.lstat(os.path.join(path, name))
            total += info.st_size if info.st_nlink == 1 else 0
    return total


def _store_all(
    store: Callable[[str | Path, str], FileEntry],
    sources: Sequence[str | Path],
    paths: Sequence[str],
    folder: str,
) -> list[FileEntry]:
    """Store every file, of many several at once: most of the time is the file system's."""

    def one(source: str | Path, path: str) -> FileEntry:
        entry = store(source, f"{folder}/{path}")
        entry.path = path
        return entry

    if len(paths) < _MANY:
        return list(map(one, sources, paths))
    starts = range(0, len(paths), _MANY)

    def some(start: int) -> list[FileEntry]:
        part = slice(start, start + _MANY)
        return list(map(one, sources[part], paths[part]))

    with ThreadPoolExecutor(_THREADS) as threads:
        return [entry for part in threads.map(some, starts) for entry in part]


def _clash(paths: Sequence[str]) -> str | None:
    """A path that is there twice, or that is the folder of another."""
    seen = set(paths)
    if len(seen) < len(paths):
        return next(path for path in paths if paths.count(path) > 1)
    for path in paths:
        for end, character in enumerate(path):
            if character == "/" and path[:end] in seen:
                return path
    return None


def _is_valid(check: Callable[[object], str], name: str) -> bool:
    try:
        return bool(check(name))
    except ValueError:
        return False


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


# -- folders that a version is built in --------------------------------------------------------
#
# The builder holds a lock on the folder itself as long as it lives: no lock file to leave behind.


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder to build a version in. Renamed away or not, nothing of it remains."""
    staging, lock = _new_staging(folder)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _new_staging(folder: Path) -> tuple[Path, int | None]:
    while True:
        staging = folder / f"{_STAGING}{uuid.uuid4().hex}"
        staging.mkdir()
        if fcntl is None:
            return staging, None
        try:
            lock = os.open(staging, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if staging.exists():
            return staging, lock
        os.close(lock)  # taken for a leftover before it was locked


def _is_abandoned(staging: str) -> bool:
    """Whether its builder is gone; where folders cannot be locked, after a day."""
    try:
        if fcntl is None:
            return time.time() - Path(staging).stat().st_mtime > 86400
        lock = os.open(staging, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
