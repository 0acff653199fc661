"""``runicorn viewer`` as it is typed: what it prints, how it ends, what it survives."""

from __future__ import annotations

import gzip
import math
import resource
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from tests.runs.conftest import Root, event
from tests.servers import ROOT, clean_environment, viewer, wait_until

pytestmark = pytest.mark.slow  # each starts programs


def run_viewer(*options, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "runicorn", "viewer", *map(str, options)],
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **kwargs,
    )


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    return root


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_it_does_not_listen_to_strangers_unless_told_to(root, host):
    ended = run_viewer("--storage", root.path, "--host", host, "--port", 0)
    assert ended.returncode == 1
    assert "--allow-remote" in ended.stdout
    assert not (root.path / ".runicorn").exists()


def test_a_port_in_use_is_said_at_once(root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_viewer("--storage", root.path, "--port", port)
    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_it_can_be_started_on_a_host_by_runicorn_0_5(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:  # it ends after what it says first
        options = ["--remote-mode", "--log-level", "WARNING", "--host", "0.0.0.0"]
        ended = run_viewer("--storage", root.path, *options, "--port", taken.getsockname()[1])
    lines = [line for line in ended.stdout.splitlines() if line.startswith("[Remote Mode]")]
    assert len(lines) == 3 and "127.0.0.1" in lines[0] and str(root.path) in lines[2]
    assert "Cannot listen on 127.0.0.1" in ended.stdout


def test_a_missing_package_is_said_at_once(root):
    start = "import sys; sys.modules['zstandard'] = None; from runicorn.cli import main; "
    start += "sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", start, "viewer", "--storage", str(root.path), "--port", "0"],
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "zstandard is missing" in ended.stdout and "runicorn[viewer]" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_storage_folder_that_cannot_be_made_is_said(root):
    (root.path / "file").write_text("in the way")
    ended = run_viewer("--storage", root.path / "file" / "root", "--port", 0)
    assert ended.returncode == 1
    assert "The storage folder cannot be used" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("options", [["--port", "x"], ["--nonsense"]])
def test_wrong_arguments_end_with_2(options):
    assert run_viewer(*options).returncode == 2


def test_it_says_how_far_it_is_and_ends_cleanly_when_told(root):
    for _ in range(3):
        root.run()
    with viewer(root.path) as server:
        assert server.health()["ingest"] == {
            "state": "watching",
            "found": 3,
            "indexed": 3,
            "failed": 0,
            "failures": {},
            "error": "",
        }
        output = server.log.read_text()
        assert f"Storage: {root.path}" in output
        assert "Indexed 3 runs" in output
        server.process.terminate()
        assert server.process.wait(15) == 0


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 100, b"SQLite format 3\x00" + b"x" * 8192]
)
def test_a_damaged_index_is_put_aside_and_built_anew(root, damage):
    run = root.run()
    run.append("events.jsonl", event({"global_step": 1, "loss": 1.0}))
    index = root.path / ".runicorn" / "index.sqlite3"
    with viewer(root.path):
        pass
    index.write_bytes(damage)
    with viewer(root.path) as server:
        rows = httpx.get(f"{server.url}/api/runs/{run.id}/metrics_step").json()["rows"]
        assert [row["loss"] for row in rows] == [1.0]
        assert "was damaged" in server.log.read_text()
    assert [path.read_bytes() for path in index.parent.glob("*.damaged-*")] == [damage]


def test_lists_are_sent_again_only_when_something_has_changed(root):
    root.run()
    with viewer(root.path) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        for path in ("/api/runs", "/api/v2/experiments", "/api/v2/experiments?q=status = finished"):
            tag = client.get(path).headers["ETag"]
            deadline = time.monotonic() + 10
            while client.get(path, headers={"If-None-Match": tag}).status_code != 304:
                tag = client.get(path).headers["ETag"]  # the indexer was still writing
                assert time.monotonic() < deadline
            new = root.run()
            while (answer := client.get(path, headers={"If-None-Match": tag})).status_code == 304:
                assert time.monotonic() < deadline
            while new.id not in answer.text:
                answer = client.get(path)
                assert time.monotonic() < deadline
            data = answer.json()
            assert isinstance(data, list) or data["total"] == len(data["experiments"])
        others = client.get("/api/runs", headers={"If-None-Match": tag, "Cookie": "who=else"})
        assert others.status_code == 200


def test_the_overview_tells_how_the_server_does(root):
    root.run()

    def performance(client: httpx.Client) -> dict[str, float]:
        return client.get("/api/v2/analytics/overview").json()["overview"]["query_performance"]

    with viewer(root.path) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        assert performance(client)["cache_hit_rate"] == 0.0
        for page in range(1, 21):
            client.get("/api/v2/experiments", params={"page": page}).raise_for_status()
        assert 0.5 < performance(client)["cache_hit_rate"] < 1.0
        assert performance(client)["avg_query_time_ms"] > 0.0


def test_answers_that_were_sent_are_not_kept(root):
    run = root.run()
    run.log(*({"global_step": step, "loss": math.sin(step)} for step in range(1, 50_001)))
    question = {"run_ids": [run.id], "points": 50_000}
    with viewer(root.path) as server, httpx.Client(base_url=server.url, trust_env=False) as client:

        def ask() -> int:
            return len(client.post("/api/v2/metrics/query", json=question).raise_for_status().text)

        process = psutil.Process(server.process.pid)
        size = max(ask() for _ in range(3))
        before = process.memory_info().rss
        peaks = []
        for _ in range(6):
            ask()
            peaks.append(process.memory_info().rss)
        assert max(peaks) - before < 2 * size


def test_one_run_that_cannot_be_read_is_named_and_hides_no_other(root):
    good, bad = root.run(), root.run()
    bad.write("status.json", {"status": "running"})
    (bad.path / "meta.json").unlink()
    (bad.path / "meta.json").symlink_to(bad.path / "meta.json")
    with viewer(root.path) as server:
        assert {run["id"] for run in httpx.get(f"{server.url}/api/runs").json()} == {
            good.id,
            bad.id,
        }


@pytest.mark.slow
def test_reload_restarts_on_a_change_and_serves_again(root):
    with viewer(root.path, "--reload") as server:
        before = server.log.read_text().count("Runicorn ")

        def restarts():
            (ROOT / "runs" / "actions.py").touch()  # again: it may not have looked yet
            return server.log.read_text().count("Runicorn ") > before

        wait_until(restarts, "restarted")
        wait_until(lambda: _answers(server.url), "answers again")


def _answers(url):
    try:
        return httpx.get(f"{url}/api/health").status_code == 200
    except httpx.TransportError:
        return False


def test_an_index_of_another_version_is_set_aside_and_made_again(root):
    run = root.run()
    run.append("events.jsonl", event({"global_step": 1, "loss": 1.0}))
    index = root.path / ".runicorn" / "index.sqlite3"
    index.parent.mkdir()
    with gzip.open(Path(__file__).with_name("index-of-an-earlier-build.sqlite3.gz")) as sample:
        earlier = sample.read()
    index.write_bytes(earlier)
    with viewer(root.path) as server:
        runs = httpx.get(f"{server.url}/api/runs").json()
        assert [found["id"] for found in runs] == [run.id]  # not the one that the sample knows
        assert "made by another version" in server.log.read_text()
    assert [path.read_bytes() for path in index.parent.glob("*.other-*")] == [earlier]
    with viewer(root.path) as server:  # ours stays
        assert "another version" not in server.log.read_text()
    assert len(list(index.parent.glob("index.sqlite3.*-*"))) == 1


def test_users_survive_a_damaged_index_and_a_reindex(root):
    run = root.run()
    with viewer(root.path) as server:
        page = httpx.get(f"{server.url}/admin/", trust_env=False)
        assert page.status_code == 200
    folder = root.path / ".runicorn"
    users = _users(folder / "server.sqlite3")
    assert users == ["owner"]
    (folder / "index.sqlite3").write_bytes(b"no database at all" * 100)
    with viewer(root.path) as server:
        assert [found["id"] for found in httpx.get(f"{server.url}/api/runs").json()] == [run.id]
    command = [sys.executable, "-m", "runicorn", "manage", "--action", "reindex"]
    subprocess.run(
        [*command, "--storage", root.path], env=clean_environment(), cwd=ROOT, check=True
    )
    with viewer(root.path) as server:
        assert [found["id"] for found in httpx.get(f"{server.url}/api/runs").json()] == [run.id]
    assert _users(folder / "server.sqlite3") == users


def _users(database):
    with closing(sqlite3.connect(database)) as connection:
        return [name for (name,) in connection.execute("SELECT username FROM auth_user")]


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 100, b"SQLite format 3\x00" + b"x" * 8192]
)
def test_a_damaged_server_database_stops_the_start_and_names_the_copy(root, damage):
    with viewer(root.path):
        pass
    database = root.path / ".runicorn" / "server.sqlite3"
    (copy,) = database.parent.glob("server.sqlite3.copy-*")
    for suffix in ("-wal", "-shm"):
        database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
    database.write_bytes(damage)
    ended = run_viewer("--storage", root.path, "--port", 0)
    assert ended.returncode == 1
    assert f"The newest copy is {copy.name}" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert database.read_bytes() == damage
    database.write_bytes(copy.read_bytes())
    with viewer(root.path) as server:
        assert server.health()["status"] == "ok"


def test_a_full_disk_stops_the_start_with_a_sentence(root):
    limit = (20 * 4096, 20 * 4096)
    ended = run_viewer(
        *("--storage", root.path, "--port", 0),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert ended.returncode == 1
    assert "The server cannot start. The" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
