"""One run, several processes: when it ends, and how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from runicorn import heartbeats as heartbeats_of_runs
from runicorn import processes

from .conftest import document, only_run, steps

RANK = """
import os, sys
from sys import exit as leave
run = rn.init(storage=root, run_id='one', capture_env=False, system_metrics=False)
print('in', flush=True)
for line in sys.stdin:
    exec(line)
    print('done', flush=True)
"""


class Rank:
    """A process of the run that does what it is told."""

    def __init__(self, script):
        self.process = script(RANK, stdin=subprocess.PIPE, stderr=None)
        assert self.process.stdout.readline() == "in\n"

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self, line="sys.exit()"):
        self.process.stdin.write(line + "\n")
        self.process.stdin.close()
        return self.process.wait(30)

    def kill(self):
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def ranks(script):
    return [Rank(script) for _ in range(3)]


def status(tmp_path):
    return document(only_run(tmp_path), "status.json")["status"]


def heartbeats(tmp_path):
    return sorted(path.name for path in only_run(tmp_path).glob("heartbeat.*"))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_run_ends_with_the_last_of_its_processes(ranks, tmp_path, order):
    assert len(heartbeats(tmp_path)) == 3
    for number in order:
        assert status(tmp_path) == "running"
        assert "ended_at" not in document(only_run(tmp_path), "status.json")
        ranks[number].do(f"rn.log(rank={number})")
        ranks[number].end()
    assert status(tmp_path) == "finished"
    assert document(only_run(tmp_path), "status.json")["ended_at"]
    assert heartbeats(tmp_path) == []
    assert len(steps(only_run(tmp_path))) == 3


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (("sys.exit()", "raise ValueError", "sys.exit()"), "failed"),
        (("raise ValueError", "sys.exit()", "sys.exit()"), "failed"),
        (("sys.exit()", "sys.exit()", "leave(1)"), "failed"),
        (("sys.exit()", "rn.finish('failed')", "sys.exit()"), "failed"),
        (("sys.exit()", "os.kill(os.getpid(), 9)", "sys.exit()"), "failed"),
        (("os.kill(os.getpid(), 9)", "sys.exit()", "sys.exit()"), "failed"),
        # A pool of workers is told to go when its work is done.
        (("sys.exit()", "os.kill(os.getpid(), 15)", "sys.exit()"), "finished"),
        (("rn.finish('early stop')", "sys.exit()", "sys.exit()"), "early stop"),
        (("rn.finish('failed'); rn.finish()", "sys.exit()", "sys.exit()"), "finished"),
    ],
)
def test_it_has_failed_if_one_of_them_has(ranks, tmp_path, ends, expected):
    for rank, end in zip(ranks, ends, strict=True):
        assert status(tmp_path) == "running"
        rank.end(end)
    assert status(tmp_path) == expected
    assert heartbeats(tmp_path) == []


def test_when_the_owner_ends_first_another_process_is_the_owner(ranks, tmp_path):
    meta = document(only_run(tmp_path), "meta.json")
    assert meta["pid"] == ranks[0].process.pid
    ranks[0].end()
    now = document(only_run(tmp_path), "meta.json")
    assert now["pid"] in (ranks[1].process.pid, ranks[2].process.pid)
    assert processes.is_alive(now["pid"], now["process"], None)
    assert {key for key in meta if meta[key] != now[key]} == {"pid", "process"}


def test_a_rank_that_comes_after_the_owner_left_still_joins(ranks, script, tmp_path):
    ranks[0].end()
    late = Rank(script)
    for rank in (ranks[1], ranks[2]):
        rank.end()
    assert status(tmp_path) == "running"
    late.end()
    assert status(tmp_path) == "finished"


def test_what_died_in_an_earlier_life_of_the_run_is_forgotten(ranks, script, tmp_path):
    for rank in ranks:
        rank.kill()
    assert len(heartbeats(tmp_path)) == 3
    again = Rank(script)
    assert heartbeats(tmp_path) == [_name(again)]
    assert document(only_run(tmp_path), "meta.json")["pid"] == again.process.pid
    again.end()
    assert status(tmp_path) == "finished"
    assert "outcomes" not in document(only_run(tmp_path), "status.json")


def _name(rank):
    who = {"hostname": os.uname().nodename, "pid": rank.process.pid}
    return heartbeats_of_runs.name_of({**who, "process": processes.identity(rank.process.pid)})


def test_a_run_that_was_taken_over_is_ended_by_who_took_it(ranks, start, tmp_path):
    run = start(run_id="one", resume=True, system_metrics=False)
    for rank in ranks:
        rank.do("run.look_after()")  # says so, and goes on
        rank.do("rn.log(x=1)")
        rank.end("rn.finish('failed')")
    assert status(tmp_path) == "running"
    run.finish()
    assert status(tmp_path) == "finished"


# -- another host ------------------------------------------------------------------------------


def elsewhere(run_dir, age_s):
    """As if the process that began the run were one of a host that cannot be looked at."""
    meta = document(run_dir, "meta.json") | {"hostname": "node017"}
    (run_dir / "meta.json").write_text(json.dumps(meta))
    for path in run_dir.glob("heartbeat.*"):
        path.unlink()
    path = run_dir / heartbeats_of_runs.name_of(meta)
    path.write_text(json.dumps({key: meta[key] for key in ("hostname", "pid", "process")}))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture
def killed(script, tmp_path):
    rank = Rank(script)
    rank.kill()
    return only_run(tmp_path)


def test_a_job_that_is_requeued_on_another_host_is_its_own(killed, start):
    path = elsewhere(killed, age_s=120)
    run = start(run_id="one", capture_env=True, system_metrics=False)
    assert not path.exists()
    assert document(killed, "meta.json")["pid"] == os.getpid()
    run.finish()
    assert document(killed, "status.json")["status"] == "finished"
    assert (killed / "environment.json").exists()


def test_so_is_one_whose_first_process_may_have_lived_when_it_began(killed, start):
    path = elsewhere(killed, age_s=5)
    run = start(run_id="one", system_metrics=False)
    assert document(killed, "meta.json")["hostname"] == "node017"
    os.utime(path, (time.time() - 61,) * 2)
    run.finish()
    assert document(killed, "status.json")["status"] == "finished"
    assert not path.exists()


def test_a_process_of_another_host_that_was_seen_and_is_lost_has_failed(killed, start, monkeypatch):
    path = elsewhere(killed, age_s=5)
    run = start(run_id="one", system_metrics=False)
    os.utime(path)
    os.utime(path, (path.stat().st_mtime + 5,) * 2)
    monkeypatch.setattr(heartbeats_of_runs, "LOST_S", -10)
    run.finish()
    assert document(killed, "status.json")["status"] == "failed"


def test_a_process_of_another_host_that_beats_keeps_the_run_going(killed, start):
    path = elsewhere(killed, age_s=5)
    run = start(run_id="one", system_metrics=False)
    os.utime(path)
    run.finish()
    status = document(killed, "status.json")
    assert (status["status"], list(status["outcomes"].values())) == ("running", ["finished"])
    assert path.exists()


def test_an_owner_without_heartbeats_on_another_host_is_joined_and_the_run_ends_here(
    killed, start, caplog
):
    elsewhere(killed, age_s=5).unlink()
    run = start(run_id="one", capture_env=True, system_metrics=False)
    assert "cannot be looked at from here" in caplog.text
    run.finish()
    assert document(killed, "status.json")["status"] == "finished"
    assert (killed / "environment.json").exists()


# -- heartbeats --------------------------------------------------------------------------------


def test_a_heartbeat_is_touched_while_the_process_lives(script, tmp_path):
    body = "from runicorn import _lifecycle\n_lifecycle.LOOK_S = 0.05\n" + RANK
    process = script(body, stdin=subprocess.PIPE, stderr=None)
    assert process.stdout.readline() == "in\n"
    (path,) = only_run(tmp_path).glob("heartbeat.*")
    assert json.loads(path.read_text())["pid"] == process.pid
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 30
    while path.stat().st_mtime == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.stat().st_mtime > 1
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert path.exists()  # nobody took leave


def test_a_forked_child_has_no_heartbeat_of_its_own(train, tmp_path):
    body = """
        import os
        run = rn.init(storage=root, capture_env=False, system_metrics=False)
        if (child := os.fork()) == 0:
            rn.log(x=1)
            rn.finish()
            os._exit(0)
        os.waitpid(child, 0)
        assert len(list(run.run_dir.glob("heartbeat.*"))) == 1
        assert "running" in open(run.run_dir / "status.json").read()
    """
    assert train(body) == 0
    assert heartbeats(tmp_path) == []
    assert status(tmp_path) == "finished"
