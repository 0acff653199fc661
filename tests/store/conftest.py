from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runicorn.run_store import RunStore

DATA = Path(__file__).parents[1] / "data" / "runicorn-0.7.2"

MakeRun = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> RunStore:
    return RunStore(root)


@pytest.fixture
def make_run(root: Path) -> MakeRun:
    """Writes a run's folder, ended unless told otherwise; returns it relative to the root."""

    def make(directory: str = "p/e/runs/one", status: str = "finished", **meta: Any) -> str:
        folder = root / directory
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(
            json.dumps({"id": folder.name, "created_at": 1e9, **meta})
        )
        (folder / "status.json").write_text(json.dumps({"status": status, "ended_at": 1.1e9}))
        return directory

    return make


@pytest.fixture
def recorded_07(root: Path) -> Path:
    """The storage root that the SDKs of 0.4.0, 0.6.0 and 0.7.2 have written."""
    with tarfile.open(DATA / "storage.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture
def catalog_07() -> dict[str, dict[str, Any]]:
    return json.loads((DATA / "catalog.json").read_text())["runs"]
