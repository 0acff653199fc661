"""Charts and tables of long runs, beside Runicorn 0.4.0 and 0.7.2, MLflow and a plain numpy read.

    python benchmarks/reading.py [--steps 100000] [--metrics 5] [--long 1000000] [--no-peers]

To reach: a table under twice numpy and orjson; 1,000 points of 100,000 x 5 under 15 ms, of
1,000,000 under 10 ms warm and 40 ms cold; 20 runs x 10 metrics x 1,000 points under 100 ms; under
250 MB of memory. *warm*: the same question again. *new question*: another range of steps each
time, so that no kept answer helps. *nothing*: an answer of a few bytes, which no request can beat.
Our server is started again when all is indexed: its memory is that of serving. MLflow's points are
written into its SQLite file, because its client would take most of an hour.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
from common import Server, median_ms, peer, server, table, viewer, wait_until

HEADERS = {"Accept-Encoding": "identity"}


def write_run(
    root: Path, number: int, steps: int, metrics: int, project: str, calls: int = 1
) -> str:
    """Write a run whose *metrics* are logged in so many *calls* at each step; return its id."""
    run = root / project / "long" / "runs" / f"20260101_000000_{number:06x}"
    run.mkdir(parents=True)
    meta = {"id": run.name, "project": project, "name": "long", "created_at": 1.7e9}
    (run / "meta.json").write_text(json.dumps(meta | {"hostname": "elsewhere", "pid": 1}))
    (run / "status.json").write_text('{"status": "finished", "started_at": 1.7e9}')
    with (run / "events.jsonl").open("wb") as file:
        for step in range(1, steps + 1):
            now = 1.7e9 + step / 10
            for call in range(calls):
                data: dict[str, Any] = {
                    f"m{i}": math.sin(step / (50 + i)) + step % 7 / 10
                    for i in range(call, metrics, calls)
                }
                data |= {"global_step": step, "time": now + call / 100}
                file.write(orjson.dumps({"ts": now, "type": "metrics", "data": data}) + b"\n")
    return run.name


def ms(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def numpy_limit(folder: Path, steps: int, metrics: int) -> float:
    """Milliseconds to load the same columns with numpy and to write the same rows with orjson."""
    names = ["global_step", *(f"m{i}" for i in range(metrics)), "time"]
    np.savez(folder / "columns.npz", **{name: np.random.rand(steps) for name in names})

    def read() -> None:
        with np.load(folder / "columns.npz") as columns:
            cells = [columns[name].tolist() for name in names]
        orjson.dumps([dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)])

    return median_ms(read, 3)


@contextmanager
def peer_viewer(requirement: str, root: Path):
    python = peer(requirement)
    if python is None:
        yield None
        return
    code = "import sys; from runicorn.cli import main; sys.exit(main())"
    command = [python, "-c", code, "viewer", "--storage", root, "--port", "{port}"]
    with server(command) as running:
        yield running


def measure(running: Server, ids: dict[str, str], ours: bool) -> dict[str, float]:
    with httpx.Client(base_url=running.url, timeout=600, headers=HEADERS) as client:

        def fast(run: str) -> str:
            if ours:
                return (
                    f"/api/v2/experiments/{ids[run]}/metrics/fast?downsample=1000&metric_names=m0"
                )
            return f"/api/runs/{ids[run]}/metrics_step?downsample=1000"

        wide = fast("wide").replace("&metric_names=m0", "")
        new: dict[str, float] = {}
        if ours:
            starts = itertools.count(2)
            end = f":{10**9}"
            new = {
                "nothing": median_ms(lambda: client.get("/api/health").read(), 15),
                "wide, new": median_ms(
                    lambda: client.get(f"{wide}&step_range={next(starts)}{end}").read(), 7
                ),
                "long, new": median_ms(
                    lambda: client.get(f"{fast('long')}&step_range={next(starts)}{end}").read(), 7
                ),
            }
        return new | {
            "table": ms(lambda: client.get(f"/api/runs/{ids['wide']}/metrics_step").read()),
            "wide": median_ms(lambda: client.get(wide).read(), 7),
            "cold": ms(lambda: client.get(fast("long")).read()),
            "long": median_ms(lambda: client.get(fast("long")).read(), 7),
            "memory": running.peak_megabytes(),
        }


def measure_calls(running: Server, once: str, twice: str) -> dict[str, float]:
    """The same two metrics, logged in one call a step and in two."""
    times: dict[str, float] = {}
    with httpx.Client(base_url=running.url, timeout=600, headers=HEADERS) as client:
        for name, run in (("once", once), ("twice", twice)):
            path = f"/api/v2/experiments/{run}/metrics/fast?downsample=1000"
            table = f"/api/runs/{run}/metrics_step"
            starts = itertools.count(2)
            times[f"{name}, first"] = ms(lambda path=path: client.get(path).read())
            times[f"{name}, new"] = median_ms(
                lambda path=path, starts=starts: client.get(
                    f"{path}&step_range={next(starts)}:{10**9}"
                ).read(),
                15,
            )
            times[f"{name}, table"] = median_ms(lambda table=table: client.get(table).read(), 3)
    return times


@contextmanager
def indexed(root: Path) -> Iterator[Server]:
    with viewer(root) as running:
        health = f"{running.url}/api/health"
        wait_until(lambda: httpx.get(health).json()["ingest"]["state"] == "watching")
        yield running


def measure_mlflow(folder: Path, steps: int, metrics: int, long: int) -> dict[str, float] | None:
    """Its own paged history for the table, its sampled history for charts."""
    python = peer("mlflow")
    if python is None:
        return None
    database = folder / "mlflow.sqlite3"
    command = [python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}"]
    with (
        server([*command, "--port", "{port}", "--workers", "1"], "/health") as running,
        httpx.Client(base_url=running.url, timeout=600) as client,
    ):
        made = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json
        ids = {"wide": made()["run"]["info"]["run_id"]}
        made = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json
        ids["long"] = made()["run"]["info"]["run_id"]
        with sqlite3.connect(database, timeout=60) as connection:
            for name, keys, count in (("wide", metrics, steps), ("long", 1, long)):
                connection.executemany(
                    "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
                    " VALUES (?, ?, ?, ?, ?, 0)",
                    (
                        (
                            f"m{i}",
                            math.sin(step / 50),
                            1_700_000_000_000 + step,
                            ids[name],
                            step,
                        )
                        for i in range(keys)
                        for step in range(1, count + 1)
                    ),
                )

        def table() -> None:
            for key in range(metrics):
                token: str | None = ""
                while token is not None:
                    asked = {"run_id": ids["wide"], "metric_key": f"m{key}"}
                    page = client.get(
                        "/api/2.0/mlflow/metrics/get-history",
                        params=asked | {"max_results": 25_000, "page_token": token},
                    ).json()
                    token = page.get("next_page_token") or None

        def chart(name: str, key: int) -> None:
            client.get(
                "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
                params={"run_ids": ids[name], "metric_key": f"m{key}", "max_results": 1000},
            ).raise_for_status()

        def wide() -> None:
            for key in range(metrics):
                chart("wide", key)

        return {
            "table": ms(table),
            "wide": median_ms(wide, 3),
            "cold": ms(lambda: chart("long", 0)),
            "long": median_ms(lambda: chart("long", 0), 3),
            "memory": running.peak_megabytes(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--metrics", type=int, default=5)
    parser.add_argument("--long", type=int, default=1_000_000)
    parser.add_argument("--no-peers", action="store_true", help="leave other trackers out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        ids = {
            "wide": write_run(root, 1, args.steps, args.metrics, "a"),
            "long": write_run(root, 2, args.long, 1, "a"),
        }
        limit = numpy_limit(Path(folder), args.steps, args.metrics)
        found: dict[str, dict[str, float]] = {}
        once = write_run(root, 3, args.steps, 2, "a")
        twice = write_run(root, 4, args.steps, 2, "a", calls=2)
        many = [write_run(root, 10 + i, args.steps // 5, 10, "many") for i in range(20)]
        with indexed(root) as running:
            indexing_peak = running.peak_megabytes()
        with indexed(root) as running:
            found["here"] = measure(running, ids, ours=True)
            found["here"] |= measure_calls(running, once, twice)
            question = {"run_ids": many, "metrics": [f"m{i}" for i in range(10)], "points": 1000}
            with httpx.Client(base_url=running.url, timeout=60, headers=HEADERS) as client:
                found["here"]["many"] = median_ms(
                    lambda: client.post("/api/v2/metrics/query", json=question).read(), 5
                )
            found["here"]["memory"] = running.peak_megabytes()
            found["here"]["ingest"] = indexing_peak
            found["here"] |= running.memory()
        if not args.no_peers:
            for version in ("0.4.0", "0.7.2"):
                with peer_viewer(f"runicorn=={version}", root) as running:
                    if running is not None:
                        found[version] = measure(running, ids, ours=False)
            if mlflow := measure_mlflow(Path(folder), args.steps, args.metrics, args.long):
                found["MLflow"] = mlflow
    titles = {
        "table": f"metrics_step, {args.steps:,} x {args.metrics}, cold, ms",
        "nothing": "nothing (GET /api/health), ms",
        "wide": f"1,000 points of {args.steps:,} x {args.metrics}, warm, ms",
        "wide, new": "    new question",
        "cold": f"1,000 points of {args.long:,}, cold, ms",
        "long": f"1,000 points of {args.long:,}, warm, ms",
        "long, new": "    new question",
        "once, first": f"1,000 points of {args.steps:,} x 2, first time, ms",
        "twice, first": "    logged in two calls a step",
        "once, new": "    new question, one call a step",
        "twice, new": "    new question, two calls a step",
        "once, table": "    all of it, one call a step",
        "twice, table": "    all of it, two calls a step",
        "many": "20 runs x 10 metrics x 1,000 points, ms",
        "memory": "peak memory, MB",
        "ingest": "    while indexing all of it",
        "resident": "    resident at the end",
        "shared out": "    of that shared out (Pss)",
        "own": "    of that in no file",
    }
    rows: list[tuple[object, ...]] = [("", *found, "numpy + orjson")]
    for key, title in titles.items():
        cells = [f"{one[key]:.1f}" if key in one else "" for one in found.values()]
        rows.append((title, *cells, f"{limit:.0f}" if key == "table" else ""))
    table(rows)


if __name__ == "__main__":
    main()
