"""The versions that runs created and used, read from the runs' own records."""

from __future__ import annotations

from functools import partial

from runicorn import layout
from runicorn.artifacts.lineage import record_entries
from runicorn.artifacts.names import canonical_type
from runs.ingest.documents import Documents
from runs.models import IndexedFile

from .models import Usage

KINDS = {
    layout.ARTIFACTS_CREATED: Usage.Kind.CREATED,
    layout.ARTIFACTS_USED: Usage.Kind.USED,
}


def _write(kind: Usage.Kind, documents: Documents) -> None:
    """Bring the usages of *kind* of these runs up to date with their records."""
    Usage.objects.filter(kind=kind, run__in=[run.pk for run, _ in documents]).delete()
    Usage.objects.bulk_create(
        Usage(
            run=run,
            kind=kind,
            name=entry["name"],
            type=canonical_type(entry["type"]),
            number=entry["version"],
            size_bytes=_size(entry.get("size_bytes")),
            time=_time(entry.get("created_at", entry.get("used_at"))),
        )
        for run, content in documents
        for entry in record_entries((layout.parse_json(content) if content else None) or {})
        if _is_storable(entry)
    )


document_writers = {name: partial(_write, kind) for name, kind in KINDS.items()}
"""For ``runs.ingest``: the functions that write the usages in a run's records."""


def catch_up() -> None:
    """Index records that were read before this app was connected."""
    for name, kind in KINDS.items():
        files = IndexedFile.objects.filter(name=name).select_related("run")
        for file in files.exclude(run__artifact_usages__kind=kind):
            _write(kind, [(file.run, bytes(file.content or b""))])


def _is_storable(entry: dict[str, object]) -> bool:
    texts = (str(entry["name"]), str(entry["type"]))
    number = entry["version"]
    return (
        isinstance(number, int)
        and abs(number) < 2**63
        and all(len(text) <= 255 and "\x00" not in text and _is_utf8(text) for text in texts)
    )


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _size(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _time(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e18 else 0.0
