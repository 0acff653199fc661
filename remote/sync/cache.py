"""The cache of smart mode: how much of a host's runs lies here, and what to remove of it.

The documents of a run always stay, so that lists and summaries need no connection. Curves, logs and
media can be fetched again, and are removed from the run that was opened longest ago first.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from runicorn import layout
from runicorn.artifacts import ArtifactStorage, receiving
from runicorn.artifacts.lineage import record_keys

from .ledger import Claims

DEFAULT_BYTES = 10 * 2**30

_VERSION = re.compile(r"^v(\d+)/", re.MULTILINE)


def describe(claims: Claims, limit: int) -> dict[str, Any]:
    """Count the runs that are here, and the bytes of what could be fetched again."""
    runs = claims.runs()
    return {
        "cached_runs": len(runs),
        "cached_bytes": sum(_size(claims.root / run) for run in runs),
        "max_bytes": limit,
    }


def clean_up(claims: Claims, limit: int, *, keep: Collection[str] = ()) -> int:
    """Remove what was opened longest ago until the rest fits, and return how many files that were.

    Runs of *keep* stay, so the limit may be exceeded by what is being looked at."""
    sizes = {run: size for run in claims.runs() if (size := _size(claims.root / run))}
    total, removed = sum(sizes.values()), 0
    for run in sorted(sizes, key=lambda run: claims.get(run).get("opened") or 0):
        if total <= limit:
            break
        if run not in keep:
            removed += _let_go(claims.root / run)
            total -= sizes[run]
    return removed


def clear(claims: Claims) -> None:
    """Remove everything that came from there; the next sync brings it again."""
    runs = claims.runs()
    claims.forget(runs)
    trash = claims.root / layout.SERVER_DIR / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    for run in runs:
        aside = trash / uuid.uuid4().hex
        (claims.root / run).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    _clear_artifacts(claims)


def _clear_artifacts(claims: Claims) -> None:
    """Remove the versions that came from there, except those that another run here made or used."""
    store = ArtifactStorage(claims.root)
    needed = {
        (key.type, key.name, key.version)
        for _, run in layout.iter_run_dirs(claims.root)
        for document in (layout.ARTIFACTS_CREATED, layout.ARTIFACTS_USED)
        for key in record_keys(layout.read_json(Path(run.path, document)))
    }
    for directory in claims.artifacts():
        _, kind, name = directory.split("/")
        location = receiving.location_of(store, kind, name)
        came = {int(number) for number in _VERSION.findall("\n".join(claims.documents(directory)))}
        cleared = {n for n in came if (kind, name, n) not in needed}
        store.purge((location, number) for number in sorted(cleared))
        kept = {f"v{number}" for number in came - cleared}
        claims.forget_documents(directory, keep=kept)


def _loose(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what can be fetched again of a run: all but its documents."""
    try:
        with os.scandir(folder) as entries:
            yield from [entry for entry in entries if entry.name not in layout.DOCUMENTS]
    except FileNotFoundError:
        return


def _size(folder: Path) -> int:
    total = 0
    for entry in _loose(folder):
        if entry.is_dir(follow_symlinks=False):
            files = [Path(top, name) for top, _, names in os.walk(entry.path) for name in names]
            total += sum(os.lstat(file).st_size for file in files)
        else:
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _let_go(folder: Path) -> int:
    removed = 0
    for entry in _loose(folder):
        if entry.is_dir(follow_symlinks=False):
            removed += sum(len(names) for _, _, names in os.walk(entry.path))
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)
            removed += 1
    return removed
