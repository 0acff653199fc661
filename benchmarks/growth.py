"""One chart of 1,000 points, of series of 10⁴, 10⁶ and 10⁸ points.

    python benchmarks/growth.py [--points 10000 1000000 100000000]

To reach: nearly the same time at every length. The points are written by the store's own writer
(``metrics.write``), a million at a time, because 10⁸ lines of JSON would be 10 GB of text; what
is read is the same as after indexing a file. *new question*: another range of steps each time, so
that no kept answer helps. *orjson*: writing the 1,000 rows of such an answer, which is the least.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
from common import median_ms, table, viewer, wait_until

HEADERS = {"Accept-Encoding": "identity"}
AT_ONCE = 2**20


def write(root: Path, run_id: str, points: int) -> None:
    """Runs in a process of its own, with Django set up for *root*."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction

    from metrics.columns import Column
    from metrics.write import Events, append_many
    from runs.ingest import folder_source
    from runs.models import Run

    call_command("migrate", verbosity=0)
    directory = f"growth/long/runs/{run_id}"
    folder = root / directory
    folder.mkdir(parents=True)
    meta = {"id": run_id, "created_at": 1.7e9, "hostname": "elsewhere", "pid": 1}
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "status.json").write_text('{"status": "finished"}')
    folder_source.index_run(directory)
    run = Run.objects.get(directory=directory)
    for first in range(0, points, AT_ONCE):
        at = np.arange(first, min(first + AT_ONCE, points))
        values = np.sin(at / 5000) + at % 7 / 10
        values[at == points // 3] = 99.5
        values[at == points // 2] = -99.5
        column = Column(at - first, values, np.zeros(len(at), np.uint8), [])
        with transaction.atomic():
            append_many([(run.pk, first, Events(at + 1, 1.7e9 + at / 10, {"loss": column}))])
    Run.objects.filter(pk=run.pk).update(event_count=points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    lengths = [10**4, 10**6, 10**8]
    parser.add_argument("--points", type=int, nargs="+", default=lengths)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--folder", help="where to write: 26 bytes a point (a temporary folder)")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write(Path(os.environ["RUNICORN_DIR"]), args.write, args.points[0])
        return
    rows: list[tuple[object, ...]] = [
        ("points", "written, s", "first, ms", "again, ms", "new question, ms", "memory, MB")
    ]
    for number, points in enumerate(args.points):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            run_id = f"20260101_000000_{number:06x}"
            environment = {"RUNICORN_DIR": folder, "DJANGO_SETTINGS_MODULE": "settings.local"}
            start = time.perf_counter()
            command = [sys.executable, __file__, "--write", run_id, "--points", str(points)]
            subprocess.run(command, check=True, env=os.environ | environment)
            rows.append(
                (
                    f"{points:,}",
                    f"{time.perf_counter() - start:.1f}",
                    *read(folder, run_id, points, args.repeat),
                )
            )
    table(rows)
    shown = [{"global_step": step, "loss": step / 7} for step in range(1000)]
    print(f"orjson of 1,000 rows: {median_ms(lambda: orjson.dumps(shown), args.repeat):.2f} ms")


def read(folder: str, run_id: str, points: int, repeat: int) -> tuple[str, ...]:
    path = f"/api/v2/experiments/{run_id}/metrics/fast?downsample=1000&metric_names=loss"
    with viewer(Path(folder)) as running:
        health = f"{running.url}/api/health"
        wait_until(lambda: httpx.get(health).json()["ingest"]["state"] == "watching")
        with httpx.Client(base_url=running.url, timeout=600, headers=HEADERS) as client:
            client.get("/api/health")
            start = time.perf_counter()
            values = [row["loss"] for row in client.get(path).json()["rows"]]
            first = (time.perf_counter() - start) * 1000
            assert (min(values), max(values)) == (-99.5, 99.5), "the extremes are not exact"
            again = median_ms(lambda: client.get(path).read(), repeat)
            starts = itertools.count(2)
            new = median_ms(
                lambda: client.get(f"{path}&step_range={next(starts)}:{points - 1}").read(), repeat
            )
        memory = running.peak_megabytes()
    return (*(f"{value:.1f}" for value in (first, again, new)), f"{memory:.0f}")


if __name__ == "__main__":
    main()
