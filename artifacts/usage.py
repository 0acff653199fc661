"""Which runs created and used which versions: read from the runs' own records."""

from __future__ import annotations

from runicorn import layout
from runicorn.artifacts.lineage import record_entries
from runicorn.artifacts.names import canonical_type
from runs import ingest
from runs.models import Run, RunFile

from .models import Usage

KINDS = {
    layout.ARTIFACTS_CREATED: Usage.Kind.CREATED,
    layout.ARTIFACTS_USED: Usage.Kind.USED,
}


def write_created(run: Run, content: bytes | None) -> None:
    _write(run, Usage.Kind.CREATED, content)


def write_used(run: Run, content: bytes | None) -> None:
    _write(run, Usage.Kind.USED, content)


def _write(run: Run, kind: Usage.Kind, content: bytes | None) -> None:
    """Bring the run's usages of a kind up to date with its record (None: it is gone)."""
    record = (layout.parse_json(content) if content else None) or {}
    run.artifact_usages.filter(kind=kind).delete()
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
        for entry in record_entries(record)
        if _is_storable(entry)
    )


def listen() -> None:
    """From now on, take in the records of runs as they come."""
    ingest.document_writers[layout.ARTIFACTS_CREATED] = write_created
    ingest.document_writers[layout.ARTIFACTS_USED] = write_used


def catch_up() -> None:
    """Take in records that were read before anybody listened."""
    for name, kind in KINDS.items():
        files = RunFile.objects.filter(name=name).select_related("run")
        for file in files.exclude(run__artifact_usages__kind=kind):
            _write(file.run, kind, bytes(file.content or b""))


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
