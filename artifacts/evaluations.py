"""Evaluations of versions: records in a folder of the storage root, as v0.4 keeps them."""

from __future__ import annotations

from typing import Any

from runicorn import layout
from runicorn.artifacts.folders import EVALUATIONS

from . import index


def recorded(name: str, number: int | None = None) -> list[dict[str, Any]]:
    """Return the evaluations of the artifact, or of one version of it, the newest first."""
    records = []
    for path in (index.storage().root / EVALUATIONS).glob("*.json"):
        if path.name.startswith(f"{name}_v"):
            record = layout.read_json(path)
            if record.get("model_name") == name and number in (None, record.get("model_version")):
                records.append(record)
    return sorted(records, key=_date, reverse=True)


def _date(record: dict[str, Any]) -> float:
    date = record.get("evaluation_date")
    return date if isinstance(date, int | float) else 0
