"""What was logged is there: after a kill, on a full disk, behind a torn line, from many threads."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import threading
import time

import pytest

from runicorn import _writer, layout, sdk
from runicorn._writer import LineWriter

from .conftest import document, only_run, steps


def test_threads_never_share_a_step_or_a_line(start):
    run = start()
    threads = [
        threading.Thread(target=lambda: [run.log(x=1) for _ in range(500)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(steps(run.run_dir)) == list(range(1, 4001))


def test_a_fragment_left_by_somebody_does_not_swallow_the_next_line(start):
    run = start(run_id="one")
    run.log(x=1)
    path = run.run_dir / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"ts": 1, "type": "metr')
    run = start(run_id="one")
    run.log(x=2)
    run.log(x=3)
    lines = path.read_bytes().split(b"\n")
    assert lines[1] == b'{"ts": 1, "type": "metr'
    assert [b'"x":%d' % n in line for n, line in ((1, lines[0]), (2, lines[2]), (3, lines[3]))] == [
        True,
        True,
        True,
    ]
    assert lines[4:] == [b""]


class Disk:
    """Stands in for ``os.write``: takes *room* bytes, then says that the disk is full."""

    def __init__(self, monkeypatch, room):
        self.room = room
        for module in (_writer, sdk):
            monkeypatch.setattr(module, "write", self.write)

    def write(self, descriptor, data):
        if descriptor >= 0 and self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(descriptor, data[: self.room])
        self.room -= written
        return written


LINES = [b"first\n", b"second\n", b"third\n"]


@pytest.mark.parametrize("room", range(len(b"".join(LINES)) + 1))
def test_wherever_the_disk_fills_up_every_line_arrives_once_and_in_order(
    tmp_path, monkeypatch, room
):
    disk = Disk(monkeypatch, room)
    writer = LineWriter(tmp_path / "file")
    for line in LINES:
        writer.append(line)
    disk.room = 0
    assert writer.flush() is (room == len(b"".join(LINES)))
    disk.room = 1000
    assert writer.append(b"last\n")
    assert writer.waiting == 0
    found = (tmp_path / "file").read_bytes().splitlines(keepends=True)
    whole = [line for line in found if line in [*LINES, b"last\n"]]
    assert whole == [*LINES, b"last\n"]
    assert len(found) - len(whole) <= 1  # at most the one fragment


def test_what_waits_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(_writer, "KEPT_BYTES", 20)
    disk = Disk(monkeypatch, 0)
    writer = LineWriter(tmp_path / "file")
    for number in range(10):
        assert not writer.append(b"line %d\n" % number)
    disk.room = 1000
    assert writer.flush()
    assert (tmp_path / "file").read_bytes() == b"line 8\nline 9\n"
    assert writer.dropped == 8


def test_a_full_disk_neither_ends_the_training_nor_loses_what_it_logged(start, monkeypatch, caplog):
    run = start()
    run.log(x=1)
    disk = Disk(monkeypatch, 30)
    for x in range(2, 6):
        run.log(x=x)
        run.log_text(f"text {x}")
    complaints = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(complaints) == 2  # once for each file
    disk.room = 100_000
    run.log(x=6)
    run.finish()
    lines = (run.run_dir / "events.jsonl").read_bytes().split(b"\n")
    assert [b'"x":%d,' % x in lines[x - 1 if x == 1 else x] for x in range(1, 7)] == [True] * 6
    assert (run.run_dir / "logs.txt").read_text().count("text") == 4


def test_a_file_size_limit_is_survived_to_the_end(script, tmp_path):
    body = """
        import resource
        run = rn.init(storage=root, capture_env=False)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        for i in range(100):
            rn.log(i=i)
            rn.log_image("k", b"x" * 9000)
        rn.summary({"text": "x" * 9000})
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        rn.finish()
    """
    with script(body) as process:
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0
    assert complaints.count("Training goes on") == 3
    run_dir = only_run(tmp_path)
    whole = [
        line for line in (run_dir / "events.jsonl").read_text().splitlines() if line[-1] == "}"
    ]
    assert [f'"i":{i},' in line for i, line in enumerate(whole)] == [True] * 100
    assert len(document(run_dir, "summary.json")["text"]) == 9000
    assert not list((run_dir / "media").iterdir())


def test_closing_every_descriptor_as_daemons_do_is_survived(train, tmp_path):
    body = """
        import os
        run = rn.init(storage=root, capture_env=False)
        rn.log(x=1)
        os.closerange(3, 100)
        rn.log(x=2)
        rn.log(x=3)
    """
    assert train(body) == 0
    assert steps(only_run(tmp_path)) == [1, 2, 3]


def test_a_handler_that_logs_in_the_middle_of_logging_does_not_lock_up(start, monkeypatch):
    run = start()
    Disk(monkeypatch, 0)  # so that every call takes the lock
    old = signal.signal(signal.SIGALRM, lambda *_: run.log(handler=True))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            run.log(x=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.slow
def test_kill_9_at_50_random_moments_loses_and_doubles_nothing(script, tmp_path):
    """One run, killed and resumed: whatever ``log`` returned from is in the file, once.

    A kill may stop the kernel between two pages of a line whose ``log`` has not returned yet; such
    a fragment stays alone on its line, and the next process gives its step to a whole one.
    """
    body = """
        import os
        run = rn.init(storage=root, run_id="one", capture_env=False)
        while True:
            rn.log(loss=0.5, pid=os.getpid(), pad="x" * (os.getpid() * 31 % 2000))
            os.write(1, b".")
    """
    chance = random.Random(20)
    returned = {}
    for _ in range(50):
        with script(body, text=False, bufsize=0) as process:
            assert process.stdout.read(1) == b"."
            time.sleep(chance.random() * 0.05)
            process.kill()
            rest, errors = process.communicate(timeout=20)
        assert errors == b""
        returned[process.pid] = 1 + len(rest)
    lines = (only_run(tmp_path) / "events.jsonl").read_bytes().splitlines()
    found = [event for event in map(layout.parse_json, lines) if event]
    assert len(lines) - len(found) <= 50
    logged = [event["data"]["pid"] for event in found]
    for pid, calls in returned.items():
        assert calls <= logged.count(pid) <= calls + 1  # the last may not have been reported
    numbers = [event["data"]["global_step"] for event in found]
    assert numbers == list(range(1, len(found) + 1))
