"""Keep the index of the artifacts folder up to date by reading only what has changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction

from runicorn import layout
from runicorn.artifacts import ArtifactIndex, ArtifactManifest, ArtifactMetadata, ArtifactStorage
from runicorn.artifacts.documents import CORRUPTED
from runicorn.artifacts.folders import FILES, MANIFEST, METADATA, VERSIONS, Location, stage_of
from runicorn.artifacts.names import parse_digest
from runs.models import to_datetime

from .models import Alias, Artifact, Blob, File, Reference, Version

logger = logging.getLogger("runicorn.artifacts")

FRESH_SECONDS = 0.1
"""A file this recent may change again within one tick of the file system's clock, so it is read
again the next time."""

QUICK_SECONDS = 0.05
"""A check of all artifacts that takes no longer is made every time."""

_CHECK_LOCK = threading.Lock()
_next_check = 0.0


def storage() -> ArtifactStorage:
    return ArtifactStorage(settings.RUNICORN_STORAGE_ROOT)


def refresh_all() -> None:
    """Bring every artifact up to date.

    A check takes a few system calls per version. In a large store, a tenth of the time is spent on
    checks at most; single artifacts are always up to date.
    """
    global _next_check
    with _CHECK_LOCK:
        start = time.monotonic()
        if start < _next_check:
            return
        catch_up()
        duration = time.monotonic() - start
        _next_check = time.monotonic() + (10 * duration if duration > QUICK_SECONDS else 0)


def catch_up() -> None:
    """Index all artifacts that exist now."""
    if not Path(settings.RUNICORN_STORAGE_ROOT).is_dir():
        return  # perhaps not mounted: keep its artifacts
    indexed = {artifact.directory: artifact for artifact in Artifact.objects.all()}
    for location in storage().locations():
        row = indexed.pop(_directory(location), None)
        if row is not None and row.fingerprint and row.fingerprint == _fingerprint(location):
            continue
        try:
            index_artifact(location)
        except Exception:
            logger.exception("The artifact in %s could not be indexed", location.folder)
    for artifact in indexed.values():
        _forget(artifact)


def index_artifact(location: Location) -> Artifact | None:
    """Bring the row of the artifact at *location* up to date and return it; None if it is gone."""
    directory = _directory(location)
    if not location.folder.is_dir():
        for removed in Artifact.objects.filter(directory=directory):
            _forget(removed)
        return None
    fingerprint = _fingerprint(location)
    artifact = Artifact.objects.filter(directory=directory).first()
    if artifact is not None and fingerprint and artifact.fingerprint == fingerprint:
        return artifact
    try:
        with transaction.atomic():
            row, _ = Artifact.objects.select_for_update().get_or_create(
                directory=directory, defaults={"type": location.type, "name": location.name}
            )
            _read(row, location, fingerprint)
    except IntegrityError:  # another process was first
        return Artifact.objects.filter(directory=directory).first()
    return row


def _directory(location: Location) -> str:
    return location.folder.relative_to(settings.RUNICORN_STORAGE_ROOT).as_posix()


def _read(artifact: Artifact, location: Location, fingerprint: str) -> None:
    store = storage()
    index = store.index(location)
    indexed = {version.number: version for version in artifact.versions.all()}
    numbers = location.numbers()
    _remove([version for number, version in indexed.items() if number not in numbers])
    for number in numbers:
        _read_version(store, artifact, location, number, indexed.get(number), index)
    artifact.type = location.type
    artifact.created_time, artifact.updated_time = index.created_at, index.updated_at
    artifact.is_listed = bool(index.versions or index.aliases or index.created_at)
    artifact.fingerprint = fingerprint
    artifact.save()

    keys = dict(artifact.versions.values_list("number", "pk"))
    aliases = {name: keys[n] for name, n in index.aliases.items() if n in keys and len(name) <= 255}
    if dict(artifact.aliases.values_list("name", "version_id")) != aliases:
        artifact.aliases.all().delete()
        Alias.objects.bulk_create(
            Alias(artifact=artifact, name=name, version_id=key) for name, key in aliases.items()
        )


def _read_version(
    store: ArtifactStorage,
    artifact: Artifact,
    location: Location,
    number: int,
    indexed: Version | None,
    index: ArtifactIndex,
) -> None:
    folder = location.folder / f"v{number}"
    fingerprint = _version_fingerprint(folder)
    if indexed is not None and fingerprint and indexed.fingerprint == fingerprint:
        return
    document, content = _bytes(folder / METADATA), _bytes(folder / MANIFEST)
    if document is None:
        # Another program is writing this version, or left half of it: it shows when it is complete.
        if indexed is not None:
            _remove([indexed])
        return
    data = layout.parse_json(document)
    listed = layout.parse_json(content) if content else None
    manifest = ArtifactManifest.from_dict(listed or {})
    if data is not None:
        metadata = ArtifactMetadata.from_dict(data, artifact.name, artifact.type, number)
    else:
        metadata = ArtifactMetadata.from_index(
            index.find(number), manifest, artifact.name, artifact.type, number
        )
    sha256 = hashlib.sha256(content or b"").hexdigest()
    origin = (metadata.created_at, _storable(metadata.created_by_run)[:255])
    if indexed is not None and (
        indexed.manifest_sha256 != sha256
        or (indexed.created_time, indexed.created_by_run) != origin
    ):
        logger.warning("%s was changed in its folder; reading it anew", indexed)
        _remove([indexed])
        indexed = None
    version = indexed or Version(
        artifact=artifact,
        number=number,
        manifest_sha256=sha256,
        size_bytes=metadata.size_bytes,
        num_files=metadata.num_files,
        num_references=metadata.num_references,
    )
    changes = store.changes(location, number)
    version.created_time, version.created_by_run = origin
    is_readable = data is not None and listed is not None
    version.status = metadata.status[:32] if is_readable else CORRUPTED
    version.description = _storable(metadata.description)
    version.stage = stage_of(changes)
    version.document, version.changes = document, layout.dump_json(changes)
    deleted = layout.read_json(folder / layout.DELETED)
    is_marked = (folder / layout.DELETED).exists()
    version.deleted_at = (
        to_datetime(deleted.get("deleted_at")) or to_datetime(folder.stat().st_mtime)
        if is_marked
        else None
    )
    version.has_files = not manifest.files or (folder / FILES).is_dir()
    version.fingerprint = fingerprint
    version.save()
    if indexed is None:
        _write_content(version, manifest)


def _write_content(version: Version, manifest: ArtifactManifest) -> None:
    entries = [(parse_digest(entry.digest), entry) for entry in manifest.files]
    sizes = {digest: entry.size for digest, entry in entries}
    keys = Blob.objects.ids(sizes, really=storage().blobs.size)
    File.objects.bulk_create(
        (
            File(
                version=version,
                path=_storable(entry.path)[:1100],
                blob_id=keys[digest],
                modified_time=entry.modified_at,
            )
            for digest, entry in entries
        ),
        batch_size=2000,
    )
    Reference.objects.bulk_create(
        Reference(
            version=version,
            uri=_storable(entry.uri),
            checksum=_storable(entry.checksum)[:255] if entry.checksum is not None else None,
            size_bytes=entry.size,
            metadata=json.dumps(entry.metadata),
        )
        for entry in manifest.references
    )


def _remove(versions: Iterable[Version]) -> None:
    """Remove rows of versions, and of contents that no other version refers to."""
    for version in versions:
        blobs = list(version.files.values_list("blob_id", flat=True).distinct())
        version.delete()
        for start in range(0, len(blobs), 1000):
            Blob.objects.unused().filter(pk__in=blobs[start : start + 1000]).delete()


def _forget(artifact: Artifact) -> None:
    with transaction.atomic():
        _remove(artifact.versions.all())
        artifact.delete()


def _storable(text: str) -> str:
    """Return *text* as every database can store it."""
    return text.replace("\x00", "�").encode("utf-8", "replace").decode()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


# -- fingerprints ------------------------------------------------------------------------------


def _fingerprint(location: Location) -> str:
    """Return a text that changes with the artifact; empty if a change could go unnoticed."""
    folders = [location.folder / f"v{number}" for number in location.numbers()]
    fingerprints = [
        _stat_fingerprint(location.folder / VERSIONS),
        *map(_version_fingerprint, folders),
    ]
    return _digest(fingerprints)


def _version_fingerprint(folder: Path) -> str:
    # Renaming a document changes the folder; 0.4.0 writes some of them in place.
    return _digest(
        [_stat_fingerprint(path) for path in (folder, folder / METADATA, folder / MANIFEST)]
    )


def _digest(fingerprints: list[str]) -> str:
    return "" if "" in fingerprints else hashlib.sha256("|".join(fingerprints).encode()).hexdigest()


def _stat_fingerprint(path: Path) -> str:
    try:
        info = os.lstat(path)
    except OSError:
        return "-"
    is_fresh = time.time() - info.st_mtime < FRESH_SECONDS
    return "" if is_fresh else f"{info.st_mtime_ns}.{info.st_size}.{info.st_ino}"
