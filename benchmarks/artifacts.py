"""Saving artifacts, beside cp, hashlib.sha256 and Runicorn 0.4.0 in the same run.

    python benchmarks/artifacts.py [--mebibytes 1024] [--files 10000] [--repeat 3]

Saving takes turns, and each is compared with a hashing and a copying right before it: what the disk
and the machine can do changes from minute to minute. What was written before is flushed to the disk
first, also between the first saving and the one again. The ratios are medians of these pairs.

Many small files are only removed at the end. ext4 does not give the inodes of removed files to
new ones for some seconds, and looks through them each time: after the removal of 10,000, making as
many took 4 to 6 s of the kernel's time instead of 0.4, and told nothing of who made them.
Everything lies in one temporary folder (--folder says where).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import peer, table

SAVE = """
import os, pathlib, sys, time
import runicorn as rn
root, source, again = sys.argv[1:]
rn.Artifact  # imports what it needs: 0.4.0 has done so already
run = (rn.Run if hasattr(rn, "Run") else rn.init)(project="p", storage=root, capture_env=False)
for _ in range(1 + int(again)):
    os.sync()
    start = time.perf_counter()
    artifact = rn.Artifact("bench", "dataset")
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
    if source.is_file():
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
    target = Path(tempfile.mkdtemp(dir=folder)) / "copied"
    took = seconds(lambda: subprocess.run(["cp", "-r", source, target], check=True))
    if source.is_file():
        target.unlink()
    return took


def hashed(source: Path) -> float:
    paths = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]

    def work() -> None:
        for path in paths:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")

    return seconds(work)


def settled() -> None:
    """What was written before is on the disk: nobody pays for his predecessor."""
    os.sync()


def compare(title: str, folder: Path, source: Path, other: Path | None, repeat: int) -> None:
    """Each saving right after a hashing and a copying of its own, with which it is compared."""
    figures: dict[str, list[float]] = {}
    of_both: dict[str, list[float]] = {}
    of_cp: dict[str, list[float]] = {}

    def note(name: str, took: float, sha256: float, cp: float) -> None:
        figures.setdefault(name, []).append(took)
        of_both.setdefault(name, []).append(took / (sha256 + cp))
        of_cp.setdefault(name, []).append(took / cp)

    pythons = [("ours", sys.executable)] + ([("0.4.0", other)] if other else [])
    peaks: dict[str, float] = {}
    for number in range(repeat):
        for name, python in pythons if number % 2 else reversed(pythons):
            settled()
            sha256 = hashed(source)
            settled()
            cp = copy(folder, source)
            settled()
            first, again, peak = save(python, folder, source)
            note("sha256", sha256, sha256, cp)
            note("cp", cp, sha256, cp)
            note(f"{name}, first", first, sha256, cp)
            note(f"{name}, again", again, sha256, cp)
            peaks[name] = max(peak, peaks.get(name, 0))
    print(f"\n{title}")
    rows: list[Sequence[str]] = [
        ("", "best", "median", "of sha256 + cp", "of cp", "of sha256, best", "all")
    ]
    for name in sorted(figures, key=lambda name: (name[0] in "o0", name)):
        took = figures[name]
        rows.append(
            (
                name,
                f"{min(took):.2f}",
                f"{statistics.median(took):.2f}",
                f"{statistics.median(of_both[name]):.2f}",
                f"{statistics.median(of_cp[name]):.2f}",
                f"{min(took) / min(figures['sha256']):.2f}",
                " ".join(f"{each:.2f}" for each in took),
            )
        )
    table(rows)
    print("Most memory at once, MiB:", ", ".join(f"{n} {m:.0f}" for n, m in peaks.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=("large", "many"), help="one of the two parts")
    parser.add_argument("--folder", help="where to write (a temporary folder)")
    options = parser.parse_args()
    other = peer("runicorn==0.4.0")
    with tempfile.TemporaryDirectory(prefix="bench-artifacts-", dir=options.folder) as name:
        folder = Path(name)
        large, many = folder / "large.bin", folder / "many"
        if options.only != "many":
            with large.open("wb") as file:
                for _ in range(options.mebibytes):
                    file.write(os.urandom(2**20))
            compare(f"One file of {options.mebibytes} MiB", folder, large, other, options.repeat)
        if options.only != "large":
            for number in range(options.files):
                path = many / f"{number % 100:02d}" / f"{number}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(4096))
            compare(f"{options.files:,} files of 4 KiB", folder, many, other, options.repeat)


if __name__ == "__main__":
    main()
