"""How a process ends, and what its run says afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from .conftest import WITH_SDK, document, events, only_run, steps

INIT = "run = rn.init(storage=root, capture_env=False)\nrn.log(x=1)\n"


def status(tmp_path):
    return document(only_run(tmp_path), "status.json")["status"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "expected", "code"),
    [
        ("", "finished", 0),
        ("import sys; sys.exit()", "finished", 0),
        ("import sys; sys.exit(0)", "finished", 0),
        ("import sys; sys.exit(3)", "failed", 3),
        ("import sys; sys.exit('no data')", "failed", 1),
        ("raise SystemExit(3)", "failed", 3),
        ("raise SystemExit('no data')", "failed", 1),
        ("raise SystemExit(0)", "finished", 0),
        ("raise SystemExit", "finished", 0),
        ("raise type('Left', (SystemExit,), {})(4)", "failed", 4),
        ("quit(2)", "failed", 2),
        ("exit()", "finished", 0),
        ("leave(4)", "failed", 4),
        ("leave()", "finished", 0),
        ("aside.exit(5)", "failed", 5),
        ("import sys; sys.exit((1, 2))", "failed", 1),
        # What was caught on the way, or raised in a thread, ends nothing.
        ("try: leave(3)\nexcept SystemExit as error: assert error.code == 3", "finished", 0),
        ("import sys\ntry: sys.exit(3)\nexcept SystemExit: pass\nleave(0)", "finished", 0),
        ("import sys\ntry: sys.exit(3)\nexcept SystemExit: pass\n1 / 0", "failed", 1),
        (
            "import sys, threading; t = threading.Thread(target=sys.exit, args=(3,)); t.start()",
            "finished",
            0,
        ),
        ("rn.finish(None)", "finished", 0),
        ("rn.finish('')", "finished", 0),
        ("raise ValueError('boom')", "failed", 1),
        ("import sys; sys.excepthook = lambda *_: None; 1 / 0", "failed", 1),
        ("raise KeyboardInterrupt", "interrupted", -signal.SIGINT),
        ("rn.finish('done early'); raise ValueError", "done early", 1),
        ("rn.finish('failed'); rn.finish()", "finished", 0),
        ("import os; os._exit(0)", "running", 0),
        ("import threading; t = threading.Thread(target=lambda: 1 / 0); t.start()", "finished", 0),
        (
            "import argparse; argparse.ArgumentParser().parse_args(['--what'])",
            "failed",
            2,
        ),
    ],
)
def test_the_status_tells_how_the_process_ended(train, tmp_path, body, expected, code):
    by_name = "import sys, types\nfrom sys import exit as leave\n"
    by_name += (
        "aside = types.ModuleType('aside'); aside.exit = leave; sys.modules['aside'] = aside\n"
    )
    assert train(by_name + INIT + body) == code
    assert status(tmp_path) == expected


def test_a_code_can_still_be_read_and_set():
    error = SystemExit(3)
    assert error.code == 3
    error.code = 4
    assert error.code == 4
    assert SystemExit(1, 2).code == (1, 2)


@pytest.mark.parametrize(
    ("body", "expected", "code"),
    [
        ("pass", "finished", 0),
        ("raise ValueError", "failed", 1),
        ("raise KeyboardInterrupt", "interrupted", -signal.SIGINT),
        ("raise SystemExit(2)", "failed", 2),
        ("raise SystemExit", "finished", 0),
        ("run.finish('mine'); raise ValueError", "mine", 1),
    ],
)
def test_so_does_leaving_the_with_block(train, tmp_path, body, expected, code):
    assert train(f"with rn.init(storage=root, capture_env=False) as run:\n    {body}") == code
    assert status(tmp_path) == expected


def test_an_error_that_was_handled_leaves_the_run_finished(start):
    with pytest.raises(ZeroDivisionError), start() as run:
        raise ZeroDivisionError
    assert document(run.run_dir, "status.json")["status"] == "failed"
    with start() as run:
        pass
    assert document(run.run_dir, "status.json")["status"] == "finished"


WAIT = INIT + "run.set_primary_metric('x')\nrn.log(x=2)\nprint('ready', flush=True)\n"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGTERM, "interrupted"),
        (signal.SIGINT, "interrupted"),
        (signal.SIGHUP, "interrupted"),
        (signal.SIGKILL, "running"),
    ],
)
def test_signals_are_noted_and_still_kill(script, tmp_path, number, expected):
    with script(WAIT + "import time; time.sleep(60)") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == -number
    assert status(tmp_path) == expected
    assert steps(only_run(tmp_path)) == [1, 2]
    if expected != "running":
        assert document(only_run(tmp_path), "summary.json")["best_metric_value"] == 2


@pytest.mark.slow
def test_a_signal_in_the_middle_of_a_locked_write_does_not_wait_for_itself(script, tmp_path):
    body = WAIT + "while True: run.summary({'n': 1})"
    for number in range(20):
        with script(body.replace("storage=root", f"storage=root, project='{number}'")) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(number / 1000)
            for _ in range(2):  # a process group is often told twice
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
        assert process.returncode == -signal.SIGTERM
        (path,) = tmp_path.glob(f"{number}/*/runs/*")
        assert document(path, "status.json")["status"] == "interrupted"


def test_a_script_that_handles_sigterm_itself_keeps_its_handler(script, tmp_path):
    body = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        run = rn.init(storage=root, capture_env=False)
        print('ready', flush=True)
        time.sleep(60)
    """
    with script(body) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert status(tmp_path) == "finished"


def test_a_forked_child_logs_but_does_not_end_its_parents_run(train, tmp_path):
    body = INIT + (
        "import os, sys\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    rn.log(x=2)\n"
        "    rn.finish('child')\n"
        "    raise ValueError\n"
        "os.waitpid(child, 0)\n"
        "assert open(run.run_dir / 'status.json').read().count('running') == 1\n"
        "rn.log(x=3)\n"
    )
    assert train(body) == 0
    assert status(tmp_path) == "finished"
    assert [event["data"]["x"] for event in events(only_run(tmp_path))] == [1, 2, 3]


def test_a_forked_child_that_ends_leaves_its_parents_files_alone(train, tmp_path):
    body = INIT + (
        "import os, sys\n"
        "rn.set_primary_metric('x')\n"
        "rn.log(x=2)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    sys.exit(1)\n"
        "os.waitpid(child, 0)\n"
        "assert '\"best_metric_value\": null' in open(run.run_dir / 'summary.json').read()\n"
    )
    assert train(body) == 0
    assert status(tmp_path) == "finished"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_workers_end_their_own_runs_only(train, tmp_path, method):
    body = """
        import multiprocessing

        def work(what):
            if what == "shared":
                rn.init(run_id="main", storage=root, capture_env=False).log(x=2)
            else:
                rn.init(project=what, storage=root, capture_env=False)
                rn.log(x=5)
                if what == "bad":
                    raise ValueError

        if __name__ == "__main__":
            run = rn.init(run_id="main", storage=root, capture_env=False)
            context = multiprocessing.get_context("METHOD")
            for what in ("shared", "good", "bad"):
                process = context.Process(target=work, args=(what,))
                process.start()
                process.join()
            assert '"running"' in open(run.run_dir / "status.json").read()
    """
    assert train(body.replace("METHOD", method)) == 0
    found = {path.parts[-5]: path for path in tmp_path.glob("*/*/runs/*/status.json")}
    statuses = {name: document(path.parent, path.name)["status"] for name, path in found.items()}
    assert statuses == {"default": "finished", "good": "finished", "bad": "failed"}


def test_every_run_of_the_process_is_finished(train, tmp_path):
    assert train("for i in range(3): rn.init(name=str(i), storage=root, capture_env=False)") == 0
    found = list(tmp_path.glob("*/*/runs/*"))
    assert [document(run_dir, "status.json")["status"] for run_dir in found] == ["finished"] * 3


def test_an_interactive_session_survives_its_errors(tmp_path):
    lines = f"""
import runicorn as rn
run = rn.init(storage={str(tmp_path)!r}, capture_env=False)
1 / 0
rn.log(x=1)
"""
    command = [sys.executable, "-i"]
    subprocess.run(command, input=lines.encode(), capture_output=True, timeout=60, env=WITH_SDK)
    assert status(tmp_path) == "finished"
