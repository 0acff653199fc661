"""What the benchmarks share: storage roots made up on the spot, a server, and tables."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil


def write_runs(root: Path, count: int, steps: int = 10) -> None:
    """*count* finished runs of *steps* steps with three scalars, in 20 projects."""
    for number in range(count):
        name = f"20260101_{number // 3600 % 24:02d}{number // 60 % 60:02d}{number % 60:02d}"
        folder = root / f"project-{number % 20}" / f"exp-{number % 7}" / "runs"
        run = folder / f"{name}_{number:06x}"
        (run / "media").mkdir(parents=True)
        meta = {"id": run.name, "project": f"project-{number % 20}", "name": f"exp-{number % 7}"}
        meta |= {"created_at": 1.7e9 + number, "hostname": "elsewhere", "pid": 1000 + number}
        (run / "meta.json").write_text(json.dumps(meta))
        (run / "status.json").write_text('{"status": "finished", "started_at": 1.7e9}')
        best = {"best_metric_name": "loss", "best_metric_value": 0.5, "best_metric_step": 3}
        (run / "summary.json").write_text(json.dumps(best | {"best_metric_mode": "min"}))
        lines = []
        for step in range(1, steps + 1):
            now = 1.7e9 + number + step
            data = {"loss": 1 / step, "accuracy": 1 - 1 / step, "lr": 0.1, "global_step": step}
            lines.append(json.dumps({"ts": now, "type": "metrics", "data": data | {"time": now}}))
        (run / "events.jsonl").write_text("\n".join(lines) + "\n")


@dataclass
class Server:
    url: str
    process: psutil.Process
    started: float

    def peak_megabytes(self) -> float:
        """The most memory that the process has held at once (Linux)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    def memory(self) -> dict[str, float]:
        """MB now: resident, and what of that belongs to no file (Linux).

        Of a database that is mapped into memory the system keeps what it likes to, and takes it
        back when it wants to: it counts as resident, but nobody has to have it.
        """
        found = {}
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0]) / 1024 if rest.endswith("kB") else 0.0
        return {"resident": found["Rss"], "shared out": found["Pss"], "own": found["Anonymous"]}


@contextmanager
def server(command: Sequence[str | Path], path: str = "/api/health") -> Iterator[Server]:
    """A server started by *command* (``{port}`` stands for a free port), once it answers *path*."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        config = Path(home) / "runicorn"
        config.mkdir()
        limits = {"settings": {"enable_rate_limiting": False}}
        (config / "rate_limits.json").write_text(json.dumps(limits))
        started = time.monotonic()
        process = subprocess.Popen(
            [str(part).format(port=port) for part in command],
            env=os.environ | {"XDG_CONFIG_HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running = Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid), started)
        try:
            wait_until(lambda: _answers(running.url + path))
            yield running
        finally:
            process.terminate()
            process.wait()


def viewer(root: Path) -> Any:
    """Our own server on *root*."""
    command = [sys.executable, "-m", "runicorn", "viewer", "--storage", root, "--port", "{port}"]
    return server(command)


@contextmanager
def mlflow(folder: Path, runs: int) -> Iterator[httpx.Client | None]:
    """A client of MLflow with *runs* runs in a database in *folder*; None if it cannot be had."""
    if (python := peer("mlflow")) is None:
        yield None
        return
    script = Path(__file__).with_name("mlflow_runs.py")
    command = [python, script, folder / "mlflow.sqlite3", str(runs), "{port}"]
    headers = {"Accept-Encoding": "identity"}
    with (
        server(command, "/health") as running,
        httpx.Client(base_url=running.url, headers=headers, timeout=300) as client,
    ):
        yield client


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("The server did not get there in time.")
        time.sleep(0.02)


def median_ms(work: Callable[[], Any], repeat: int) -> float:
    """The median of *repeat* calls in milliseconds, after one call that does not count."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def table(rows: Sequence[Sequence[object]]) -> None:
    """Print *rows*, the first of which is the heading."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)))


def peer(requirement: str) -> Path | None:
    """The Python of an environment of its own with *requirement* from PyPI, kept between runs."""
    folder = Path(tempfile.gettempdir()) / f"bench-{requirement.replace('==', '-')}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "-q", requirement]
        if subprocess.run(install).returncode:
            return None
        (folder / "ready").touch()
    return python
