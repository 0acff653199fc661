"""Taking in one ``events.jsonl`` of 1,000,000 steps, beside parsing its lines alone.

    python benchmarks/taking_in.py [--steps 1000000]

To reach: under three times the parse.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import orjson
from reading import write_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = write_run(root, 1, steps, 1, "p")
        directory = f"p/long/runs/{run}"
        lines = (root / directory / "events.jsonl").read_bytes().splitlines()
        start = time.perf_counter()
        for line in lines:
            orjson.loads(line)
        parse = time.perf_counter() - start
        del lines
        os.environ |= {"RUNICORN_DIR": folder, "DJANGO_SETTINGS_MODULE": "settings.local"}
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

        import django

        django.setup()
        from django.core.management import call_command

        from runs import folders

        call_command("migrate", verbosity=0)
        start = time.perf_counter()
        while folders.take_in(directory):
            pass
        took = time.perf_counter() - start
    print(f"parse {parse:.2f} s, taken in {took:.2f} s: {took / parse:.2f} times the parse")


if __name__ == "__main__":
    main()
