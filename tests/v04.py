"""What Runicorn 0.4.0 wrote and answered, and the reading rules of the contract, told plainly."""

from __future__ import annotations

import gzip
import json
import math
import os
import socket
import tarfile
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "runicorn-0.4.0"
RECORDED_ROOT = "/srv/runicorn/storage"


def unpack_storage(target: Path) -> Path:
    """A fresh copy of the recorded storage root, as if its host were this one.

    Two runs of the recorded host have a process id to check: they are moved to this host, and the
    one whose process (1) lives has written just now.
    """
    with tarfile.open(DATA / "storage.tar.gz") as archive:
        archive.extractall(target, filter="data")
    root = target / "storage"
    for run in (root / "iris/logreg/runs").iterdir():
        meta = json.loads((run / "meta.json").read_text())
        folder = run.stat()
        (run / "meta.json").write_text(json.dumps(meta | {"hostname": socket.gethostname()}))
        if meta["pid"] == 1:
            now = time.time()
            os.utime(run / "events.jsonl", (now, now))
        os.utime(run, ns=(folder.st_atime_ns, folder.st_mtime_ns))
    return root


def golden() -> list[dict[str, Any]]:
    with gzip.open(DATA / "golden.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# -- the contract's merge rules, without any regard to speed -------------------------------------


def read_events(path: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(event, data) of every metrics line that can be read."""
    found = []
    content = path.read_bytes() if path.exists() else b""
    for line in content.decode("utf-8", "ignore").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("type") == "metrics":
            data = event.get("data")
            if isinstance(data, dict):
                found.append((event, data))
    return found


def step_of(data: dict[str, Any]) -> int | None:
    """Ours to add: a step of more than 64 bits is none."""
    raw = data["global_step"] if "global_step" in data else data.get("step")
    try:
        step = int(raw)
    except (TypeError, ValueError, OverflowError):
        return None
    return step if abs(step) < 2**63 else None


def by_step(path: Path) -> dict[str, Any]:
    rows: dict[int, dict[str, Any]] = {}
    for _, data in read_events(path):
        step = step_of(data)
        if step is not None:
            rows.setdefault(step, {"global_step": step}).update(_cells(data))
    return _table("global_step", rows)


def by_time(path: Path) -> dict[str, Any]:
    timed = [(_time_of(e, d), d) for e, d in read_events(path)]
    timed = [(t, d) for t, d in timed if t is not None]
    origin = min((t for t, _ in timed), default=0)
    rows: dict[float, dict[str, Any]] = {}
    for moment, data in timed:
        row = rows.setdefault(moment - origin, {"time": moment - origin})
        row.update({k: v for k, v in _cells(data).items() if k != "time"})
        step = step_of(data)
        if step is not None:
            row["global_step"] = step
    return _table("time", rows)


def _time_of(event: dict[str, Any], data: dict[str, Any]) -> float | None:
    for raw in (data.get("time"), event.get("ts")):
        if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw):
            return float(raw)
    return None


def _cells(data: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in data.items()
        if key not in ("global_step", "step", "epoch") and not isinstance(value, list | dict)
    }


def _table(axis: str, rows: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {"columns": [], "rows": []}
    keys = sorted({key for row in rows.values() for key in row} - {axis})
    columns = [axis, *keys]
    return {
        "columns": columns,
        "rows": [{c: rows[place].get(c) for c in columns} for place in sorted(rows)],
    }


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# -- the contract's V2 answers, likewise ---------------------------------------------------------


def experiments(root: Path, query: dict[str, str]) -> dict[str, Any] | None:
    """Return the documented V2 list of every run on disk; None where the request is a 400."""
    orders = {"created_at", "updated_at", "best_metric_value", "status", "project", "name", "id"}
    order = query.get("order_by", "created_at")
    if order not in orders:
        return None
    found = [
        run
        for run in map(experiment, run_folders(root))
        if _lets_through(run, query)
        and (_flag(query, "include_deleted") or not is_deleted(Path(run["run_dir"])))
    ]
    descending = _flag(query, "order_desc", "true")
    if order == "updated_at":  # when it was last indexed: every server has its own
        order = "id"
    found.sort(key=lambda run: run["id"], reverse=descending)
    empty = 0 if order in ("created_at", "best_metric_value") else ""
    found.sort(key=lambda run: run[order] or empty, reverse=descending)
    found.sort(key=lambda run: run[order] is None)
    page, size = int(query.get("page", 1)), int(query.get("per_page", 50))
    shown = found[(page - 1) * size : page * size]
    return {
        "experiments": shown,
        "total": len(found),
        "page": page,
        "per_page": size,
        "has_next": page * size < len(found),
        "has_prev": page > 1,
    }


def is_deleted(run: Path) -> bool:
    return (run / ".deleted").exists()


def run_folders(root: Path) -> list[Path]:
    return [meta.parent for meta in root.glob("**/runs/*/meta.json")]


def experiment(run: Path) -> dict[str, Any]:
    """One item of the list, and what the filters ask about it."""
    meta = json.loads((run / "meta.json").read_text())
    summary = _document(run / "summary.json")
    best = summary.get("best_metric_value")
    is_number = isinstance(best, int | float) and math.isfinite(best)
    return {
        "id": run.name,
        "run_dir": str(run),
        "created_time": meta["created_at"],
        "created_at": meta["created_at"],
        "status": _document(run / "status.json").get("status", "finished"),
        "best_metric_value": best if is_number else None,
        "best_metric_name": summary.get("best_metric_name"),
        "project": meta.get("project"),
        "name": meta.get("name"),
    }


def _document(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _tags(run: Path) -> list[str]:
    root = next(folder for folder in run.parents if (folder / "artifacts").exists())
    record = _document(root / ".experiments_metadata.json").get(run.name, {})
    return record.get("tags", [])


def _flag(query: dict[str, str], name: str, default: str = "false") -> bool:
    return query.get(name, default).lower() in ("true", "1", "yes", "on")


def _lets_through(run: dict[str, Any], query: dict[str, str]) -> bool:
    best = run["best_metric_value"]
    text = query.get("search", "").lower()
    return all(
        [
            query.get("project", run["project"]) == run["project"],
            query.get("name", run["name"]) == run["name"],
            "status" not in query or run["status"] in query["status"].split(","),
            set(query.get("tags", "").split(",")) - {""} <= set(_tags(Path(run["run_dir"]))),
            any(text in (run[part] or "").lower() for part in ("project", "name", "id")),
            not float(query.get("created_after", 0))
            or run["created_time"] >= float(query["created_after"]),
            not float(query.get("created_before", 0))
            or run["created_time"] <= float(query["created_before"]),
            "best_metric_min" not in query
            or (best is not None and best >= float(query["best_metric_min"])),
            "best_metric_max" not in query
            or (best is not None and best <= float(query["best_metric_max"])),
        ]
    )


def fast(path: Path, query: dict[str, str]) -> dict[str, Any]:
    """Return all rows of the documented fast table, whatever ``downsample`` says."""
    rows: dict[int, dict[str, Any]] = {}
    names: set[str] = set()
    for _, data in read_events(path):
        step = step_of(data)
        if step is None:
            continue
        row = rows.setdefault(step, {"global_step": step})
        for key, value in data.items():
            if key not in ("global_step", "step", "time") and isinstance(value, int | float):
                names.add(key)
                row[key] = float(value) if math.isfinite(value) else None
    asked = query["metric_names"].split(",") if query.get("metric_names") else None
    shown = sorted(names) if asked is None else asked
    low, high = -math.inf, math.inf
    if query.get("step_range"):
        low, high = map(int, query["step_range"].split(":"))
    return {
        "columns": ["global_step", *shown] if rows else [],
        "rows": [
            {"global_step": step} | {key: rows[step].get(key) for key in shown if key in names}
            for step in sorted(rows)
            if low <= step <= high
        ],
    }


def detail(run: Path) -> dict[str, Any]:
    """Return the documented detail of a run in V2."""
    table = fast(run / "events.jsonl", {})
    steps = [row["global_step"] for row in table["rows"]]
    return {
        "experiment": experiment(run),
        "metrics_summary": {
            "total_data_points": len(steps),
            "available_metrics": table["columns"][1:],
            "step_range": {"min": min(steps), "max": max(steps)} if steps else None,
        },
        "environment_available": (run / "environment.json").exists(),
        "file_count": len(list(run.rglob("*"))),
    }
