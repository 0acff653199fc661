"""The storage root changes at run time, and everything follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests import v04
from tests.runs.conftest import Root
from tests.servers import Viewer, viewer, wait_until


@pytest.fixture
def server(tmp_path):
    Root(_folder(tmp_path / "one")).run("first", run_id="20260101_000000_aaaaaa")
    Root(_folder(tmp_path / "two")).run("second", run_id="20260101_000000_bbbbbb")
    with viewer(tmp_path / "one") as started:
        yield started


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _get(server: Viewer, path: str) -> Any:
    return httpx.get(f"{server.url}/api{path}", trust_env=False, timeout=30).json()


def _move(server: Viewer, path: Any) -> httpx.Response:
    url = f"{server.url}/api/config/user_root_dir"
    return httpx.post(url, json={"path": str(path)}, trust_env=False, timeout=30)


def _ids(server: Viewer) -> list[str]:
    return [run["id"] for run in _get(server, "/runs")]


@pytest.mark.slow
def test_runs_index_and_watching_follow_to_the_new_root(server, tmp_path):
    assert _ids(server) == ["20260101_000000_aaaaaa"]
    answer = _move(server, tmp_path / "two")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "ok": True,
        "user_root_dir": str(tmp_path / "two"),
        "storage": str(tmp_path / "two"),
        "message": "User root directory updated successfully",
    }
    wait_until(lambda: _ids(server) == ["20260101_000000_bbbbbb"], "the other runs are listed")
    assert _get(server, "/projects") == {"projects": ["second"]}
    assert _get(server, "/config")["storage"] == str(tmp_path / "two")
    assert server.health()["storage"] == str(tmp_path / "two")
    assert (tmp_path / "two/.runicorn/index.sqlite3").exists()
    assert f"owner: storage.move {tmp_path / 'two'}" in server.log.read_text()

    other = Root(tmp_path / "two")
    other.run("third", run_id="20260101_000000_cccccc")
    wait_until(lambda: "20260101_000000_cccccc" in _ids(server), "a new run is indexed")
    Root(tmp_path / "one").run("late", run_id="20260101_000000_dddddd")

    assert _move(server, tmp_path / "one").status_code == 200
    back = ["20260101_000000_aaaaaa", "20260101_000000_dddddd"]
    wait_until(lambda: sorted(_ids(server)) == back, "the first root is served again")


@pytest.mark.slow
def test_artifacts_and_v2_follow(server, tmp_path):
    recorded = v04.unpack_storage(_folder(tmp_path / "recorded"))  # beside the others, not in one

    def versions() -> int:
        return len(_get(server, "/artifacts/digits-classifier/versions"))

    def experiments() -> int:
        return _get(server, "/v2/experiments")["total"]

    assert experiments() == 1
    assert _move(server, recorded).status_code == 200
    wait_until(lambda: server.health()["ingest"]["state"] == "watching", "all is indexed")
    wait_until(lambda: versions() == 3, "the artifacts of the other root are served")
    assert experiments() > 20
    assert _move(server, tmp_path / "two").status_code == 200
    assert _get(server, "/artifacts") == []
    wait_until(lambda: experiments() == 1, "the second root is served")


@pytest.mark.slow
def test_a_new_folder_is_created_and_kept_for_the_next_start(server, tmp_path):
    assert _move(server, tmp_path / "new" / "place").status_code == 200
    assert (tmp_path / "new/place/runs").is_dir()
    assert _ids(server) == []
    config = json.loads(Path(_get(server, "/config")["config_file"]).read_text())
    assert config == {"user_root_dir": str(tmp_path / "new/place")}


@pytest.mark.slow
def test_who_followed_a_log_of_the_old_root_is_told(server, tmp_path):
    run = next((tmp_path / "one").glob("first/*/runs/*"))
    (run / "logs.txt").write_text("one line\n")
    with connect(f"{server.ws_url}/api/runs/{run.name}/logs/ws") as log:
        assert log.recv(timeout=5) == "one line"
        assert _move(server, tmp_path / "two").status_code == 200
        assert "another storage folder" in log.recv(timeout=5)
        with pytest.raises(Exception, match="1000"):
            log.recv(timeout=5)


@pytest.mark.slow
def test_a_path_that_cannot_be_used_changes_nothing(server, tmp_path):
    (tmp_path / "file").touch()
    for path in ("", " ", "relative", "./x", None, 7, ["/"], "/proc/no/where", f"{tmp_path}/file"):
        url = f"{server.url}/api/config/user_root_dir"
        answer = httpx.post(url, json={"path": path}, trust_env=False, timeout=30)
        assert answer.status_code == 400, path
        assert answer.json()["detail"].startswith("Invalid path or permission error: ")
    assert _get(server, "/config")["user_root_dir"] == ""
    assert _ids(server) == ["20260101_000000_aaaaaa"]
