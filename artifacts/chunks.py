"""Chunks of large contents that are here already, so that an upload need not send them again.

Nothing is stored in chunks: contents stay whole files, which Runicorn 0.4.0 can read. The files
below ``.runicorn/chunks`` only say how a content was cut, and can be made again from the content.
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


class _Slice(NamedTuple):
    path: Path
    offset: int
    length: int


class BaseChunks:
    """The chunks of files that a new content may resemble.

    They are files of the artifact's newest version that *by* may see. Their contents are linked
    into *folder*, so that they stay until the upload ends.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], digest: str, by: Any) -> None:
        self._slices: dict[str, _Slice] = {}
        for base in _bases(plan, digest, by):
            path = folder / f"{base.blob.digest}.base"
            try:
                if not path.exists():
                    os.link(base.version.files_folder / base.path, path)
            except OSError:
                continue
            offset = 0
            for chunk in recipe(base.blob.digest, path):
                self._slices.setdefault(chunk.digest, _Slice(path, offset, chunk.length))
                offset += chunk.length

    def has(self, chunk: Chunk) -> bool:
        slice_ = self._slices.get(chunk.digest)
        return slice_ is not None and slice_.length == chunk.length

    def read(self, chunk: Chunk) -> bytes:
        slice_ = self._slices[chunk.digest]
        with slice_.path.open("rb") as file:
            return os.pread(file.fileno(), slice_.length, slice_.offset)


def _bases(plan: dict[str, Any], digest: str, by: Any) -> list[File]:
    """Return large files of the newest version: those of the same path, or of the same suffix."""
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
    same_path = list(large.filter(path__in=paths))
    if same_path:
        return same_path[:_MOST_BASES]
    suffixes = {Path(path).suffix for path in paths}
    same_suffix = [
        f for f in large.order_by("-blob__size_bytes") if Path(f.path).suffix in suffixes
    ]
    return same_suffix[:_MOST_BASES]


def recipe(digest: str, path: Path) -> list[Chunk]:
    """Return the chunks of the content at *path*; read them from a file if it was cut before."""
    saved = _home() / digest
    try:
        return list(_chunks(orjson.loads(saved.read_bytes())))
    except (OSError, ValueError, TypeError):
        cut_chunks = list(cut(path))
        remember(digest, cut_chunks)
        return cut_chunks


def remember(digest: str, cut_chunks: Iterable[Chunk]) -> None:
    _home().mkdir(parents=True, exist_ok=True)
    layout.write_bytes(_home() / digest, orjson.dumps([list(chunk) for chunk in cut_chunks]))


def forget_missing() -> None:
    """Forget the chunks of contents that are no longer here."""
    pool = index.storage().blobs
    for path in _home().glob("*"):
        if not pool.path(path.name).exists():
            path.unlink(missing_ok=True)


def announce(folder: Path, cut_chunks: Iterable[Chunk]) -> None:
    """Record that these chunks may be sent to the upload."""
    with layout.locked(folder / _ANNOUNCED):
        lengths = layout.read_json(folder / _ANNOUNCED)
        layout.write_json(
            folder / _ANNOUNCED, {**lengths, **{c.digest: c.length for c in cut_chunks}}
        )


def announced(folder: Path) -> dict[str, int]:
    return layout.read_json(folder / _ANNOUNCED)


def _chunks(rows: Any) -> Iterator[Chunk]:
    for digest, length in rows:
        yield Chunk(str(digest), int(length))


def _home() -> Path:
    return Path(settings.RUNICORN_STORAGE_ROOT) / layout.SERVER_DIR / "chunks"
