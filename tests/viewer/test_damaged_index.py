"""A damaged index is noticed, set aside and made again, while the server goes on."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing

import httpx
import pytest

from tests.runs.conftest import Root, event
from tests.servers import viewer, wait_until

pytestmark = pytest.mark.slow  # each starts programs


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    for number in range(40):
        run = root.run()
        run.append("events.jsonl", event({"global_step": number, "loss": float(number)}) * 50)
        run.append("logs.txt", b"a line of the log\n" * 300)
    return root


def index_of(root):
    return root.path / ".runicorn" / "index.sqlite3"


def kill(server):
    server.process.kill()
    server.process.wait(15)


def answers(server, root):
    """What a reader sees of every run: the list, each curve."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        shown = client.get("/api/runs")
        assert shown.status_code == 200, shown.text
        ids = sorted(run["id"] for run in shown.json())
        losses = {}
        for run_id in ids:
            answer = client.get(f"/api/runs/{run_id}/metrics_step")
            assert answer.status_code == 200, answer.text
            losses[run_id] = [row["loss"] for row in answer.json()["rows"]]
        return losses


def expected(root):
    folders = sorted(path.name for path in root.path.glob("p/e/runs/*"))
    return {run_id: [float(number)] for number, run_id in enumerate(folders)}


def noise(path, page, seed):
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(random.Random(seed).randbytes(4096))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_page_of_noise_is_found_at_the_start_after_a_crash(root, seed):
    with viewer(root.path) as server:
        kill(server)
    with closing(sqlite3.connect(index_of(root))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    noise(index_of(root), random.Random(seed).randrange(1, pages), seed)
    with viewer(root.path, wait_for="") as server:
        wait_until(lambda: server.health()["index"]["state"] == "rebuilt", "the damage is noticed")
        wait_until(lambda: server.health()["ingest"]["state"] == "watching", "it is made again")
        assert answers(server, root) == expected(root)
        health = server.health()["index"]
        assert (root.path / ".runicorn" / health["set_aside"]).exists()
        assert health["reason"]
        assert "was damaged" in server.log.read_text()
        page = httpx.get(server.url, trust_env=False)
        assert health["set_aside"] in page.text


def test_a_torn_write_ahead_log_loses_nothing(root):
    with viewer(root.path) as server:
        kill(server)
    wal = index_of(root).with_name("index.sqlite3-wal")
    assert wal.stat().st_size
    os.truncate(wal, wal.stat().st_size * 2 // 3 + 1)
    with wal.open("r+b") as file:
        file.seek(wal.stat().st_size // 2)
        file.write(b"noise" * 100)
    with viewer(root.path) as server:
        wait_until(lambda: server.health()["index"]["state"] != "checking", "it was checked")
        wait_until(lambda: server.health()["ingest"]["state"] == "watching", "all is indexed")
        assert answers(server, root) == expected(root)


def test_damage_that_a_request_meets_is_mended_while_serving(root):
    with viewer(root.path) as server:
        with closing(sqlite3.connect(index_of(root))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            size = index_of(root).stat().st_size
        with index_of(root).open("r+b") as file:  # everything but the header
            file.seek(4096)
            file.write(random.Random(1).randbytes(size - 4096))

        def is_right():
            try:
                return answers(server, root) == expected(root)
            except AssertionError as error:
                assert "503" in str(error) or "is made again" in str(error), error
                return False

        wait_until(is_right, "all is answered again")
        assert server.health()["index"]["state"] == "rebuilt"


def test_a_start_after_an_orderly_end_checks_nothing(root):
    with viewer(root.path) as server:
        pass
    with viewer(root.path) as server:
        assert server.health()["index"] == {"state": "ok", "set_aside": "", "reason": ""}
        assert "did not end in order" not in server.log.read_text()
