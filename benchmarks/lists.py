"""The V2 list with every documented filter and sort, as the index grows.

    python benchmarks/lists.py [--runs 1000 10000 100000] [--repeat 20] [--keep FOLDER] [--no-peers]

Each row is one filter or sort alone, page 1 and page 150 (or the last one there is), 50 runs a
page; the figures are the 95th percentile over HTTP. Before each request something is committed to
the index, as while a training logs, so that nothing counted or answered before is of use. *raw*
is a plain script that counts and reads the same rows of our SQLite file and writes them with
orjson, without a server; MLflow searches a SQLite database of as many runs as the first index. To
reach: under 15 ms at 10,000 runs, under 40 ms at 100,000.
"""

from __future__ import annotations

import argparse
import base64
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import httpx
import orjson
from common import median_ms, mlflow, table, viewer, wait_until

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
TAGGED = "run.id IN (SELECT run_id FROM runs_tag WHERE key = {})"
PAPER, BEST = TAGGED.format("'paper'"), TAGGED.format("'best'")
RAW = {
    "project": "project.name = :project",
    "name": "run.name = :name",
    "status, one": "status = :status",
    "status, two": "status IN ('finished', 'failed')",
    "tags, one": TAGGED.format(":tags"),
    "tags, two": f"{PAPER} AND {BEST}",
    "search, notes": "instr(search_text, 'learning') AND instr(search_text, 'rate')",
    "created_after": "created_time >= :created_after",
    "created_before": "created_time <= :created_before",
    "best_metric_min": "best_metric_value >= :best_metric_min",
    "best_metric_max": "best_metric_value <= :best_metric_max",
    **{
        f"search, {what}": "instr(search_text, :search)"
        for what in ("a project", "most names", "an id", "Chinese", "no match")
    },
}
"""What a plain script asks SQLite for."""
ORDERS = (
    *("created_at", "updated_at", "best_metric_value", "duration"),
    *("status", "project", "name", "id"),
)
COLUMNS = {
    **{order: order for order in ("created_at", "updated_at", "best_metric_value", "duration")},
    "created_at": "created_time",
    "status": "status",
    "project": "project.name",
    "name": "run.name",
    "id": "run.run_id",
}
MLFLOW = {
    "nothing": {},
    "name": {"filter": "attributes.run_name = 'exp-3'"},
    "status, one": {"filter": "attributes.status = 'FINISHED'"},
    "tags, one": {"filter": "tags.`mlflow.runName` = 'exp'"},
    "created_after": {"filter": "attributes.start_time > 1700005000000"},
    "best_metric_min": {"filter": "metrics.accuracy >= 0.9"},
    "order_by=created_at": {"order_by": ["attributes.start_time DESC"]},
    "order_by=best_metric_value": {"order_by": ["metrics.accuracy DESC"]},
    "order_by=status": {"order_by": ["attributes.status DESC"]},
    "order_by=name": {"order_by": ["attributes.run_name DESC"]},
}
"""The nearest that its search offers."""
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
    parser.add_argument("--no-peers", action="store_true", help="leave MLflow out")
    parser.add_argument("--keep", type=Path, help="where indexes are kept between measurements")
    args = parser.parse_args()
    asked = {
        **FILTERS,
        **{f"order_by={order}": {"order_by": order} for order in ORDERS},
        **{f"{order}, ascending": {"order_by": order, "order_desc": "false"} for order in ORDERS},
        **{question: {"q": question} for question in QUESTIONS},
    }
    found: dict[int, dict[str, list[str]]] = {}
    others: dict[str, str] = {}
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
        if not args.no_peers:
            others = measure_mlflow(Path(folder), args.runs[0])
    heads = [f"{count:,}: total / page 1 / page {FAR} (times raw)" for count in args.runs]
    rows = [
        [name, *(" / ".join(found[count][name]) for count in args.runs), others.get(name, "")]
        for name in asked
    ]
    print("95th percentile in ms over HTTP; of MLflow the median")
    table([["", *heads, f"MLflow, {args.runs[0]:,}" if others else ""], *rows])


def is_watching(url: str) -> bool:
    return httpx.get(f"{url}/api/health").json()["ingest"]["state"] == "watching"


def measure(url: str, root: Path, asked: dict[str, dict], repeat: int) -> dict[str, list[str]]:
    found = {}
    index = sqlite3.connect(root / ".runicorn/index.sqlite3", isolation_level=None, timeout=10)
    with httpx.Client(base_url=url, timeout=60, headers=HEADERS) as client, closing(index):
        for name, parameters in asked.items():
            total = get(client, parameters, 1)["total"]
            found[name] = [f"{total:,}"]
            for page in (1, max(1, min(FAR, -(-total // PAGE)))):
                ours = percentile(index, partial(get, client, parameters, page), repeat)
                cell = f"{ours:.1f}"
                if "q" not in parameters:
                    raw = partial(read_raw, index, name, parameters, page)
                    assert raw() == total
                    cell += f" ({ours / percentile(index, raw, repeat):.1f})"
                found[name].append(cell)
    return found


def get(client: httpx.Client, parameters: dict, page: int) -> dict:
    query = urlencode({**parameters, "page": page, "per_page": PAGE})
    answer = client.get(f"/api/v2/experiments?{query}")
    answer.raise_for_status()
    return answer.json()


def read_raw(index: sqlite3.Connection, name: str, parameters: dict, page: int) -> int:
    """Count and read the same runs in a plain script, and make JSON of them."""
    tables = "runs_run AS run LEFT JOIN runs_project AS project ON project.id = run.project_id"
    conditions = [RAW[name]] if name in RAW else []
    if "include_deleted" not in parameters:
        conditions.append("deleted_at IS NULL")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    column = COLUMNS[parameters.get("order_by", "created_at")]
    direction = "ASC" if parameters.get("order_desc") == "false" else "DESC"
    [(total,)] = index.execute(f"SELECT count(*) FROM {tables} {where}", parameters)
    rows = index.execute(
        "SELECT run.run_id, directory, created_time, ended_at, updated_at, duration, status, pid,"
        f" best_metric_value, best_metric_name, project.name, run.name FROM {tables} {where}"
        f" ORDER BY {column} {direction} NULLS LAST, run.run_id {direction}"
        f" LIMIT {PAGE} OFFSET {(page - 1) * PAGE}",
        parameters,
    )
    names = [name for name, *_ in rows.description]
    orjson.dumps([dict(zip(names, row, strict=True)) for row in rows])
    return total


def percentile(index: sqlite3.Connection, ask: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        index.execute("UPDATE runs_run SET event_count = event_count + 1 WHERE id = 1")
        start = time.perf_counter()
        ask()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.quantiles(times, n=20)[-1]


def measure_mlflow(folder: Path, runs: int) -> dict[str, str]:
    """Milliseconds for page 1 and page 150 of its search, by name of the row."""
    found: dict[str, str] = {}
    with mlflow(folder, runs) as client:
        if client is None:
            return found
        for name, question in MLFLOW.items():
            times = []
            for page in (1, FAR):
                body = {"experiment_ids": ["0"], "max_results": PAGE, **question}
                if page > 1:
                    offset = orjson.dumps({"offset": (page - 1) * PAGE})
                    body["page_token"] = base64.b64encode(offset).decode()
                search = partial(client.post, "/api/2.0/mlflow/runs/search", json=body)
                search().raise_for_status()
                times.append(median_ms(search, 3))
            found[name] = " / ".join(f"{ms:.0f}" for ms in times)
    return found


if __name__ == "__main__":
    main()
