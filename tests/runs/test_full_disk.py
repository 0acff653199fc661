"""The server's disk is full: it goes on answering, says so, and indexes everything afterwards."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing

import httpx
import pytest

from tests.runs.conftest import Root, event
from tests.servers import viewer, wait_until

STEPS = 20_000


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_hides_nothing(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    early = root.run()
    early.log(*({"loss": n / 3, "global_step": n} for n in range(10)))
    with viewer(root.path) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def rows(run):
            return client.get(f"/api/runs/{run.id}/metrics_step").json().get("rows", [])

        def ingest():
            return client.get("/api/health").json()["ingest"]

        # From now on the system refuses to make the index's journal longer than a few pages, in the
        # middle of whatever is being written, as a full disk does.
        index = root.path / ".runicorn/index.sqlite3"
        with closing(sqlite3.connect(index)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        limits = (6 * 4096, resource.RLIM_INFINITY)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
        late = root.run()
        late.append("events.jsonl", b"".join(map(event, _rows(STEPS))))
        early.log({"loss": 4.5, "global_step": 10})
        wait_until(lambda: ingest()["error"], "the refusal")

        assert [run["id"] for run in client.get("/api/runs").json()] == [early.id]
        assert client.get(f"/api/runs/{early.id}").status_code == 200
        assert [row["global_step"] for row in rows(early)] == list(range(10))
        assert 'id="waiting"' in client.get("/").text

        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        wait_until(lambda: len(rows(late)) == STEPS, "the rest")
        assert [row["global_step"] for row in rows(late)] == list(range(STEPS))
        assert [row["global_step"] for row in rows(early)] == list(range(11))
        wait_until(lambda: not ingest()["error"], "the all-clear")


def _rows(count):
    return ({"loss": n / 3, "global_step": n} for n in range(count))
