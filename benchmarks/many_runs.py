"""Indexing 10,000 runs of 10 steps, and listing them, beside others and the raw limit.

    python benchmarks/many_runs.py [--runs 10000] [--no-peers]

Runicorn 0.4.0 and 0.7.2 read the same folder; MLflow searches a SQLite database of as many runs
with the same three metrics. *raw* is a plain script that reads the same rows from our SQLite file
and writes them with orjson. To reach: indexed within 60 s and 300 MB; the list under 100 ms and
under twice the raw read.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
from common import median_ms, mlflow, peer, server, table, viewer, wait_until, write_runs

HEADERS = {"Accept-Encoding": "identity"}
MEMBERS = (
    *("id", "run_dir", "created_time", "status", "pid", "best_metric_value", "best_metric_name"),
    *("project", "name", "artifacts_created_count", "artifacts_used_count"),
)
RAW = """
    SELECT r.run_id, ? || r.directory, r.created_time, r.status, r.pid, r.best_metric_value,
        r.best_metric_name, p.name, r.name, r.artifacts_created_count, r.artifacts_used_count
    FROM runs_run r LEFT JOIN runs_project p ON p.id = r.project_id
    WHERE r.deleted_at IS NULL ORDER BY r.listing_key, r.directory_mtime DESC, r.id
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--no-peers", action="store_true", help="leave other trackers out")
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        write_runs(root, args.runs)
        found["here"] = measure_ours(root)
        found["raw"] = {"list": raw_ms(root)}
        if not args.no_peers:
            for version in ("0.4.0", "0.7.2"):
                found[version] = measure_peer(f"runicorn=={version}", root)
            found["MLflow"] = measure_mlflow(Path(folder), args.runs)
    titles = {
        "first": "first answer, s",
        "indexed": "all indexed, s",
        "memory": "peak memory while indexing, MB",
        "list": "all runs, ms",
        "unchanged": "all runs again, unchanged (ETag), ms",
        "detail": "one run, ms",
    }
    rows: list[list[str]] = [["", *found]]
    for key, title in titles.items():
        rows.append([title, *(f"{one[key]:.1f}" if key in one else "" for one in found.values())])
    ours = found["here"]["list"]
    rows.append(
        ["all runs: times ours", *(f"{one.get('list', 0) / ours:.2f}" for one in found.values())]
    )
    table(rows)


def measure_ours(root: Path) -> dict[str, float]:
    with viewer(root) as running:
        first = time.monotonic() - running.started

        def is_done() -> bool:
            time.sleep(0.3)  # asking is work for the server, too
            return httpx.get(f"{running.url}/api/health").json()["ingest"]["state"] == "watching"

        wait_until(is_done)
        indexed = time.monotonic() - running.started
        memory = running.peak_megabytes()
        time.sleep(1)  # for what the indexer still writes
        with httpx.Client(base_url=running.url, timeout=60, headers=HEADERS) as client:
            tag = {"If-None-Match": client.get("/api/runs").headers["ETag"]}
            unchanged = median_ms(lambda: client.get("/api/runs", headers=tag).read(), 7)
        asked = requests(running.url)
        return {"first": first, "indexed": indexed, "memory": memory, **asked} | {
            "unchanged": unchanged
        }


def raw_ms(root: Path) -> float:
    database = sqlite3.connect(root / ".runicorn" / "index.sqlite3")

    def read() -> bytes:
        rows = database.execute(RAW, [f"{root}/"]).fetchall()
        return orjson.dumps([dict(zip(MEMBERS, row, strict=True)) for row in rows])

    try:
        return median_ms(read, 7)
    finally:
        database.close()


def measure_peer(requirement: str, root: Path) -> dict[str, float]:
    python = peer(requirement)
    if python is None:
        return {}
    code = "import sys; from runicorn.cli import main; sys.exit(main())"
    command = [python, "-c", code, "viewer", "--storage", root, "--port", "{port}"]
    with server(command) as running:
        return requests(running.url)


def measure_mlflow(folder: Path, runs: int) -> dict[str, float]:
    with mlflow(folder, runs) as client:
        if client is None:
            return {}
        everything = {"experiment_ids": ["0"], "max_results": runs}

        def ask() -> Any:
            answer = client.post("/api/2.0/mlflow/runs/search", json=everything)
            return answer.raise_for_status().json()

        found = ask()["runs"]
        assert len(found) == runs
        one = {"run_id": found[0]["info"]["run_id"]}
        detail = median_ms(lambda: client.get("/api/2.0/mlflow/runs/get", params=one), 20)
        return {"list": median_ms(ask, 3), "detail": detail}


def requests(url: str) -> dict[str, float]:
    with httpx.Client(base_url=url, timeout=60, headers=HEADERS) as client:
        run_id = client.get("/api/runs").json()[0]["id"]
        return {
            "list": median_ms(lambda: client.get("/api/runs").read(), 7),
            "detail": median_ms(lambda: client.get(f"/api/runs/{run_id}").read(), 20),
        }


if __name__ == "__main__":
    main()
