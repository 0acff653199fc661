"""Saving artifacts, beside cp, hashlib.sha256 and Runicorn 0.4.0 in the same run.

    python benchmarks/artifacts.py [--mebibytes 1024] [--files 10000] [--repeat 3]

Each figure is the best of several, taken in turns, because other work on the machine and the
disk's write-back only ever add. Everything lies in one temporary folder (--folder says where).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import peer, table

SAVE = """
import sys, time
import runicorn as rn
root, source, again = sys.argv[1:]
run = (rn.Run if hasattr(rn, "Run") else rn.init)(project="p", storage=root, capture_env=False)
for _ in range(1 + int(again)):
    start = time.perf_counter()
    artifact = rn.Artifact("bench", "dataset")
    import pathlib
    (artifact.add_dir if pathlib.Path(source).is_dir() else artifact.add_file)(source)
    run.log_artifact(artifact)
    print("took", time.perf_counter() - start)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print("peak", int(line.split()[1]) / 1024)
run.finish()
"""


def save(python: str | Path, folder: Path, source: Path) -> tuple[float, float, float]:
    """(first, again) in seconds and the peak memory in MiB of a process that saves twice."""
    root = Path(tempfile.mkdtemp(dir=folder))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", SAVE, root, source, "1"],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | {"XDG_CONFIG_HOME": str(folder)},
    )
    shutil.rmtree(root)
    said = [line.split() for line in done.stdout.splitlines()]
    took = [float(words[1]) for words in said if words[:1] == ["took"]]
    peak = next(float(words[1]) for words in said if words[:1] == ["peak"])
    return took[0], took[1], peak


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def copy(folder: Path, source: Path) -> float:
    target = folder / "copied"
    took = seconds(lambda: subprocess.run(["cp", "-r", source, target], check=True))
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return took


def hashed(source: Path) -> float:
    paths = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]

    def work() -> None:
        for path in paths:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")

    return seconds(work)


def compare(title: str, folder: Path, source: Path, other: Path | None, repeat: int) -> None:
    figures: dict[str, list[float]] = {}
    for _ in range(repeat):
        figures.setdefault("sha256", []).append(hashed(source))
        figures.setdefault("cp", []).append(copy(folder, source))
        for name, python in (("ours", sys.executable), ("0.4.0", other)):
            if python:
                first, again, peak = save(python, folder, source)
                figures.setdefault(f"{name}, first", []).append(first)
                figures.setdefault(f"{name}, again", []).append(again)
                figures.setdefault(f"{name}, peak MiB", []).append(peak)
    best = {name: min(values) for name, values in figures.items()}
    print(f"\n{title}")
    rows = [("", "best", "of sha256", "of cp", "all")]
    for name, value in best.items():
        ratios = ("", "")
        if "peak" not in name:
            ratios = (f"{value / best['sha256']:.2f}", f"{value / best['cp']:.2f}")
        shown = " ".join(f"{each:.2f}" for each in figures[name])
        rows.append((name, f"{value:.2f}", *ratios, shown))
    table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", help="where to write (a temporary folder)")
    options = parser.parse_args()
    other = peer("runicorn==0.4.0")
    with tempfile.TemporaryDirectory(prefix="bench-artifacts-", dir=options.folder) as name:
        folder = Path(name)
        large, many = folder / "large.bin", folder / "many"
        with large.open("wb") as file:
            for _ in range(options.mebibytes):
                file.write(os.urandom(2**20))
        for number in range(options.files):
            path = many / f"{number % 100:02d}" / f"{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(4096))
        os.sync()
        compare(f"One file of {options.mebibytes} MiB", folder, large, other, options.repeat)
        compare(f"{options.files:,} files of 4 KiB", folder, many, other, options.repeat)


if __name__ == "__main__":
    main()
