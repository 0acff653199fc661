"""Indexing one ``events.jsonl`` of 1,000,000 steps, beside parsing its lines alone.

    python benchmarks/indexing.py [--steps 1000000] [--rounds 5]

In turns, because the machine is faster at one time than at another; the median counts. To reach:
under three times the parse.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from reading import write_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        first = root / f"p/long/runs/{write_run(root, 1, args.steps, 1, 'p')}"
        os.environ |= {"RUNICORN_DIR": folder, "DJANGO_SETTINGS_MODULE": "settings.local"}
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

        import django

        django.setup()
        from django.core.management import call_command

        from runs.ingest import folder_source

        call_command("migrate", verbosity=0)
        ratios = []
        for number in range(args.rounds):
            run = first.with_name(f"round_{number}")
            shutil.copytree(first, run, copy_function=os.link)
            parse = seconds(lambda: parse_alone(first / "events.jsonl"))
            took = seconds(lambda run=run: index_run(folder_source, str(run.relative_to(root))))
            ratios.append(took / parse)
            print(f"parse {parse:.2f} s, indexed {took:.2f} s: {ratios[-1]:.2f} times the parse")
    print(f"median: {statistics.median(ratios):.2f} times")


def parse_alone(path: Path) -> None:
    with path.open("rb") as lines:
        for line in lines:
            orjson.loads(line)


def index_run(folders: Any, directory: str) -> None:
    while folders.index_run(directory):
        pass


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
