"""Is the process that wrote a run still there? Also after its id was given to another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from runicorn.processes import identity, is_alive

SLEEP = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]


@pytest.fixture
def process():
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_alive_until_it_ends(process):
    who = json.loads(json.dumps(identity(process.pid)))
    assert is_alive(process.pid, who, None) is True
    process.kill()
    deadline = time.monotonic() + 10
    while is_alive(process.pid, who, None):  # dead, though its parent has not looked yet
        assert time.monotonic() < deadline
    process.wait()
    assert is_alive(process.pid, who, None) is False
    assert is_alive(process.pid, None, None) is False


def test_its_own_process():
    assert is_alive(os.getpid(), identity(), None) is True


def test_an_id_that_was_given_to_another_process(process):
    who = identity(process.pid)
    assert is_alive(process.pid, {**who, "start": who["start"] - 1}, None) is False
    assert is_alive(process.pid, {**who, "boot": "before"}, None) is False


def test_another_container_cannot_be_looked_into(process):
    assert is_alive(process.pid, {**identity(), "pidns": "pid:[1]"}, None) is None


def test_without_an_identity_the_start_of_the_process_decides(process):
    started = time.time()
    assert is_alive(process.pid, None, started) is True
    assert is_alive(process.pid, None, started - 30) is True
    assert is_alive(process.pid, None, started - 3600) is False
    assert is_alive(process.pid, {}, started - 3600) is False


@pytest.mark.parametrize("pid", [None, "12", 1.5, True, 0, -1, [], {}])
def test_nonsense_for_an_id_says_nothing(pid):
    assert is_alive(pid, None, None) is None


@pytest.mark.parametrize("pid", [2**31 - 1, 2**70])
def test_ids_that_nobody_can_have(pid):
    assert is_alive(pid, None, None) is False
    assert identity(pid)["start"] is None


@pytest.mark.parametrize("who", [[], "x", {"start": "x", "boot": 1, "pidns": []}, {"start": None}])
@pytest.mark.parametrize("seen", [None, "x", float("nan"), float("inf"), True])
def test_nonsense_beside_a_good_id_is_passed_over(who, seen):
    assert is_alive(os.getpid(), who, seen) is True
