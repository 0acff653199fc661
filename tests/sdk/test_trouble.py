"""What may happen to a run while it trains: never its end, and nothing comes back as a ghost."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

import runicorn as rn
from runicorn import _writer, layout, sdk
from runicorn._writer import LineWriter

from .conftest import document, events, only_run, steps


def use_everything(run):
    """Call each method that writes."""
    run.log(x=1)
    run.log_text("text")
    run.log_image("image", b"x")
    run.summary({"a": 1})
    run.config["b"] = 2
    (run.storage_root / "weights").write_bytes(b"x")
    run.log_artifact(rn.Artifact("model").add_file(run.storage_root / "weights"))
    run.use_artifact("model:latest")


def opened(run_dir):
    """The files below *run_dir* that this process holds open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except OSError:
            pass
    return [link for link in links if link.startswith(str(run_dir))]


# -- the folder --------------------------------------------------------------------------------


def test_a_run_that_is_removed_while_it_trains_is_said_to_be_lost_and_stays_away(start, caplog):
    run = start(config={"a": 1}, system_metrics=False)
    use_everything(run)
    shutil.rmtree(run.run_dir)
    for _ in range(2):
        use_everything(run)
        run.look_after()
    run.finish()
    use_everything(run)
    assert not run.run_dir.exists()
    (record,) = [record for record in caplog.records if "removed or moved" in record.message]
    assert record.levelno == logging.WARNING
    assert "is lost" in record.message
    assert not opened(run.run_dir)


def test_a_script_whose_run_was_purged_ends_as_it_would_without_us(train, tmp_path):
    body = """
        import shutil
        with rn.init(storage=root, config={"a": 1}, capture_console=True) as run:
            run.set_primary_metric("x")
            run.log(x=1)
            shutil.rmtree(run.run_dir)
            for x in range(100):
                run.log(x=x)
                print(x)
                run.config["a"] = x
    """
    assert train(body) == 0
    assert not list(tmp_path.glob("*/*/runs/*"))


def test_a_folder_that_was_moved_away_takes_what_is_open_along(start, tmp_path, caplog):
    run = start(system_metrics=False)
    run.log(x=1)
    run.run_dir.rename(tmp_path / "elsewhere")
    run.log(x=2)
    run.look_after()
    assert steps(tmp_path / "elsewhere") == [1, 2]
    assert "moved away" in caplog.text
    run.finish()
    assert not run.run_dir.exists()


@pytest.mark.parametrize("name", ["events.jsonl", "logs.txt"])
def test_a_file_that_was_removed_is_begun_again(start, name):
    run = start(system_metrics=False)
    run.log(x=1)
    run.log_text("one")
    (run.run_dir / name).unlink()
    run.look_after()
    run.log(x=2)
    run.log_text("two")
    assert (run.run_dir / name).read_text().count("\n") == 1


def delete(run):
    layout.write_deleted_marker(run.run_dir, reason="user_deleted", at=time.time())


def test_a_run_that_is_moved_to_the_recycle_bin_while_it_trains_says_so_once(start, caplog):
    run = start(system_metrics=False)
    delete(run)
    for _ in range(3):
        run.look_after()
    assert caplog.text.count("is in the recycle bin") == 1
    layout.remove_deleted_marker(run.run_dir)
    run.look_after()
    delete(run)
    run.look_after()
    assert caplog.text.count("is in the recycle bin") == 2
    run.log(x=1)
    run.finish()
    assert steps(run.run_dir) == [1]
    assert (run.run_dir / ".deleted").exists()


def test_a_run_that_is_resumed_in_the_recycle_bin_says_so(start, caplog):
    run = start(run_id="one")
    run.finish()
    delete(run)
    start(run_id="one")
    assert "is in the recycle bin" in caplog.text


def test_a_working_folder_that_is_gone_is_survived(train, tmp_path):
    body = """
        import os, tempfile
        os.chdir(folder := tempfile.mkdtemp())
        os.rmdir(folder)
        run = rn.init(storage=root)
        run.log(x=1)
        run.finish()
        assert (run.run_dir / "environment.json").exists()
    """
    assert train(body) == 0
    assert steps(only_run(tmp_path)) == [1]


# -- init that fails ---------------------------------------------------------------------------


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", range(1, 4))
def test_init_on_a_full_disk_leaves_nothing(start, tmp_path, monkeypatch, call):
    calls = []

    def write(path, data, original=layout.write_json):
        calls.append(path)
        return full() if len(calls) == call else original(path, data)

    monkeypatch.setattr(layout, "write_json", write)
    with pytest.raises(OSError, match="No space"):
        start(project="p", name="n")
    assert len(calls) == call
    assert list(tmp_path.iterdir()) == []
    assert rn.get_active_run() is None


@pytest.mark.parametrize("call", range(1, 4))
def test_init_that_fails_leaves_a_run_that_was_there_as_it_was(start, monkeypatch, call):
    run = start(run_id="one")
    run.log(x=1)
    run.finish("failed")
    before = {path: path.read_bytes() for path in run.run_dir.iterdir() if path.is_file()}
    calls = []

    def write(path, data, original=layout.write_json):
        calls.append(path)
        return full() if len(calls) == call else original(path, data)

    monkeypatch.setattr(layout, "write_json", write)
    with pytest.raises(OSError, match="No space"):
        start(run_id="one")
    assert {path: path.read_bytes() for path in run.run_dir.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    "wrong",
    [{"config": 5}, {"config": "text"}, {"project": "a/b"}, {"system_metrics": "often"}],
)
def test_a_wrong_call_of_init_leaves_nothing(start, tmp_path, wrong):
    with pytest.raises((TypeError, ValueError)):
        start(**wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(start, tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()
    monkeypatch.setattr(layout, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        start(project="p", name="n")
    assert list(tmp_path.rglob("*")) == [tmp_path / "p"]


def test_the_status_is_written_as_soon_as_the_disk_takes_it(start, monkeypatch, caplog):
    run = start(config={"a": 1})
    with monkeypatch.context() as disk:
        disk.setattr(layout, "write_json", full)
        run.config["a"] = 2
        run.summary({"b": 1})
        run.finish("failed")
    assert "Training goes on" in caplog.text
    run._save_documents()
    assert document(run.run_dir, "status.json")["status"] == "failed"
    assert document(run.run_dir, "config.json") == {"a": 2}
    assert document(run.run_dir, "summary.json") == {"b": 1}


def test_a_process_that_may_start_no_thread_logs_as_well(start, monkeypatch, caplog):
    from runicorn import _keeper

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_keeper, "_thread", None)
    monkeypatch.setattr(_keeper.threading.Thread, "start", refuse)
    run = start(capture_env=True)
    run.log(x=1)
    run.finish()
    assert "neither environment nor system" in caplog.text
    assert document(run.run_dir, "status.json")["status"] == "finished"


# -- descriptors -------------------------------------------------------------------------------


def test_a_finished_run_holds_no_descriptor_even_if_it_goes_on_logging(start):
    run = start()
    use_everything(run)
    assert len(opened(run.run_dir)) == 2
    run.finish()
    assert opened(run.run_dir) == []
    use_everything(run)
    assert opened(run.run_dir) == []
    assert [event["type"] for event in events(run.run_dir)] == ["metrics", "image"] * 2
    assert (run.run_dir / "logs.txt").read_text().count("text") == 2


def test_a_descriptor_that_is_closed_and_handed_out_again_is_left_alone(start, tmp_path):
    run = start()
    run.log(x=1)
    run.log_text("one")
    for writer in (run._events, run._logs):
        os.close(writer.fd)
    with contextlib.ExitStack() as stack:
        names = [tmp_path / f"checkpoint-{number}" for number in range(500)]
        others = [stack.enter_context(open(name, "ab")) for name in names]
        run.log(x=2)
        run.log_text("two")
        run.finish()
        for other in others:
            assert os.fstat(other.fileno()).st_size == 0  # open, and empty
    assert steps(run.run_dir) == [1, 2]
    assert (run.run_dir / "logs.txt").read_text().count("\n") == 2


def test_even_a_number_that_was_given_away_on_purpose_is_noticed_and_not_closed(start, tmp_path):
    run = start()
    run.log(x=1)
    with open(tmp_path / "other", "wb") as other:
        number = run._events.fd
        os.dup2(other.fileno(), number)
        run.look_after()
        run.log(x=2)
        run.finish()
        os.fstat(number)
        os.close(number)
    assert steps(run.run_dir) == [1, 2]
    assert (tmp_path / "other").read_bytes() == b""


def test_our_numbers_are_not_those_that_others_get(tmp_path):
    writers = [LineWriter(tmp_path / str(number)) for number in range(20)]
    for writer in writers:
        writer.append(b"x\n")
    numbers = [writer.fd for writer in writers]
    assert min(numbers) > 100
    first = writers[0]
    first.close()
    writers[1].check()
    assert len(set(numbers)) == 20
    again = LineWriter(tmp_path / "again")
    again.append(b"x\n")
    assert again.fd != numbers[0]
    for writer in (*writers, again):
        writer.close()


@pytest.mark.parametrize("limit", [16, 64, 256])
def test_a_process_that_may_have_few_descriptors_logs_as_well(train, tmp_path, limit):
    body = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
        with rn.init(storage=root, capture_env=False, system_metrics=False) as run:
            run.log(x=1)
            run.log_text("x")
    """
    assert train(body) == 0
    assert steps(only_run(tmp_path)) == [1]


def test_every_descriptor_taken_is_survived(train, tmp_path):
    body = """
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        run = rn.init(storage=root, capture_env=False, system_metrics=False)
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        run.log(x=1)
        run.log_text("text")
        run.summary({"a": 1})
        run.config["b"] = 2
        for each in taken:
            os.close(each)
        run.finish()
    """
    assert train(body) == 0
    run_dir = only_run(tmp_path)
    assert steps(run_dir) == [1]
    assert document(run_dir, "summary.json") == {"a": 1}
    assert document(run_dir, "config.json") == {"b": 2}
    assert document(run_dir, "status.json")["status"] == "finished"


# -- signals -----------------------------------------------------------------------------------


def test_a_handler_may_call_every_method_in_the_middle_of_every_method(start):
    run = start(system_metrics=False)
    counts = {"logged": 0, "noted": 0, "said": 0}

    def handler(*_):
        counts["logged"] += 1
        run.log(handler=counts["logged"])
        counts["said"] += 1
        run.log_text("handler")
        counts["noted"] += 1
        run.summary({f"handler {counts['noted']}": 1})
        run.config["handler"] = counts["noted"]

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    calls = 0
    try:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            calls += 1
            run._events.fd = -1  # the slow way, where locks are
            run.log(x=calls)
            run.log_text("main")
            run.summary({f"main {calls}": 1})
            run.config["main"] = calls
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert counts["noted"] > 1
    run.finish()
    logged = [event["data"] for event in events(run.run_dir)]
    assert [each["x"] for each in logged if "x" in each] == list(range(1, calls + 1))
    seen = [each["handler"] for each in logged if "handler" in each]
    assert sorted(seen) == list(range(1, counts["logged"] + 1))
    assert sorted(steps(run.run_dir)) == list(range(1, len(logged) + 1))
    text = (run.run_dir / "logs.txt").read_text()
    assert (text.count("main"), text.count("handler")) == (calls, counts["said"])
    expected = {f"main {n}" for n in range(1, calls + 1)}
    expected |= {f"handler {n}" for n in range(1, counts["noted"] + 1)}
    assert set(document(run.run_dir, "summary.json")) == expected
    config = {"main": calls, "handler": counts["noted"]}
    assert document(run.run_dir, "config.json") == config


@pytest.mark.slow
@pytest.mark.parametrize("leave", ["pass", "sys.exit(0)"])
def test_a_handler_may_finish_the_run_in_the_middle_of_a_locked_write(script, tmp_path, leave):
    body = """
        import signal, sys
        run = rn.init(storage=root, capture_env=False, system_metrics=False)
        is_over = False
        def handle(*_):
            global is_over
            is_over = True
            run.finish("preempted")
            LEAVE
        signal.signal(signal.SIGTERM, handle)
        print("ready", flush=True)
        while not is_over:
            run.summary({"n": 1})
    """
    body = body.replace("LEAVE", leave)
    for number in range(5):
        with script(body.replace("storage=root", f"storage=root, name='{number}'")) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(number / 1000)
            process.terminate()
            process.wait(20)
        (run_dir,) = tmp_path.glob(f"*/{number}/runs/*")
        assert document(run_dir, "status.json")["status"] == "preempted"


# -- values that no float can hold -------------------------------------------------------------


def test_a_primary_metric_may_be_any_value(start):
    run = start()
    run.set_primary_metric("acc")
    for value in (10**400, float("nan"), [1, 2], "text", None, 0.5):
        run.log(acc=value)
    run.finish()
    assert document(run.run_dir, "summary.json")["best_metric_value"] == 0.5


def test_files_of_ours_are_written_with_at_most_one_write_a_line(start, monkeypatch):
    """The hot path: one system call, and none to find out where it leads."""
    run = start()
    run.log(x=1)
    lines = []

    def write(descriptor, line):
        lines.append(line)
        return os.write(descriptor, line)

    monkeypatch.setattr(sdk, "write", write)
    monkeypatch.setattr(_writer.os, "fstat", None)
    run.log(x=2)
    run.log(x=float("nan"))
    monkeypatch.undo()
    assert len(lines) == 2
