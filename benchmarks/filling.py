"""An index of many runs without their folders: what lists, filters and questions are measured on.

    python benchmarks/filling.py FOLDER [--runs 100000]

The rows are those that indexing writes, by the functions it writes them with (``bulk_create``
for runs, ``metrics.rows.insert`` for the many small ones): 100,000 runs with 1.3 million rows
around them take one to two minutes, where making and reading 100,000 folders takes many more. The
runs are server-held (they have no folder), so a viewer started on FOLDER leaves them alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

AT_ONCE = 5000
DAY = 86_400
TAGS = ("baseline", "draft", "best", "paper", "夜间")
STATUSES = ("finished",) * 17 + ("failed",) * 2 + ("interrupted",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=100_000)
    args = parser.parse_args()
    start = time.perf_counter()
    fill(args.folder, args.runs)
    print(f"{args.runs:,} runs in {time.perf_counter() - start:.1f} s")


def fill(folder: Path, count: int) -> None:
    """Once a process: Django knows one storage root."""
    os.environ |= {"RUNICORN_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "settings.local"}
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection, transaction

    from runs.models import Project

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:  # whoever fills it can fill it again
        cursor.execute("PRAGMA synchronous=OFF")
        cursor.execute("PRAGMA cache_size=-1000000")
    Project.objects.bulk_create(Project(name=f"project-{number:02d}") for number in range(50))
    projects = list(Project.objects.order_by("name"))
    dice = random.Random(0)
    for first in range(0, count, AT_ONCE):
        with transaction.atomic():
            _write(projects, range(first, min(first + AT_ONCE, count)), dice)


def _write(projects, numbers, dice: random.Random) -> None:
    from metrics.models import Series
    from metrics.rows import insert
    from runs.finding.fulltext import text_of
    from runs.ingest.folder_source import listing_key
    from runs.models import Param, Run, SummaryValue, Tag, to_datetime

    now = time.time()
    runs, series, params, summary, tags = [], [], [], [], []
    for number in numbers:
        project = projects[dice.randrange(len(projects))]
        name = f"{('resnet', 'vit', 'unet', '检测')[number % 4]}-{dice.randrange(40)}"
        created = now - dice.random() * 365 * DAY
        seconds = dice.expovariate(1 / 3600)
        stamp = datetime.fromtimestamp(created, UTC).strftime("%Y%m%d_%H%M%S")
        run = Run(
            run_id=f"{stamp}_{number:06x}",
            project=project,
            name=name,
            listing_key=listing_key(project.name, name),
            directory_mtime=created,
            status=STATUSES[number % len(STATUSES)],
            started_at=to_datetime(created),
            ended_at=to_datetime(created + seconds),
            duration=seconds,
            pid=1000 + number,
            hostname="elsewhere",
            best_metric_name="accuracy",
            best_metric_value=dice.random(),
            best_metric_step=dice.randrange(100),
            best_metric_mode="max",
            notes=f"第 {number} 次, lower learning rate" if number % 50 == 0 else "",
            deleted_at=to_datetime(now) if number % 50 == 1 else None,
        )
        run.date(created)
        run.search_text = text_of(run, _tags(number))
        runs.append(run)
    Run.objects.bulk_create(runs)
    for number, run in zip(numbers, runs, strict=True):
        for key in ("loss", "accuracy", "lr"):
            low = dice.random()
            series.append((run.pk, key, 10, 10, 10, 10, True, 1.0, 1, low, 10, low, 10, 1.0, 1))
        values = {"lr": dice.random(), "batch": 2 ** dice.randrange(8), "seed": number}
        values |= {"optimizer.name": dice.choice(["adam", "sgd"]), "depth": 18, "amp": True}
        params += [_leaf(run.pk, key, value) for key, value in values.items()]
        values = {"best_metric_name": "accuracy", "best_metric_value": run.best_metric_value}
        values |= {"final_loss": dice.random(), "note": "first try"}
        summary += [_leaf(run.pk, key, value) for key, value in values.items()]
        tags += [(run.pk, tag, "") for tag in _tags(number)]
    statistics = ("first_value", "first_step", "last_value", "last_step")
    extremes = ("min_value", "min_step", "max_value", "max_step")
    counts = ("count", "number_count", "finite_count", "point_count", "is_ascending")
    insert(Series, ("run", "key", *counts, *statistics, *extremes), series)
    insert(Param, ("run", "key", "value", "number"), params)
    insert(SummaryValue, ("run", "key", "value", "number"), summary)
    insert(Tag, ("run", "key", "value"), tags)


def _tags(number: int) -> list[str]:
    if number % 3:
        return []
    return sorted({TAGS[number // 3 % len(TAGS)], TAGS[number // 7 % len(TAGS)]})


def _leaf(run_pk: int, key: str, value: object) -> tuple:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return run_pk, key, json.dumps(value), float(value) if is_number else None  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
