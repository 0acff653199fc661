"""The Python client beside what one would write by hand: ``requests`` and pandas.

    pip install requests 'runicorn[viewer,pandas,polars]'
    python benchmarks/client.py [--runs 10000] [--points 100000]

*list*: every run of a server, as the documented list of dicts. *table*: one run with five metrics
in a DataFrame, a row a step. Both ask the same server for the same bytes over a kept connection.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import common
import pandas
import requests

from runicorn import api

METRICS = ("loss", "accuracy", "lr", "grad_norm", "speed")


def write_long_run(root: Path, points: int) -> str:
    run = root / "long" / "run" / "runs" / "20260202_000000_abcdef"
    run.mkdir(parents=True)
    (run / "meta.json").write_text('{"created_at": 1.7e9, "hostname": "elsewhere", "pid": 1}')
    (run / "status.json").write_text('{"status": "finished"}')
    with (run / "events.jsonl").open("w") as file:
        for step in range(1, points + 1):
            data = {name: (place + 1) / step for place, name in enumerate(METRICS)}
            data |= {"global_step": step, "time": 1.7e9 + step / 10}
            file.write(json.dumps({"ts": data["time"], "type": "metrics", "data": data}) + "\n")
    return run.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        common.write_runs(root, args.runs, steps=1)
        run_id = write_long_run(root, args.points)
        with common.viewer(root) as server, api.connect(server.url, timeout=120) as client:
            health = f"{server.url}/api/health"
            common.wait_until(lambda: requests.get(health).json()["ingest"]["state"] == "watching")
            session = requests.Session()
            table = f"{server.url}/api/runs/{run_id}/metrics_step"
            work = {
                f"list {args.runs:,} runs: list_experiments()": client.list_experiments,
                "    iter_experiments(), 1000 a page": lambda: list(
                    client.iter_experiments(page_size=1000)
                ),
                "    by hand": lambda: session.get(f"{server.url}/api/runs").json(),
                f"table of {args.points:,} x {len(METRICS)}: as_dataframe=True": lambda: (
                    client.get_metrics(run_id, as_dataframe=True)
                ),
                '    as_dataframe="polars"': lambda: client.get_metrics(
                    run_id, as_dataframe="polars"
                ),
                "    by hand, DataFrame(rows)": lambda: pandas.DataFrame(
                    session.get(table).json()["rows"]
                ),
                "    the bytes alone": lambda: session.get(table).content,
            }
            rows = [
                (what, f"{common.median_ms(do, args.repeat):.0f} ms") for what, do in work.items()
            ]
            common.table([("", "median"), *rows])
            assert len(client.list_experiments()) == args.runs + 1
            assert client.get_metrics(run_id, as_dataframe=True).shape == (args.points, 7)


if __name__ == "__main__":
    main()
