"""Find storage folders below a folder.

Other machines run this file as well, with the Python that they have: it needs the standard library
alone, and nothing newer than Python 3.7.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

USUAL_NAMES = (".runicorn", "runicorn_data")
RUN_FILES = ("meta.json", "status.json", "events.jsonl")
PRUNED = frozenset(
    [
        *("__pycache__", "artifacts", "env", "node_modules", "venv"),
        *("anaconda", "anaconda3", "miniconda", "miniconda3"),
    ]
)
MOST_FOUND = 12
MOST_RUNS = 64
"""Runs that are counted in one folder; more do not make it a better guess."""

_DEEPEST_RUN = 4
_SECONDS = 15


def find_storage_folders(scan_root: str | None, max_depth: int) -> dict[str, Any]:
    """Return the storage folders at most *max_depth* below *scan_root* (default: home), best first.

    ``{"scan_root", "max_depth", "candidates": [{"path", "run_count", "has_archive", "has_index",
    "score"}]}``. Links are not followed. Raises OSError if *scan_root* is no folder.
    """
    root = os.path.realpath(os.path.expanduser(scan_root or "~"))
    os.listdir(root)
    deadline = time.monotonic() + _SECONDS
    found = []
    for path, folders, _ in os.walk(root):
        candidate = _candidate(path, folders, deadline)
        if candidate:
            found.append(candidate)
        depth = 0 if path == root else os.path.relpath(path, root).count(os.sep) + 1
        if candidate or depth >= max_depth or time.monotonic() > deadline:
            folders[:] = []
        folders[:] = [name for name in sorted(folders) if _is_searched(name)]
    found.sort(key=lambda one: (-one["score"], one["path"]))
    return {"scan_root": root, "max_depth": max_depth, "candidates": found[:MOST_FOUND]}


def _is_searched(name: str) -> bool:
    return name in USUAL_NAMES or not (name in PRUNED or name.startswith("."))


def _candidate(path: str, folders: list[str], deadline: float) -> dict[str, Any] | None:
    count = 0
    for _ in _runs(path, folders):
        count += 1
        if count >= MOST_RUNS or time.monotonic() > deadline:
            break
    has_archive, has_index = "archive" in folders, "index" in folders
    is_usual = path.rpartition(os.sep)[2] in USUAL_NAMES
    if not (count or (is_usual and "runs" in folders) or (has_archive and has_index)):
        return None
    score = (100 + min(count, 20) if count else 0) + 25 * has_archive + 15 * has_index
    return {
        "path": path,
        "run_count": count,
        "has_archive": has_archive,
        "has_index": has_index,
        "score": score + 10 * is_usual,
    }


def _runs(path: str, folders: list[str]) -> Iterator[str]:
    """Yield the runs of *path* as a storage folder: of 0.6 and later below ``runs``, else of 0.4
    in ``<project>/<experiment>/runs``."""
    if "runs" in folders:
        top = os.path.join(path, "runs")
        for inner, below, files in os.walk(top):
            if any(name in files for name in RUN_FILES):
                yield inner
                below[:] = []
            elif inner != top and os.path.relpath(inner, top).count(os.sep) + 1 >= _DEEPEST_RUN:
                below[:] = []
    for project in folders:
        if project not in PRUNED and project != "runs" and not project.startswith("."):
            for name in _folders(os.path.join(path, project)):
                runs = os.path.join(path, project, name, "runs")
                for run in _folders(runs):
                    if _is_of(os.path.join(runs, run), project, name):
                        yield os.path.join(runs, run)


def _is_of(run: str, project: str, name: str) -> bool:
    """Return whether the run says itself that it belongs there: ``runs/<id>`` alone is also 0.6."""
    try:
        with open(os.path.join(run, "meta.json"), "rb") as file:
            meta = json.loads(file.read(2**20).decode("utf-8", "replace"))
    except (OSError, ValueError):
        return False
    return isinstance(meta, dict) and (meta.get("project"), meta.get("name")) == (project, name)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return []
