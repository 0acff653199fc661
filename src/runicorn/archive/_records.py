"""Tags, notes and marks of runs, which lie beside the runs' folders and travel inside them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import layout
from ..experiments import record_from


def cleaned(directory: str, record: dict[str, Any]) -> dict[str, Any]:
    """The members that are known, of the types that they have; named as the folder is."""
    project, name, run_id = layout.split_run_dir(directory) or (None, None, "")
    known = asdict(record_from(run_id, record))
    return {**known, **{k: v for k, v in (("project", project), ("name", name)) if v}}


def merge_records(root: Path, records: dict[str, dict[str, Any]], replaced: set[str]) -> None:
    """Note what *records* say, by run folder, of runs that are there and have no record yet.

    Those in *replaced* get theirs in place of what was noted.
    """
    path = root / layout.EXPERIMENTS_METADATA
    with layout.locked(path):
        stored = layout.read_json(path)
        added = {
            record["id"]: record
            for directory, record in records.items()
            if (root / directory).is_dir() and (record["id"] not in stored or directory in replaced)
        }
        if added:
            layout.write_json(path, stored | added)
