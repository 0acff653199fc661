"""``annotations.json`` of a run: what people keep about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import layout

_LATEST = 2**43
"""Later than any date (in Unix seconds) that means something."""


@dataclass
class Annotations:
    """What people keep about a run."""

    tags: list[str] = field(default_factory=list)
    """In the order they were given, none twice."""
    notes: str = ""
    pinned: bool = False
    archived: bool = False
    display_name: str = ""
    updated_at: float = 0.0
    """Unix seconds; 0: nobody has noted anything."""


def parse(data: dict[str, Any]) -> Annotations:
    """What an ``annotations.json`` holds; members of another type count as absent."""
    return Annotations(
        tags=texts(data.get("tags")),
        notes=text(data.get("notes")),
        pinned=data.get("pinned") is True,
        archived=data.get("archived") is True,
        display_name=text(data.get("display_name")),
        updated_at=time_of(data.get("updated_at")),
    )


def of_record(record: dict[str, Any]) -> Annotations:
    """The same of a run's record in 0.4's ``.experiments_metadata.json``."""
    return Annotations(
        tags=texts(record.get("tags")),
        notes=text(record.get("description")),
        pinned=record.get("pinned") is True,
        archived=record.get("archived") is True,
        updated_at=time_of(record.get("updated_at")),
    )


def merged(
    stored: dict[str, Any] | None, record: dict[str, Any] | None, meta: dict[str, Any]
) -> Annotations:
    """What holds for a run: its own annotations, or a record that was changed later.

    *stored*: its ``annotations.json``, None if it has none; *record*: what 0.4's file has of it;
    *meta*: its ``meta.json``, in which 0.7 keeps tags and an alias, which count until somebody
    annotates the run here.
    """
    noted = of_record(record) if record is not None else None
    if stored is None:
        annotations = noted or Annotations()
        annotations.tags = unique([*annotations.tags, *texts(meta.get("tags"))])
        annotations.display_name = text(meta.get("alias"))
        return annotations
    annotations = parse(stored)
    if noted is not None and noted.updated_at > annotations.updated_at:
        noted.display_name = annotations.display_name
        return noted
    return annotations


def write(path: Path, annotations: Annotations, stored: dict[str, Any] | None) -> None:
    """Replace the document; members that other versions keep in *stored* stay.

    The folder keeps its date: 0.4 lists runs by it, and a tag does not make a run newer.
    """
    times = path.parent.stat()
    layout.write_json(path, {**(stored or {}), **as_document(annotations)})
    layout.set_mtime(path.parent, times.st_mtime_ns)


def as_document(annotations: Annotations) -> dict[str, Any]:
    return {
        "tags": annotations.tags,
        "notes": annotations.notes,
        "pinned": annotations.pinned,
        "archived": annotations.archived,
        "display_name": annotations.display_name,
        "updated_at": annotations.updated_at,
    }


def unique(tags: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else []
    return unique(item for item in items if isinstance(item, str) and item)


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def time_of(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _LATEST else 0.0  # type: ignore[operator,arg-type]
