"""A run's folder that goes away under the server and the training: no error, and no ghost."""

from __future__ import annotations

import shutil
import subprocess
import sys

import httpx
import pytest

from runs.ingest import receiving
from tests.runs.conftest import Root
from tests.servers import ROOT, viewer, wait_until

TRAIN = """
import sys, runicorn as rn
run = rn.init(
    project='p', name='e', storage=sys.argv[1], run_id=sys.argv[2], capture_env=False,
    system_metrics=False,
)
print('in', flush=True)
for line in sys.stdin:
    exec(line)
    print('done', flush=True)
run.summary({'best': 1.0})
run.finish()
"""
RUN_ID = "20260101_000000_aaaaaa"
ADDRESSES = [
    *("/api/runs", "/api/runs/{}", "/api/runs/{}/metrics", "/api/runs/{}/metrics_step"),
    *("/api/v2/experiments", "/api/v2/experiments/{}", "/api/recycle-bin", "/api/projects"),
    *("/", "/live", "/runs/{}", "/runs/{}/live", "/api/export/{}/csv", "/api/runs/{}/artifacts"),
]


class Training:
    def __init__(self, root):
        command = [sys.executable, "-c", TRAIN, str(root.path), RUN_ID]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
        assert self.process.stdout.readline() == "in\n"

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def finish(self):
        """End the training; return what it said."""
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return said


def statuses(server):
    return {httpx.get(server.url + address.format(RUN_ID)).status_code for address in ADDRESSES}


def listed(server):
    return [(run["id"], run["status"]) for run in httpx.get(f"{server.url}/api/runs").json()]


def post(server, path, body):
    return httpx.post(f"{server.url}/api{path}", json=body).json()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("gone") / "root")
    root.path.mkdir()
    with viewer(root.path) as server:
        yield server, root


@pytest.fixture
def training(served):
    server, root = served
    training = Training(root)
    training.do("run.log({'loss': 1.0})")
    wait_until(lambda: listed(server) == [(RUN_ID, "running")], "listed")
    yield training
    if training.process.poll() is None:
        training.finish()
    shutil.rmtree(root.path / "p", ignore_errors=True)
    wait_until(lambda: listed(server) == [], "forgotten")


@pytest.mark.slow
def test_a_folder_that_is_removed_is_gone(served, training):
    server, root = served
    shutil.rmtree(root.path / "p/e/runs" / RUN_ID)
    for _ in range(3):
        assert statuses(server) <= {200, 404}
    wait_until(lambda: listed(server) == [], "gone")
    training.do("run.log({'loss': 2.0})")
    assert "removed" in training.finish()
    assert statuses(server) <= {200, 404}
    assert listed(server) == []
    assert not (root.path / "p/e/runs" / RUN_ID).exists()


@pytest.mark.slow
def test_a_running_run_is_not_purged(served, training):
    server, _ = served
    post(server, "/runs/soft-delete", {"run_ids": [RUN_ID]})
    assert post(server, "/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 0
    training.do("run.log({'loss': 2.0})")
    training.finish()
    assert listed(server) == []
    post(server, "/recycle-bin/restore", {"run_ids": [RUN_ID]})
    assert listed(server) == [(RUN_ID, "finished")]
    rows = httpx.get(f"{server.url}/api/runs/{RUN_ID}/metrics_step").json()["rows"]
    assert [row["loss"] for row in rows] == [1.0, 2.0]


@pytest.mark.slow
def test_a_run_that_is_taken_up_from_the_recycle_bin_is_kept(served, training):
    server, root = served
    training.finish()
    post(server, "/runs/soft-delete", {"run_ids": [RUN_ID]})
    again = Training(root)
    again.do("run.log({'loss': 2.0})")
    assert post(server, "/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 0
    post(server, "/recycle-bin/restore", {"run_ids": [RUN_ID]})
    assert listed(server) == [(RUN_ID, "running")]
    assert "recycle bin" in again.finish()
    wait_until(lambda: listed(server) == [(RUN_ID, "finished")], "finished")


@pytest.mark.slow
def test_a_killed_run_is_purged_and_stays_away(served, training):
    server, root = served
    training.process.kill()
    training.process.communicate()
    wait_until(lambda: listed(server) == [(RUN_ID, "failed")], "failed")
    post(server, "/runs/soft-delete", {"run_ids": [RUN_ID]})
    assert post(server, "/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 1
    assert statuses(server) <= {200, 404}
    assert not (root.path / "p/e/runs" / RUN_ID).exists()


def test_nothing_is_sent_to_a_folder_that_is_gone(root, api):
    run = receiving.open_run("p", "e", RUN_ID, {}, by=None)
    shutil.rmtree(run.path)
    with pytest.raises(FileNotFoundError):
        receiving.receive_document(run, "status.json", b'{"status": "finished"}')
    with pytest.raises(FileNotFoundError):
        receiving.receive(run, "events.jsonl", 0, b"{}\n")
    assert not run.path.exists()
    root.scan()
    assert api.ids() == []
