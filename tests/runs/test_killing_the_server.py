"""``kill -9`` of the server while it indexes a growing run: every logged step is there, once."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time

import httpx
import pytest

from tests.runs.conftest import Root, event
from tests.servers import ROOT, clean_environment, free_port, viewer

KILLS = 50


@pytest.mark.slow
def test_every_step_is_there_once_after_50_kills(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    run = root.run()
    written = threading.Event()
    count = 0

    def train():
        nonlocal count
        with run.events.open("ab", buffering=0) as events, run.logs.open("ab", buffering=0) as logs:
            while not written.is_set():
                for _ in range(20):
                    line = event({"loss": count / 3, "global_step": count, "stage": "train"})
                    half = len(line) // 2
                    events.write(line[:half])  # the server sees half lines all the time
                    events.write(line[half:])
                    logs.write(b"step %d\n" % count)
                    count += 1
                time.sleep(0.01)

    trainer = threading.Thread(target=train)
    trainer.start()
    dice = random.Random(0)
    environment = clean_environment() | {"XDG_CONFIG_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "runicorn", "viewer", "--storage", str(root.path)]
    reached = []
    try:
        for _ in range(KILLS):
            port = free_port()
            server = subprocess.Popen(
                [*command, "--port", str(port)],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while not _is_indexing(port):
                assert server.poll() is None
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.3))
            server.kill()
            server.wait()
            reached.append(count)
    finally:
        written.set()
        trainer.join()

    with viewer(root.path) as server:
        rows = httpx.get(f"{server.url}/api/runs/{run.id}/metrics_step", timeout=60).json()["rows"]
        assert [(row["global_step"], row["loss"]) for row in rows] == [
            (n, n / 3) for n in range(count)
        ]
    assert _indexed(root) == (count, run.logs.stat().st_size)
    assert len(set(reached)) > KILLS / 2, "the run did not grow while the server was killed"


def _is_indexing(port: int) -> bool:
    try:
        return bool(httpx.get(f"http://127.0.0.1:{port}/api/health").json()["ingest"]["found"])
    except httpx.TransportError:
        return False


def _indexed(root: Root) -> tuple[int, int]:
    """Events counted and log bytes kept in the index."""
    with sqlite3.connect(root.path / ".runicorn" / "index.sqlite3") as index:
        [events] = index.execute("SELECT event_count FROM runs_run").fetchone()
        [log] = index.execute("SELECT SUM(LENGTH(data)) FROM runs_logchunk").fetchone()
    return events, log
