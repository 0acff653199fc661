"""How far a mirror is behind when several hundred runs of a host are written to at once.

    python benchmarks/living_mirror.py [--runs 300] [--seconds 60] [--latency 20]

Each run there gets an event and a line of its log every second, over a real OpenSSH server behind
a proxy that adds *latency* milliseconds to each round trip. A whole viewer mirrors them. How old
the newest event is that a run has here is asked of its file, every half second of all runs, and of
the API, for one run after the other. To reach: under 3 s.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import httpx  # noqa: E402
import psutil  # noqa: E402
from common import table, wait_until, write_runs  # noqa: E402
from sync import Proxy  # noqa: E402

from tests.servers import sshd, viewer  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--latency", type=float, default=20, help="ms added to a round trip")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-living-") as name:
        folder = Path(name)
        (folder / "home" / ".ssh").mkdir(parents=True)
        (folder / "local").mkdir()
        with (
            sshd(folder / "sshd") as host,
            viewer(folder / "local", HOME=str(folder / "home")) as server,
            httpx.Client(base_url=f"{server.url}/api", trust_env=False, timeout=60) as http,
        ):
            proxy = Proxy(host.port, args.latency / 2000)
            there = folder / "there"
            write_runs(there, args.runs, steps=1)
            runs = sorted(there.glob("*/*/runs/*"))
            for run in runs:
                (run / "status.json").write_text('{"status": "running"}')
                (run / "logs.txt").write_text("begins\n")
            login = {"host": "127.0.0.1", "port": proxy.port, "username": getpass.getuser()}
            login |= {"private_key_path": str(host.key), "use_agent": False}
            key = http.post("/unified/connect", json=login).json()["detail"]["host_key"]
            http.post("/remote/known-hosts/accept", json=key).raise_for_status()
            http.post("/unified/connect", json=login).raise_for_status()
            mode = {"mode": "mirror", "remote_root": str(there)}
            http.post("/unified/configure_mode", json=mode).raise_for_status()
            local = [folder / "local" / run.relative_to(there) for run in runs]
            wait_until(lambda: all((run / "events.jsonl").exists() for run in local))
            ended = threading.Event()
            writer = threading.Thread(target=write, args=(runs, ended))
            writer.start()
            try:
                since = time.time()
                wait_until(lambda: all(newest(run / "events.jsonl") > since for run in local))
                time.sleep(2)
                measure(http, server.process.pid, local, args.seconds)
            finally:
                ended.set()
                writer.join()
                proxy.process.terminate()


def write(runs: list[Path], ended: threading.Event) -> None:
    """An event and a line of each run a second, in turn, not all at once."""
    step = 1
    while not ended.is_set():
        began = time.time()
        step += 1
        for number, run in enumerate(runs):
            now = time.time()
            data = {"loss": 1 / step, "accuracy": 0.5, "global_step": step, "time": now}
            append(run / "events.jsonl", json.dumps({"ts": now, "type": "metrics", "data": data}))
            append(run / "logs.txt", f"step {step}: loss {1 / step}")
            time.sleep(max(0.0, began + (number + 1) / len(runs) - time.time()))


def append(path: Path, line: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def measure(http: httpx.Client, pid: int, runs: list[Path], seconds: float) -> None:
    process = psutil.Process(pid)
    process.cpu_percent()
    scans, began = looks(http), time.monotonic()
    files: list[float] = []
    answers: list[float] = []
    chance = random.Random(1)
    while time.monotonic() - began < seconds:
        for run in runs:
            files.append(time.time() - newest(run / "events.jsonl"))
        for run in chance.sample(runs, 5):
            rows: Any = http.get(f"/runs/{run.name}/metrics_step").json()["rows"]
            answers.append(time.time() - max(row["time"] for row in rows))
        time.sleep(0.5)
    took = time.monotonic() - began
    rows = [("behind, s", "median", "99 of 100", "worst")]
    for name, found in (("file", files), ("API", answers)):
        found.sort()
        late = found[int(0.99 * len(found))]
        rows.append((name, *(f"{n:.2f}" for n in (statistics.median(found), late, found[-1]))))
    table(rows)
    print(f"{(looks(http) - scans) / took:.2f} looks a second, ", end="")
    print(f"{process.cpu_percent():.0f} % of a core in the viewer")


def newest(path: Path) -> float:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1000))
        whole = file.read().rpartition(b"\n")[0]  # the last line may be on its way
        return float(json.loads(whole.splitlines()[-1])["ts"])


def looks(http: httpx.Client) -> int:
    (task,) = http.get("/unified/status").json()["modes"]["mirror"]["tasks"]
    return int(task["stats"]["scans"])


if __name__ == "__main__":
    main()
