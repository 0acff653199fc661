"""A server whose machine is in trouble: every door says so, reading goes on, all is well after."""

from __future__ import annotations

import os
import resource

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.runs.conftest import Root
from tests.servers import viewer, wait_until

DOORS = [
    *("/", "/recycle-bin", "/artifacts", "/remote", "/admin/", "/admin/runs/run/", "/api/health"),
    *("/api/runs", "/api/artifacts", "/api/recycle-bin", "/api/v2/experiments", "/openapi.json"),
]


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    return root


def test_a_storage_folder_that_is_moved_and_put_back(root):
    run = root.run()
    run.log({"loss": 0.5, "global_step": 1})
    run.append("logs.txt", b"a line\n")
    away = root.path.with_name("away")
    with viewer(root.path) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        metrics = f"/api/runs/{run.id}/metrics_step"
        rows = client.get(metrics).json()["rows"]
        assert [row["loss"] for row in rows] == [0.5]
        root.path.rename(away)
        wait_until(lambda: "not there" in server.health()["ingest"]["error"], "noticed")

        # The index lies in the folder: what SQLite holds open may still be read, or nothing.
        for door in [*DOORS, f"/runs/{run.id}", f"/api/runs/{run.id}", metrics]:
            _is_known_or_refused(client.get(door))
        _is_known_or_refused(client.get(f"/api/export?run_ids={run.id}"))
        refused = client.post("/api/runs/soft-delete", json={"run_ids": [run.id]})
        assert refused.status_code == 503
        assert "is not there" in refused.json()["detail"]
        assert "is not there" in client.get("/").text
        try:
            with connect(f"{server.ws_url}/api/runs/{run.id}/logs/ws") as socket:
                assert socket.recv(timeout=30).startswith(("a line", "[error] The storage folder"))
        except InvalidStatus as refused:
            assert refused.response.status_code == 503

        away.rename(root.path)
        wait_until(lambda: not server.health()["ingest"]["error"], "back")
        assert client.get(metrics).json()["rows"] == rows
        statuses = {door: client.get(door).status_code for door in [*DOORS, f"/runs/{run.id}"]}
        assert set(statuses.values()) == {200}, statuses
        assert server.log.read_text().count("Traceback") <= 1  # said once


def _is_known_or_refused(response):
    assert response.status_code in (200, 503), response.url
    if response.status_code == 503:
        assert "is not there" in response.text
        assert int(response.headers["Retry-After"]) > 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits other processes")
def test_too_many_open_files_are_said_and_pass(root):
    run = root.run()
    run.log({"loss": 0.5, "global_step": 1})
    with viewer(root.path) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for door in DOORS:
            assert client.get(door).status_code == 200  # the connection is open from here on
        pid = server.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        number = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
        open_files = psutil.Process(pid).num_fds()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(number, open_files), limits[1]))
        responses = {door: client.get(door) for door in [*DOORS, f"/api/runs/{run.id}"]}
        statuses = {door: response.status_code for door, response in responses.items()}
        assert set(statuses.values()) <= {200, 503}, statuses
        refused = [response for response in responses.values() if response.status_code == 503]
        assert refused, "the limit was never met"
        assert any("too many files open" in response.text for response in refused)
        assert all("Retry-After" in response.headers for response in refused)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert {client.get(door).status_code for door in responses} == {200}
