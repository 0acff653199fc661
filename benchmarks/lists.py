"""The V2 list with every documented filter and sort, as the index grows.

    python benchmarks/lists.py [--runs 1000 10000 100000] [--repeat 20] [--keep FOLDER]

Each row is one filter or sort alone, page 1 and page 150 (or the last one there is), 50 runs a
page; the figures are the 95th percentile over HTTP. Before each request something is committed to
the index, as while a training logs, so that nothing counted or answered before is of use. To
reach: under 15 ms at 10,000 runs, under 40 ms at 100,000.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import httpx
from common import table, viewer, wait_until

NOW = time.time()
MONTH = 30 * 86_400
PAGE, FAR = 50, 150
HEADERS = {"Accept-Encoding": "identity"}

FILTERS = {
    "nothing": {},
    "project": {"project": "project-07"},
    "name": {"name": "resnet-3"},
    "status, one": {"status": "failed"},
    "status, two": {"status": "finished,failed"},
    "tags, one": {"tags": "paper"},
    "tags, two": {"tags": "paper,best"},
    "search, a project": {"search": "ject-07"},
    "search, most names": {"search": "net"},
    "search, an id": {"search": "00002f"},
    "search, notes": {"search": "learning rate"},
    "search, Chinese": {"search": "检测"},
    "search, no match": {"search": "nowhere at all"},
    "created_after": {"created_after": NOW - MONTH},
    "created_before": {"created_before": NOW - MONTH},
    "best_metric_min": {"best_metric_min": 0.9},
    "best_metric_max": {"best_metric_max": 0.9},
    "include_deleted": {"include_deleted": "true"},
}
ORDERS = (
    *("created_at", "updated_at", "best_metric_value", "duration"),
    *("status", "project", "name", "id"),
)
QUESTIONS = (
    "project = project-07",
    "experiment ~ resnet and status = failed",
    "tags = paper and not tags = best",
    "tags is null",
    "created > 2026-01-01 and duration > 2h",
    "metrics.loss.last < 0.01",
    "metrics.loss.min < 0.9",
    "metrics.accuracy.max > 0.99",
    "metrics.accuracy.best > 0.9",
    "config.lr < 0.01",
    "config.optimizer.name = adam",
    "config.optimizer.name ~ ada and not (status = failed or config.batch in (64, 128))",
    "summary.final_loss < 0.1",
    "summary.note is not null",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="where indexes are kept between measurements")
    args = parser.parse_args()
    asked = {
        **FILTERS,
        **{f"order_by={order}": {"order_by": order} for order in ORDERS},
        **{f"{order}, ascending": {"order_by": order, "order_desc": "false"} for order in ORDERS},
        **{question: {"q": question} for question in QUESTIONS},
    }
    found: dict[int, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in args.runs:
            root = (args.keep or Path(folder)) / f"{count}"
            if not root.exists():
                root.mkdir(parents=True)
                filling = [sys.executable, Path(__file__).with_name("filling.py"), root]
                subprocess.run([*filling, "--runs", str(count)], check=True)
            with viewer(root) as running:
                wait_until(partial(is_watching, running.url))
                found[count] = measure(running.url, root, asked, args.repeat)
    heads = [f"{count:,}: total / page 1 / page 150" for count in args.runs]
    rows = [[name, *(" / ".join(found[count][name]) for count in args.runs)] for name in asked]
    print("95th percentile in ms over HTTP")
    table([["", *heads], *rows])


def is_watching(url: str) -> bool:
    return httpx.get(f"{url}/api/health").json()["intake"]["state"] == "watching"


def measure(url: str, root: Path, asked: dict[str, dict], repeat: int) -> dict[str, list[str]]:
    found = {}
    index = sqlite3.connect(root / ".runicorn/index.sqlite3", isolation_level=None, timeout=10)
    with httpx.Client(base_url=url, timeout=60, headers=HEADERS) as client, closing(index):
        for name, parameters in asked.items():
            total = get(client, parameters, 1)["total"]
            far = max(1, min(FAR, -(-total // PAGE)))
            times = [percentile(client, index, parameters, page, repeat) for page in (1, far)]
            found[name] = [f"{total:,}", *(f"{ms:.1f}" for ms in times)]
    return found


def get(client: httpx.Client, parameters: dict, page: int) -> dict:
    query = urlencode({**parameters, "page": page, "per_page": PAGE})
    answer = client.get(f"/api/v2/experiments?{query}")
    answer.raise_for_status()
    return answer.json()


def percentile(
    client: httpx.Client, index: sqlite3.Connection, parameters: dict, page: int, repeat: int
) -> float:
    times = []
    for _ in range(repeat):
        index.execute("UPDATE runs_run SET event_count = event_count + 1 WHERE id = 1")
        start = time.perf_counter()
        get(client, parameters, page)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
