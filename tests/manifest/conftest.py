from __future__ import annotations

import json
from pathlib import Path

import pytest


class Root:
    """A storage root whose run folders are written by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, number: int = 1, project: str = "p", name: str = "e") -> Path:
        folder = self.path / project / name / "runs" / f"20260101_000000_{number:06x}"
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"created_at": 100.5}))
        (folder / "status.json").write_text(json.dumps({"status": "finished"}))
        (folder / "events.jsonl").write_bytes(b'{"a": 1}\n')
        return folder


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "root").mkdir()
    return Root(tmp_path / "root")
