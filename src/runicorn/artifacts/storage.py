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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import layout
from . import copy_pool, names, validation
from .blobs import hash_file, open_regular
from .documents import (
    ArtifactIndex,
    ArtifactManifest,
    ArtifactMetadata,
    FileEntry,
    ReferenceEntry,
)
from .folders import (
    CHANGES,
    FILES,
    HIGHEST,
    LATEST,
    LIFECYCLE,
    MANIFEST,
    METADATA,
    STAGES,
    TRASH,
    ArtifactFolders,
    Location,
    read_bytes,
    read_document,
    remove_half_documents,
    stage_of,
)
from .staging import find_clash, staging_folder

if TYPE_CHECKING:
    from .blobs import Progress

_DIGEST = re.compile(rb"[0-9a-f]{64}")
PRODUCTION = "production"
_NEXT_STAGES = {
    "experimental": {"staging", "archived"},
    "staging": {"production", "experimental", "archived"},
    "production": {"staging", "archived"},
    "archived": {"experimental"},
}
_KEPT_EVALUATIONS = 10


@dataclass
class Draft:
    """A version that is to be saved."""

    name: str
    type: str
    files: list[tuple[str | Path, str]] = field(default_factory=list)
    """(where the bytes are, path in the artifact)."""
    references: list[ReferenceEntry] = field(default_factory=list)
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)

    def checked(self) -> Draft:
        """The same, fit to be kept. Raises ValueError."""
        for reference in self.references:
            reference.check()
        validation.check_size(sum(reference.size or 0 for reference in self.references))
        return replace(
            self, **{key: check(getattr(self, key)) for key, check in validation.EDITABLE.items()}
        )


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


class ArtifactStorage(ArtifactFolders):
    # -- saving --------------------------------------------------------------------------------

    def save(
        self,
        draft: Draft,
        *,
        created_by_run: str = "",
        created_by_user: str | None = None,
        store: copy_pool.StoreFile | None = None,
        modified_at: Mapping[str, float | None] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> tuple[ArtifactMetadata, ArtifactManifest]:
        """Make *draft* the next version of its artifact.

        *store* puts a file in its place where that is not by a copy. *modified_at* has the times to
        record instead of the files' own, by path. *changes* is the first ``changes.json``. Raises
        ValueError for a draft that may not be saved, and OSError; then nothing of it remains.
        """
        if not draft.files and not draft.references:
            raise ValueError("Artifact has no files or references to save")
        kind, name = names.check_type(draft.type), names.check_name(draft.name)
        draft = draft.checked()
        paths = names.check_paths([path for _, path in draft.files])
        if clash := find_clash(paths):
            raise ValueError(f"Two files of the artifact cannot both be stored: {clash}")
        location = self._home(name, kind)
        many = len(paths) if store is None else 0
        with (
            staging_folder(location.folder) as (made, lock),
            copy_pool.open_pool(self.blobs, many, made, lock) as workers,
        ):
            files = f"{made / FILES}/"
            for folder in sorted({path.rpartition("/")[0] for path in paths} | {""}):
                Path(files + folder).mkdir(parents=True, exist_ok=True)
            pairs = [(source, files + path) for source, path in draft.files]
            store = store or self._store(location)
            if workers:
                stored = workers.store_all(pairs, store)
            else:
                stored = [store(*pair) for pair in pairs]
            entries = [
                FileEntry(path, each.size, f"sha256:{each.digest}", each.modified_at)
                for path, each in zip(paths, stored, strict=True)
            ]
            for entry in entries if modified_at is not None else ():
                entry.modified_at = (modified_at or {}).get(entry.path)
            manifest = ArtifactManifest.of(entries, draft.references, time.time())
            text = manifest.dump()
            (made / MANIFEST).write_bytes(text)
            if changes:
                (made / CHANGES).write_bytes(layout.dump_json(dict(changes)))
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
            self._commit(location, made, metadata)
        return metadata, manifest

    def _home(self, name: str, kind: str) -> Location:
        """Return the place of the artifact, which is made if there is none."""
        try:
            return self.find(name, kind)
        except FileNotFoundError:
            folder = self.folder / kind / name
            folder.mkdir(parents=True, exist_ok=True)
            return Location(kind, name, folder)

    def _store(self, location: Location) -> copy_pool.StoreFile:
        @cache
        def sizes() -> set[int]:
            numbers = location.numbers()
            files = self.manifest(location, numbers[-1]).files if numbers else []
            return {file.size for file in files}

        def is_likely(size: int) -> bool:
            """A large file of the newest version's size is likely to be that file again."""
            return size in sizes()

        return partial(self.blobs.store, is_likely=is_likely)

    def _commit(self, location: Location, staging: Path, metadata: ArtifactMetadata) -> None:
        with self._locked(location) as index:
            metadata.version = self._highest(location, index) + 1
            metadata.created_at = metadata.updated_at = time.time()
            (staging / METADATA).write_bytes(layout.dump_json(metadata.to_dict()))
            staging.rename(location.folder / f"v{metadata.version}")
            self._list(index, metadata)
            self._write_index(location, index)

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
            was_deleted = marker.exists()
            marker.unlink(missing_ok=True)
        return was_deleted

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
                content = read_bytes(folder / MANIFEST)
                highest = str(self._highest(location, index)).encode()
                layout.write_bytes(location.folder / HIGHEST, highest)
                aside = location.folder / f"{TRASH}{uuid.uuid4().hex}"
                folder.rename(aside)
                self._keep(index, location.numbers())
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
        return self.blobs.release(loose - self._referenced(loose)) if loose else 0

    def _is_loose(self, digest: str) -> bool:
        try:
            return self.blobs.path(digest).stat().st_nlink == 1
        except OSError:
            return False

    def _referenced(self, digests: set[str]) -> set[str]:
        """Which of *digests* a manifest names: versions may hold copies instead of links."""
        wanted = {digest.encode() for digest in digests}
        referenced: set[bytes] = set()
        for location in self.locations():
            for number in location.numbers():
                content = read_bytes(location.folder / f"v{number}" / MANIFEST)
                referenced |= wanted.intersection(_DIGEST.findall(content))
        return {digest.decode() for digest in referenced}

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

        Returns whether anything changed. The content of a version never changes. Raises
        ValueError for what may not be kept.
        """
        changes = {key: validation.EDITABLE[key](value) for key, value in changes.items()}
        with self._locked(location):
            folder = location.version(number)
            data = read_document(folder / METADATA, f"{location.name}:v{number}")
            now = time.time()
            history = [
                {"at": now, "by": by, "field": key, "from": data.get(key), "to": value}
                for key, value in changes.items()
                if data.get(key) != value
            ]
            if history:
                kept = layout.read_json(folder / CHANGES)
                entries = _list_in(kept, "history")
                # a process killed between the two documents has recorded it already
                done = [{**e, "at": now} for e in entries[-len(history) :] if isinstance(e, dict)]
                kept["history"] = entries if done == history else [*entries, *history]
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
            # The stage comes last: a caller stopped in between can do it again.
            if stage == PRODUCTION:
                self._move_alias(location, index, PRODUCTION, number)
            elif current == PRODUCTION and self.aliases(location).get(PRODUCTION) == number:
                self._move_alias(location, index, PRODUCTION, None)
            layout.write_json(location.version(number) / CHANGES, changes)
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
        if any(key in data for key in LIFECYCLE):
            layout.write_json(folder / CHANGES, changes)
            rest = {key: value for key, value in data.items() if key not in LIFECYCLE}
            layout.write_json(folder / METADATA, rest)
        return changes

    # -- upkeep --------------------------------------------------------------------------------

    def verify(
        self, location: Location, number: int, progress: Progress | None = None
    ) -> list[Problem]:
        """Read every file of the version and compare it with the manifest."""
        folder = location.version(number)
        problems = []
        content = read_bytes(folder / MANIFEST)
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
                self.blobs.enter(names.parse_digest(entry.digest), entry.size, str(path))

    def collect_garbage(self) -> Purged:
        """Remove what no version needs: contents, and what killed processes left."""
        for location in self.locations():
            with self._locked(location):  # taking the lock repairs
                for number in location.numbers():
                    remove_half_documents(location.folder / f"v{number}")
        collected = Purged(bytes=self.blobs.collect_leftovers())
        loose = {digest for digest, info in self.blobs.contents() if info.st_nlink == 1}
        for digest in loose - self._referenced(loose):
            freed = self.blobs.release([digest])
            collected.bytes += freed
            collected.count += not self.blobs.path(digest).exists()
        return collected

    def cleanup_orphaned_dedup(self) -> int:
        """``collect_garbage``, under the name that 0.4 has for it: how many contents went."""
        return self.collect_garbage().count


def _list_in(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _check(folder: Path, entry: FileEntry, progress: Progress | None) -> str | None:
    path = names.inside(folder, entry.path)
    if path is None:
        return "unsafe"
    try:
        file, info = open_regular(path)
        try:
            if info.st_size != entry.size:
                return "changed"
            digest, _ = hash_file(file, progress)
        finally:
            os.close(file)
    except OSError:
        return "missing"
    return None if digest == names.parse_digest(entry.digest) else "changed"


def _own_bytes(folder: Path) -> int:
    """Return the bytes that removing *folder* frees: those of files without another link."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            info = os.lstat(os.path.join(path, name))
            total += info.st_size if info.st_nlink == 1 else 0
    return total
