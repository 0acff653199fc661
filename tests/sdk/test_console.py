"""Recording what a script prints, while the terminal sees it untouched."""

from __future__ import annotations

import io
import logging
import sys
import time

import pytest

from runicorn import _console

from .conftest import only_run


class Terminal(io.StringIO):
    """A stream with the attributes that progress bars ask for."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def fileno(self):
        return 77


@pytest.fixture
def open_terminal(monkeypatch):
    """Give stdout and stderr a terminal each; to be called in the test, as pytest sets its own
    streams between the fixtures and the test."""

    def open_terminal():
        monkeypatch.setattr(sys, "stdout", Terminal())
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stdout

    return open_terminal


@pytest.fixture
def now(monkeypatch):
    """The monotonic clock, to be moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(_console.time, "monotonic", lambda: now[0])
    return now


def logged(run):
    path = run.run_dir / "logs.txt"
    text = path.read_text("utf-8") if path.exists() else ""
    return [line[11:] for line in text.splitlines()]


def test_whole_lines_of_both_streams_are_recorded_and_passed_on(start, open_terminal):
    terminal = open_terminal()
    errors = sys.stderr
    run = start(capture_console=True)
    print("one", "two")
    print("no newline ", end="")
    print("careful", file=sys.stderr)
    sys.stdout.writelines(["yet\n", "\n", "last"])
    assert logged(run) == ["one two", "careful", "no newline yet", ""]
    run.finish()
    print("\nunrecorded")
    assert logged(run) == ["one two", "careful", "no newline yet", "", "last"]
    assert terminal.getvalue() == "one two\nno newline yet\n\nlast\nunrecorded\n"
    assert errors.getvalue() == "careful\n"
    assert (sys.stdout, sys.stderr) == (terminal, errors)


def test_nothing_is_recorded_unasked(start, open_terminal):
    terminal = open_terminal()
    run = start()
    print("private")
    assert logged(run) == []
    assert sys.stdout is terminal


def test_the_stream_answers_like_the_original(start, open_terminal):
    terminal = open_terminal()
    start(capture_console=True)
    assert sys.stdout is not terminal
    assert (sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.encoding) == (True, 77, "utf-8")
    assert sys.stdout.write("four") == 4
    with pytest.raises(AttributeError):
        sys.stdout.no_such_thing  # noqa: B018


def test_of_a_progress_bar_only_the_last_state_is_kept(start, open_terminal):
    open_terminal()
    run = start(capture_console=True)
    for percent in range(0, 101, 10):
        print(f"\r{percent:3}%|####|", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("50%\r", end="")
    print("100%\r\n", end="")
    print("\r 99%|###", end="")
    print("\r         \r", end="")  # a bar that wipes itself away
    print("done")
    assert logged(run) == ["100%|####|", "100%", "done"]


def test_a_long_bar_leaves_a_state_every_few_seconds(start, open_terminal, now):
    open_terminal()
    run = start(capture_console=True)
    for second in range(13):
        now[0] = 1000 + second
        print(f"\r{second} s", end="")
    assert logged(run) == ["5 s", "10 s"]
    print()
    assert logged(run) == ["5 s", "10 s", "12 s"]


def test_nested_bars_do_not_flood_the_log(start, open_terminal):
    open_terminal()
    run = start(capture_console=True)
    for epoch in range(3):
        print(f"\repoch {epoch}", end="")
        for batch in range(20):
            print("\n", end="")
            print(f"\rbatch {batch}", end="")
            print("\x1b[A", end="")
    print("\n\nend")
    assert len(logged(run)) < 10
    assert logged(run)[-1] == "end"


def test_colours_stay_on_the_terminal(start, open_terminal):
    terminal = open_terminal()
    run = start(capture_console=True)
    print("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\")
    assert logged(run) == ["red link"]
    assert "\x1b[1;31m" in terminal.getvalue()


def test_text_without_a_newline_does_not_grow_for_ever(start, open_terminal):
    open_terminal()
    run = start(capture_console=True)
    for _ in range(30):
        print("x" * 10_000, end="")
    assert sum(map(len, logged(run))) > 200_000


def test_print_never_hears_of_trouble_with_the_log(start, open_terminal):
    terminal = open_terminal()
    run = start(capture_console=True)

    def trouble(line):
        print("and this must not come back here")
        raise RuntimeError(line)

    run._logs.append = trouble
    print("hello")
    assert terminal.getvalue() == "hello\nand this must not come back here\n"


def test_a_logging_handler_that_keeps_the_stream_still_works_afterwards(start, open_terminal):
    terminal = open_terminal()
    run = start(capture_console=True)
    logger = logging.Logger("training")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.warning("during")
    run.finish()
    logger.warning("after")
    assert logged(run) == ["during"]
    assert terminal.getvalue() == "during\nafter\n"


def test_a_stream_that_somebody_wrapped_meanwhile_is_left_alone(start, open_terminal):
    open_terminal()
    run = start(capture_console=True)
    sys.stdout = wrapper = io.StringIO()
    run.finish()
    assert sys.stdout is wrapper


def test_the_last_words_of_a_script_are_recorded(train, tmp_path):
    body = """
        rn.init(storage=root, capture_env=False, capture_console=True)
        print("bye", end="")
    """
    assert train(body) == 0
    assert (only_run(tmp_path) / "logs.txt").read_text()[11:] == "bye\n"


WAYS = {
    "print": "print('MARK')",
    "print to stderr": "print('MARK', file=sys.stderr)",
    "logging set up before": "log.warning('MARK')",
    "logging set up after": "import logging; logging.getLogger('b').addHandler("
    "logging.StreamHandler(sys.stdout)); logging.getLogger('b').warning('MARK')",
    "buffer": "sys.stdout.buffer.write(b'MARK\\n'); sys.stdout.flush()",
    "buffer of stderr": "sys.stderr.buffer.writelines([b'MA', b'RK\\n']); sys.stderr.flush()",
    "with": "with sys.stderr as stream: stream.write('MARK\\n')",
}
PAST = {
    "__stdout__": "print('MARK', file=sys.__stdout__, flush=True)",
    "subprocess": "import subprocess; subprocess.run(['echo', 'MARK'])",
    "os.write": "import os; os.write(2, b'MARK\\n')",
    "forked child": "import os\nif os.fork() == 0: os.write(1, b'MARK\\n'); os._exit(0)\nos.wait()",
    "libc": "import ctypes; libc = ctypes.CDLL(None); libc.puts(b'MARK'); libc.fflush(None)",
}
SCRIPT = """
import logging, sys
log = logging.getLogger("a")
log.addHandler(logging.StreamHandler(sys.stdout))
run = rn.init(storage=root, capture_env=False, system_metrics=False, capture_console=HOW)
"""


def run_script(script, how, body):
    with script(SCRIPT.replace("HOW", repr(how)) + body) as process:
        seen = "".join(process.communicate(timeout=60))
    return process.returncode, seen


def recorded(tmp_path):
    path = only_run(tmp_path) / "logs.txt"
    return [line[11:] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("way", WAYS)
def test_what_goes_through_the_streams_is_recorded(script, tmp_path, way):
    code, seen = run_script(script, True, WAYS[way])
    assert (code, seen.count("MARK")) == (0, 1)
    assert recorded(tmp_path) == ["MARK"]


@pytest.mark.parametrize("way", WAYS | PAST)
def test_what_arrives_at_the_descriptors_is_recorded_if_they_are_captured(script, tmp_path, way):
    code, seen = run_script(script, "fd", (WAYS | PAST)[way])
    assert (code, seen.count("MARK")) == (0, 1)
    assert recorded(tmp_path) == ["MARK"]


def test_the_last_words_of_a_process_that_crashes_are_kept(script, tmp_path):
    body = "import faulthandler; faulthandler.enable(); print('before', flush=True)\n"
    code, seen = run_script(script, "fd", body + "faulthandler._sigsegv()")
    assert code == -11
    assert "Segmentation fault" in seen
    deadline = time.monotonic() + 30  # its reader ends after it
    while not any("_sigsegv" in line or "line" in line for line in recorded(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert recorded(tmp_path)[0] == "before"
    assert any("Segmentation fault" in line for line in recorded(tmp_path))


@pytest.mark.parametrize("how", [True, "fd"])
def test_after_the_end_everything_is_as_it_was(script, tmp_path, how):
    body = """
import os
before = sys.stdout if HOW == "fd" else None
log.warning("one")
os.write(2, b"past\\n")
run.finish()
log.warning("two")
print("three")
os.write(2, b"four\\n")
assert before is None or sys.stdout is before
assert type(sys.stdout).__name__ == "TextIOWrapper"
"""
    code, seen = run_script(script, how, body.replace("HOW", repr(how)))
    assert code == 0, seen
    assert sorted(seen.split()) == sorted(["one", "past", "two", "three", "four"])
    assert sorted(recorded(tmp_path)) == (["one"] if how is True else ["one", "past"])


@pytest.mark.parametrize("how", [True, "fd"])
def test_a_second_run_ends_the_capture_of_the_first(script, tmp_path, how):
    body = f"""
print("first", flush=True)
quiet = dict(capture_env=False, system_metrics=False)
for n in range(3):
    rn.init(storage=root, name="b", capture_console={how!r}, **quiet)
    print("later", n, flush=True)
assert type(getattr(sys.stdout, "_stream", None)).__name__ != "_Tee"
"""
    code, seen = run_script(script, how, body)
    assert code == 0, seen
    (first,) = tmp_path.glob("default/default/runs/*/logs.txt")
    assert [line[11:] for line in first.read_text().splitlines()] == ["first"]
    later = sorted(path.read_text()[11:] for path in tmp_path.glob("default/b/runs/*/logs.txt"))
    assert later == ["later 0\n", "later 1\n", "later 2\n"]


def test_a_way_to_capture_that_does_not_exist_is_refused(start, tmp_path):
    with pytest.raises(ValueError, match="True, False or 'fd'"):
        start(capture_console="all")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_child_that_stays_is_read_on_and_not_waited_for(script, tmp_path):
    body = "import subprocess; subprocess.Popen('sleep 8; echo late', shell=True)\nprint('end')"
    started = time.monotonic()
    with script(SCRIPT.replace("HOW", "'fd'") + body, stdout=None, stderr=None) as process:
        assert process.wait(60) == 0
    assert time.monotonic() - started < 8
    assert recorded(tmp_path) == ["end"]
    while recorded(tmp_path) != ["end", "late"]:
        assert time.monotonic() - started < 60
        time.sleep(0.1)
