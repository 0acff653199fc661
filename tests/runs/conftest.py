"""A storage root, run folders written by hand, and an API client that looks at them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runs.ingest.indexer import Indexer


class RunFolder:
    """A run's folder, written the way a training process would, or worse."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def logs(self) -> Path:
        return self.path / "logs.txt"

    def write(self, name: str, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (self.path / name).write_bytes(data)

    def append(self, name: str, data: bytes) -> None:
        with (self.path / name).open("ab") as file:
            file.write(data)

    def log(self, *rows: dict[str, Any]) -> None:
        self.append("events.jsonl", b"".join(map(event, rows)))


def event(data: dict[str, Any]) -> bytes:
    line = {"ts": data.get("time", 0), "type": "metrics", "data": data}
    return json.dumps(line).encode() + b"\n"


class Root:
    """A storage root of the test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0

    def run(self, project: str = "p", name: str = "e", run_id: str = "", **meta: Any) -> RunFolder:
        """A new run folder that says it has finished."""
        self._count += 1
        run_id = run_id or f"20260101_000000_{self._count:06x}"
        folder = RunFolder(self.path / project / name / "runs" / run_id)
        folder.path.mkdir(parents=True)
        folder.write(
            "meta.json",
            {
                "id": run_id,
                "project": project,
                "name": name,
                "created_at": 1.5 + self._count,
                **meta,
            },
        )
        folder.write("status.json", {"status": "finished"})
        return folder

    def scan(self) -> None:
        Indexer(self.path).catch_up()


@pytest.fixture
def root(tmp_path, settings, db):
    settings.RUNICORN_STORAGE_ROOT = tmp_path / "root"
    settings.RUNICORN_STORAGE_ROOT.mkdir()
    return Root(settings.RUNICORN_STORAGE_ROOT)


class Api:
    """The HTTP API, answered in this process."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, path: str, status: int = 200) -> Any:
        response = self.client.get(f"/api{path}")
        content = response.getvalue()  # long answers are streamed
        assert response.status_code == status, content
        return json.loads(content)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        response = self.client.post(f"/api{path}", body, content_type="application/json")
        assert response.status_code == status, response.content
        return response.json()

    def ids(self) -> list[str]:
        return [run["id"] for run in self.get("/runs")]


@pytest.fixture
def api(client, root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config/runicorn").mkdir(parents=True)
    limits = {"default": {"max_requests": 10**6, "window_seconds": 60}, "endpoints": {}}
    limits["settings"] = {"enable_rate_limiting": False}
    (tmp_path / "config/runicorn/rate_limits.json").write_text(json.dumps(limits))
    return Api(client)
