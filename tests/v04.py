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
