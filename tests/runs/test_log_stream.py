"""The log WebSocket against a real server, as a browser would use it."""

from __future__ import annotations

import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.runs.conftest import Root
from tests.servers import viewer, wait_until


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server, and the storage root it watches."""
    root = Root(tmp_path_factory.mktemp("live") / "root")
    root.path.mkdir()
    with viewer(root.path) as server:
        yield server, root


@pytest.fixture
def run(served):
    """A run that the server has seen."""
    server, root = served
    folder = root.run()
    wait_until(lambda: folder.id in listed(server), "listed")
    return folder


def listed(server):
    return {run["id"] for run in httpx.get(f"{server.url}/api/runs").json()}


def follow(served, run_id, **options):
    return connect(f"{served[0].ws_url}/api/runs/{run_id}/logs/ws", **options)


def receive(socket, count, timeout=5):
    return [socket.recv(timeout=timeout) for _ in range(count)]


def assert_silent(socket, seconds=0.4):
    with pytest.raises(TimeoutError):
        socket.recv(timeout=seconds)


def test_backlog_then_every_new_line(served, run):
    run.append("logs.txt", "one\ntwo 世界\n".encode())
    with follow(served, run.id) as socket:
        assert receive(socket, 2) == ["one", "two 世界"]
        for number in range(50):
            run.append("logs.txt", b"line %d\n" % number)
        assert receive(socket, 50) == [f"line {number}" for number in range(50)]


def test_line_ends_blank_lines_and_bad_bytes(served, run):
    run.append("logs.txt", b"a\r\nb\rc\n\n   \n\td \xff\xfee\n")
    with follow(served, run.id) as socket:
        assert receive(socket, 4) == ["a", "b", "c", "\td e"]
        run.append("logs.txt", b"10%|#   |\r20%|##  |\r")
        assert receive(socket, 2) == ["10%|#   |", "20%|##  |"]
        assert_silent(socket)


def test_a_half_written_line_is_held_back(served, run):
    run.append("logs.txt", b"start\n")
    with follow(served, run.id) as socket:
        assert receive(socket, 1) == ["start"]
        run.append("logs.txt", "par¥".encode()[:-1])
        assert_silent(socket)
        run.append("logs.txt", "¥".encode()[-1:] + b"tial\n")
        assert receive(socket, 1) == ["par¥tial"]
        run.append("logs.txt", b"no end")
        assert receive(socket, 1, timeout=4) == ["no end"]


def test_a_log_that_appears_late_is_followed(served, run):
    with follow(served, run.id) as socket:
        waiting = "[info] No logs available yet. Waiting for logs to be created..."
        assert receive(socket, 1) == [waiting]
        run.append("logs.txt", b"first\n")
        assert receive(socket, 2) == ["[info] Logs are now available, streaming...", "first"]


def test_only_the_last_10000_lines_of_a_long_log(served, run):
    run.append("logs.txt", b"".join(b"line %d\n" % number for number in range(10_050)))
    with follow(served, run.id) as socket:
        notice, *lines = receive(socket, 10_001)
        assert notice == "[info] Showing last 10000 lines. Full log file: logs.txt"
        assert (lines[0], lines[-1]) == ("line 50", "line 10049")
        run.append("logs.txt", b"more\n")
        assert receive(socket, 1) == ["more"]


def test_exactly_10000_lines_need_no_notice(served, run):
    run.append("logs.txt", b"".join(b"line %d\n" % number for number in range(10_000)))
    with follow(served, run.id) as socket:
        assert receive(socket, 10_000)[0] == "line 0"
        assert_silent(socket)


def test_a_replaced_log_starts_anew(served, run):
    run.append("logs.txt", b"old line\n" * 10)
    with follow(served, run.id) as socket:
        receive(socket, 10)
        run.write("logs.txt", b"new\n")
        assert receive(socket, 1) == ["new"]
        run.append("logs.txt", b"newer\n")
        assert receive(socket, 1) == ["newer"]


def test_reconnecting_gives_it_all_again(served, run):
    run.append("logs.txt", b"one\n")
    for lines in (["one"], ["one", "two"]):
        with follow(served, run.id) as socket:
            assert receive(socket, len(lines)) == lines
        run.append("logs.txt", b"two\n")


def test_an_endless_line_comes_in_pieces(served, run):
    run.append("logs.txt", b"x" * 3_000_000 + b"\nend\n")
    with follow(served, run.id, max_size=2**21) as socket:
        *pieces, end = receive(socket, 4)
        assert (len("".join(pieces)), end) == (3_000_000, "end")


def test_a_slow_reader_misses_nothing_and_holds_up_nobody(served, run):
    run.append("logs.txt", b"start\n")
    with follow(served, run.id, max_queue=1) as slow, follow(served, run.id) as quick:
        receive(quick, 1)
        for block in range(100):
            run.append(
                "logs.txt", b"".join(b"%d.%d %s\n" % (block, n, b"x" * 200) for n in range(100))
            )
            time.sleep(0.005)
        assert receive(quick, 10_000)[-1].startswith("99.99 ")
        lines = receive(slow, 10_001)
        assert lines[0] == "start"
        assert [line.split()[0] for line in lines[1:]] == [
            f"{block}.{n}" for block in range(100) for n in range(100)
        ]


def test_an_unknown_or_deleted_run_is_refused_in_words(served, run):
    for run_id in ("20250101_000000_abcdef", run.id):
        if run_id == run.id:
            run.write(".deleted", b"{}")
        with follow(served, run_id) as socket:
            assert receive(socket, 1) == ["[error] run not found"]
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=5)
            assert closed.value.rcvd.code == 1000


def test_a_second_server_on_the_same_folder_sees_every_line(served, run):
    """Whichever indexes a line first, followers of the other get it too."""
    server, root = served
    with viewer(root.path) as second:
        assert server.url != second.url
        run.append("logs.txt", b"start\n")
        with follow(served, run.id) as one, follow((second, root), run.id) as other:
            assert receive(one, 1) == receive(other, 1) == ["start"]
            for number in range(40):
                run.append("logs.txt", b"line %d\n" % number)
                time.sleep(0.01)
            expected = [f"line {number}" for number in range(40)]
            assert receive(one, 40) == expected
            assert receive(other, 40) == expected


def test_a_new_run_shows_without_being_asked_for(served):
    server, root = served
    run = root.run(project=f"fresh-{time.time_ns()}")
    wait_until(lambda: run.id in listed(server), "listed", 5)
    run.path.rename(root.path / "gone")
    wait_until(lambda: run.id not in listed(server), "gone", 5)


def test_a_file_system_that_announces_nothing_is_polled(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    first = root.run()
    first.append("logs.txt", b"start\n")
    first.write("status.json", {"status": "running"})
    with viewer(root.path, RUNICORN_WATCH_FORCE_POLLING="1") as server:
        with follow((server, root), first.id) as socket:
            assert receive(socket, 1) == ["start"]
            first.append("logs.txt", b"more\n")
            assert receive(socket, 1) == ["more"]
        second = root.run(project="later")
        wait_until(lambda: second.id in listed(server), "listed", 10)
