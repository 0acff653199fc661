"""One run, several processes: one after the other, and all at once."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from runicorn import _claim, processes

from .conftest import document, events, only_run, steps

BY_ID = "run = rn.init(storage=root, run_id='one', capture_env=False)\n"


def test_a_run_goes_on_where_it_stopped(train, tmp_path):
    first = BY_ID + (
        "rn.set_primary_metric('acc')\nrn.log_text('first')\nrn.summary({'a': 1})\n"
        "rn.log(acc=0.5, step=41)\nrn.log(acc=0.9)\nrn.log(acc=0.6)\nraise ValueError"
    )
    assert train(first) == 1
    run_dir = only_run(tmp_path)
    meta, status = document(run_dir, "meta.json"), document(run_dir, "status.json")
    assert status["status"] == "failed"
    (run_dir / "status.json").write_text(json.dumps({**status, "exit_reason": "x"}))

    again = BY_ID + (
        "import json\nprint(open(run.run_dir / 'status.json').read())\n"
        "rn.set_primary_metric('acc')\nrn.log_text('second')\nrn.log(acc=0.7)"
    )
    assert train(again) == 0
    assert steps(run_dir) == [41, 42, 43, 44]
    assert [line[11:] for line in (run_dir / "logs.txt").read_text().splitlines()] == [
        "first",
        "second",
    ]
    now = document(run_dir, "meta.json")
    assert now["created_at"] == meta["created_at"]
    assert now["pid"] != meta["pid"]
    ended = document(run_dir, "status.json")
    assert list(ended) == ["status", "started_at", "ended_at"]
    assert ended["status"] == "finished"
    assert ended["started_at"] > status["started_at"]
    assert document(run_dir, "summary.json") == {
        "a": 1,
        "best_metric_value": 0.9,
        "best_metric_name": "acc",
        "best_metric_step": 42,
        "best_metric_mode": "max",
    }


def test_the_best_goes_on_even_if_nobody_names_it_again(start):
    run = start(run_id="one")
    run.set_primary_metric("loss", "min")
    run.log(loss=0.5)
    run.finish()
    run = start(run_id="one")
    run.log(loss=0.4)
    run.finish()
    assert document(run.run_dir, "summary.json")["best_metric_value"] == 0.4


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b'{"ts": 1, "type": "image", "data": {"key": "a"}}\n' * 3000,
        b'{"ts": 1, "type": "metrics", "data": {"text": "' + b"x" * 300_000 + b'"}}\n',
        b'{"ts": 1, "type": "metrics", "data": {"x": 1, "global_step": 99, "ti',
        b"\xff\xfe not json\n[]\n\n",
    ],
)
def test_the_last_step_is_found_behind_whatever_follows(start, tail):
    run = start()
    for _ in range(17):
        run.log(x=1)
    path = run.run_dir / "events.jsonl"
    path.write_bytes(path.read_bytes() + tail)
    assert _claim.last_step(path) == 17


def test_resume_false_refuses_a_run_that_exists(start):
    start(run_id="one", resume=False).finish()
    with pytest.raises(FileExistsError, match="resume=True"):
        start(run_id="one", resume=False)


def test_while_the_owner_lives_another_process_joins_and_ends_nothing(start, train, tmp_path):
    owner = start(run_id="one")
    owner.log(x=1)
    meta = document(owner.run_dir, "meta.json")
    joined = BY_ID.replace("'one'", "'one', project='default'") + (
        "rn.set_primary_metric('x')\nrn.log(x=2)\nrn.summary({'rank': 1})\nrn.finish('failed')"
    )
    assert train(joined) == 0
    assert document(owner.run_dir, "meta.json") == meta
    assert document(owner.run_dir, "status.json")["status"] == "running"
    summary = document(owner.run_dir, "summary.json")
    assert (summary["rank"], summary["best_metric_value"]) == (1, 2)
    owner.log(x=3)
    owner.finish()
    assert document(owner.run_dir, "status.json")["status"] == "failed"  # as one of its processes
    assert len(events(owner.run_dir)) == 3


def test_the_better_of_two_ranks_stays_best(start, train):
    owner = start(run_id="one")
    owner.set_primary_metric("x")
    owner.log(x=1)
    assert train(BY_ID + "rn.set_primary_metric('x')\nrn.log(x=2)") == 0
    owner.finish()
    assert document(owner.run_dir, "summary.json")["best_metric_value"] == 2


def test_resume_true_takes_a_run_from_its_owner(start, train):
    owner = start(run_id="one")
    assert train(BY_ID.replace("'one'", "'one', resume=True") + "rn.finish('taken')") == 0
    owner.finish("finished")
    assert document(owner.run_dir, "status.json")["status"] == "taken"


def test_the_same_process_may_start_its_run_again(start):
    start(run_id="one").log(x=1)
    run = start(run_id="one")
    run.log(x=2)
    run.finish()
    assert steps(run.run_dir) == [1, 2]
    assert document(run.run_dir, "status.json")["status"] == "finished"


@pytest.mark.parametrize(
    ("change", "continued"),
    [
        ({}, False),  # the owner is this very test's parent: alive
        ({"hostname": "elsewhere"}, False),
        ({"process": {"start": 1, "boot": None, "pidns": None}}, True),
        ({"process": {"start": None, "boot": "another boot", "pidns": None}}, True),
        ({"process": {"start": 1, "boot": None, "pidns": "pid:[1]"}}, False),
        ({"pid": 2**22 + 1}, True),
        ({"pid": None}, True),
        ({"pid": "nonsense", "process": []}, False),
    ],
)
def test_who_counts_as_an_owner_that_lives(start, change, continued):
    run = start(run_id="one")
    parent = os.getppid()
    meta = document(run.run_dir, "meta.json")
    meta |= {"pid": parent, "process": processes.identity(parent), **change}
    (run.run_dir / "meta.json").write_text(json.dumps(meta))
    start(run_id="one")
    assert (document(run.run_dir, "meta.json")["pid"] == os.getpid()) is continued


def test_four_ranks_log_at_once_and_every_line_is_whole(script, tmp_path):
    rank = BY_ID + (
        "import os, sys\nrank = int(sys.stdin.readline())\n"
        "for i in range(500):\n"
        "    rn.log(rank=rank, i=i, pad='x' * (i * 7 % 900))\n"
        "    rn.log_text(f'{rank} {i}')\n"
    )
    ranks = [script(rank, stdin=subprocess.PIPE) for _ in range(4)]
    for number, process in enumerate(ranks):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
    for process in ranks:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    run_dir = only_run(tmp_path)
    logged = [(event["data"]["rank"], event["data"]["i"]) for event in events(run_dir)]
    expected = [(number, i) for number in range(4) for i in range(500)]
    assert sorted(logged) == expected
    lines = [line[11:] for line in (run_dir / "logs.txt").read_text().splitlines()]
    assert sorted(lines) == sorted(f"{number} {i}" for number, i in expected)
    status = document(run_dir, "status.json")
    assert status["status"] == "finished"
