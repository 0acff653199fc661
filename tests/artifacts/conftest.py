"""A storage root with artifacts in it, and clients that look at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runicorn as rn
from artifacts import index
from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.storage import Draft
from tests import servers
from tests.runs.conftest import api, root

__all__ = ["api", "root", "store"]


class Store:
    """The artifacts of a test's own storage root, written as the SDK writes them."""

    def __init__(self, root: Path, sources: Path) -> None:
        self.root = root
        self.storage = ArtifactStorage(root)
        self._sources = sources
        self._sources.mkdir()

    def save(self, name: str = "net", kind: str = "model", run: str = "", **files: bytes) -> int:
        """A version with these files (a dot in a path is written ``_``); its number."""
        listed = []
        for key, content in (files or {"w_bin": b"weights"}).items():
            source = self._sources / key
            source.write_bytes(content)
            listed.append((source, key.replace("__", "/").replace("_", ".")))
        draft = Draft(name, kind, listed)
        return self.storage.save(draft, created_by_run=run)[0].version

    def folder(self, name: str = "net") -> Path:
        return self.storage.find(name).folder

    def pool_size(self) -> int:
        return sum(info.st_size for _, info in self.storage.blobs.contents())

    def run(self, project: str = "p") -> rn.Run:
        return rn.Run(project, self.root, name="e", capture_env=False)


@pytest.fixture
def store(root, tmp_path, monkeypatch) -> Any:
    monkeypatch.setattr(index, "_next_check", 0.0)
    monkeypatch.setattr(index, "QUICK_SECONDS", 60.0)  # however busy the machine is
    return Store(root.path, tmp_path / "sources")


@dataclass
class Site:
    url: str
    storage: ArtifactStorage

    def verify(self, name: str, number: int) -> None:
        assert self.storage.verify(self.storage.find(name), number) == []


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("transfers") / "root"
    root.mkdir()
    with servers.viewer(root) as viewer:
        yield Site(viewer.url, ArtifactStorage(root))
