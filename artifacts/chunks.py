"""Which chunks of large contents are known here, so that an upload need not send them again.

Nothing is stored in chunks: contents stay whole files, which Runicorn 0.4.0 can read. What is kept
below ``.runicorn/chunks`` is only how a content was cut, and can be made anew from the content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from django.conf import settings

from runicorn import layout
from runicorn.artifacts.chunking import SMALLEST_FILE, Chunk, cut

from . import index
from .models import File, Version

_ANNOUNCED = "chunks.json"
_MOST_BASES = 4


class _Place(NamedTuple):
    path: Path
    offset: int
    length: int


class Known:
    """The chunks of those files of the artifact's newest version *by* may see that a new content
    may be like.

    Their contents are linked into *folder*, so that they stay until the upload ends.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], digest: str, by: Any) -> None:
        self._places: dict[str, _Place] = {}
        for base in _bases(plan, digest, by):
            path = folder / f"{base.blob.digest}.base"
            try:
                if not path.exists():
                    os.link(base.version.files_folder / base.path, path)
            except OSError:
                continue
            offset = 0
            for chunk in recipe(base.blob.digest, path):
                self._places.setdefault(chunk.digest, _Place(path, offset, chunk.length))
                offset += chunk.length

    def has(self, chunk: Chunk) -> bool:
        place = self._places.get(chunk.digest)
        return place is not None and place.length == chunk.length

    def read(self, chunk: Chunk) -> bytes:
        place = self._places[chunk.digest]
        with place.path.open("rb") as file:
            return os.pread(file.fileno(), place.length, place.offset)


def _bases(plan: dict[str, Any], digest: str, by: Any) -> list[File]:
    """The newest version's large files: that of the same path first, then of the same kind."""
    store = index.storage()
    try:
        artifact = index.index_artifact(store.find(plan["name"], plan["type"]))
    except FileNotFoundError:
        return []
    versions = Version.objects.visible_to(by)
    newest = versions.filter(artifact=artifact).order_by("-number").first()
    if newest is None:
        return []
    paths = {file["path"] for file in plan["files"] if file["digest"] == digest}
    large = newest.files.filter(blob__size_bytes__gte=SMALLEST_FILE).select_related("blob")
    same = list(large.filter(path__in=paths))
    if same:
        return same[:_MOST_BASES]
    kinds = {Path(path).suffix for path in paths}
    alike = [f for f in large.order_by("-blob__size_bytes") if Path(f.path).suffix in kinds]
    return alike[:_MOST_BASES]


def recipe(digest: str, path: Path) -> list[Chunk]:
    """How the content at *path* is cut; from memory if it was cut before."""
    known = _home() / digest
    try:
        return list(_chunks(orjson.loads(known.read_bytes())))
    except (OSError, ValueError, TypeError):
        found = list(cut(path))
        remember(digest, found)
        return found


def remember(digest: str, found: Iterable[Chunk]) -> None:
    _home().mkdir(parents=True, exist_ok=True)
    layout.write_bytes(_home() / digest, orjson.dumps([list(chunk) for chunk in found]))


def forget_lost() -> None:
    """Forget how contents were cut that are no longer here."""
    pool = index.storage().blobs
    for path in _home().glob("*"):
        if not pool.path(path.name).exists():
            path.unlink(missing_ok=True)


def announce(folder: Path, found: Iterable[Chunk]) -> None:
    """Note that these chunks may be sent to the upload."""
    with layout.locked(folder / _ANNOUNCED):
        known = layout.read_json(folder / _ANNOUNCED)
        layout.write_json(folder / _ANNOUNCED, {**known, **{c.digest: c.length for c in found}})


def announced(folder: Path) -> dict[str, int]:
    return layout.read_json(folder / _ANNOUNCED)


def _chunks(rows: Any) -> Iterator[Chunk]:
    for digest, length in rows:
        yield Chunk(str(digest), int(length))


def _home() -> Path:
    return Path(settings.RUNICORN_STORAGE_ROOT) / layout.SERVER_DIR / "chunks"
