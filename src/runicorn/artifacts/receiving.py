"""Receive the versions of another storage root as they are: same number, same documents.

The caller fetches; the rules about folders, locks and contents are kept here. Contents that are
stored already are linked, so that only the missing ones have to come.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .. import layout
from . import names
from .documents import ArtifactIndex, ArtifactManifest, FileEntry
from .folders import FILES, MANIFEST, METADATA, Location
from .staging import find_clash, staging_folder
from .storage import ArtifactStorage

LARGEST_DOCUMENT = 64 * 2**20


def location_of(store: ArtifactStorage, kind: str, name: str) -> Location:
    """Return the place here of the artifact *name* of another root.

    Raises ValueError for a name or type that may not be a folder here.
    """
    if kind != names.canonical_type(names.check_type(kind)):
        raise ValueError(f"Unknown artifact type: {kind}")
    return Location(kind, names.check_name(name), store.folder / kind / name)


def read_manifest(content: bytes) -> ArtifactManifest:
    """The manifest of a version, if all its files can lie here. Raises ValueError."""
    data = layout.parse_json(content)
    if data is None:
        raise ValueError("manifest.json is no JSON document")
    manifest = ArtifactManifest.from_dict(data)
    paths = [names.check_path(file.path) for file in manifest.files]
    if clash := find_clash(paths):
        raise ValueError(f"Two files of the artifact cannot both be stored: {clash}")
    return manifest


def missing_contents(store: ArtifactStorage, files: Iterable[FileEntry]) -> dict[str, FileEntry]:
    """Return, by digest, one file of each content that is not stored yet."""
    missing: dict[str, FileEntry] = {}
    for file in files:
        digest = names.parse_digest(file.digest)
        if digest not in missing and not store.blobs.has(digest, file.size):
            missing[digest] = file
    return missing


def is_complete(location: Location, number: int) -> bool:
    """Return whether the version is here with its files."""
    return (location.folder / f"v{number}" / FILES).is_dir()


def add_version(
    store: ArtifactStorage,
    location: Location,
    number: int,
    documents: dict[str, bytes],
    contents: dict[str, Path] | None,
) -> None:
    """Make the version appear, with its *documents* and, unless *contents* is None, its files.

    *contents* has, by digest, the paths of the contents that were missing; they are moved away.
    A version that is here without its files gets them. Raises OSError, FileNotFoundError if a
    content is missing.
    """
    location.folder.mkdir(parents=True, exist_ok=True)
    with staging_folder(location.folder) as (staging, _):
        if contents is not None:
            (staging / FILES).mkdir()
            for file in read_manifest(documents[MANIFEST]).files:
                _place(store, file, staging / FILES / file.path, contents)
        for name, content in documents.items():
            (staging / name).write_bytes(content)
        with store._locked(location):
            target = location.folder / f"v{number}"
            if not target.exists():
                staging.rename(target)
            elif contents is not None and not (target / FILES).exists():
                (staging / FILES).rename(target / FILES)
        with store._locked(location):
            pass  # taking the lock lists the version


def _place(
    store: ArtifactStorage, file: FileEntry, target: Path, contents: dict[str, Path]
) -> None:
    digest = names.parse_digest(file.digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    if store.blobs.link(digest, file.size, str(target)):
        return
    if digest not in contents:
        raise FileNotFoundError(f"{file.path}: its content did not come")
    if file.modified_at:
        os.utime(contents[digest], (file.modified_at, file.modified_at))
    contents[digest].rename(target)
    store.blobs.enter(digest, file.size, str(target))


def set_documents(
    store: ArtifactStorage, location: Location, number: int, documents: dict[str, bytes | None]
) -> None:
    """Replace documents of a version that is here; None removes one."""
    folder = location.version(number)
    with store._locked(location):
        for name, content in documents.items():
            if content is None:
                (folder / name).unlink(missing_ok=True)
            elif name != MANIFEST and (name != METADATA or layout.parse_json(content) is not None):
                layout.write_bytes(folder / name, content)


def set_index(store: ArtifactStorage, location: Location, content: bytes) -> None:
    """Take over ``versions.json``: aliases and order, of the versions that are here."""
    data = layout.parse_json(content)
    if data is None:
        return
    with store._locked(location):
        index = ArtifactIndex.from_dict(data, location.name, location.type)
        store._keep(index, location.numbers())
        store._write_index(location, index)
