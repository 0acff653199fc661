"""A run whose process has vanished becomes failed; any other is left alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from runicorn import processes


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def running(root, pid, hostname=None, **meta):
    run = root.run(pid=pid, hostname=socket.gethostname() if hostname is None else hostname, **meta)
    run.write("status.json", {"status": "running", "started_at": 5.0, "kept": 1})
    root.scan()
    return run


@pytest.mark.parametrize(
    "look",
    [
        lambda api, run: api.get("/runs"),
        lambda api, run: api.get(f"/runs/{run.id}"),
        lambda api, run: api.post("/status/check"),
    ],
)
def test_a_vanished_process_is_a_failed_run(root, api, dead_pid, look):
    run = running(root, dead_pid)
    look(api, run)
    status = json.loads((run.path / "status.json").read_text())
    assert status["ended_at"] > 1e9
    assert status | {"ended_at": 0} == {
        "status": "failed",
        "started_at": 5.0,
        "kept": 1,
        "ended_at": 0,
        "exit_reason": "process_not_found",
    }
    assert api.get("/runs")[0]["status"] == "failed"


def test_the_check_counts(root, api, dead_pid):
    running(root, dead_pid)
    running(root, os.getpid(), process=processes.identity())
    assert api.post("/status/check") == {
        "checked": 2,
        "updated": 1,
        "message": "Checked 2 running experiments, updated 1 statuses",
    }


def test_a_living_process_is_a_running_run(root, api):
    run = running(root, os.getpid(), process=processes.identity())
    assert api.get(f"/runs/{run.id}")["status"] == "running"


def test_another_process_with_the_same_number_is_not_the_run(root, api):
    """The operating system gives process ids anew."""
    run = running(root, os.getpid(), process=processes.identity() | {"start": 1})
    assert api.get(f"/runs/{run.id}")["status"] == "failed"


def test_a_process_that_began_after_the_last_write_is_not_the_run(root, api):
    run = running(root, os.getpid())
    for path in (*run.path.iterdir(), run.path):
        os.utime(path, (1000, 1000))
    assert api.get(f"/runs/{run.id}")["status"] == "failed"


def test_another_machine_is_none_of_our_business(root, api, dead_pid):
    run = running(root, dead_pid, hostname="elsewhere")
    assert api.get(f"/runs/{run.id}")["status"] == "running"


@pytest.mark.parametrize("project", ["x_mirror_y", "remote_cache", "a_sync_b"])
def test_a_copy_of_another_machine_is_left_alone(root, api, dead_pid, project):
    run = root.run(project=project, pid=dead_pid, hostname="")
    run.write("status.json", {"status": "running"})
    root.scan()
    assert api.get(f"/runs/{run.id}")["status"] == "running"


@pytest.mark.parametrize("pid", [None, 0, "12", [1], 10**30, -1])
def test_an_odd_pid_stops_nothing(root, api, pid):
    running(root, pid)
    assert api.post("/status/check")["checked"] == 1
    assert len(api.ids()) == 1
