"""Taking in 10,000 runs of 10 steps, and listing them, beside Runicorn 0.4.0 on the same folder.

    python benchmarks/many_runs.py [--runs 10000] [--no-peer]

To reach: taken in within 60 s and 300 MB; the list at least ten times as fast as 0.4.0's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import httpx
from common import median_ms, peer, server, table, viewer, wait_until, write_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--no-peer", action="store_true", help="leave Runicorn 0.4.0 out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_runs(root, args.runs)
        ours = measure_ours(root)
        theirs = None if args.no_peer else measure_peer(root)
    table(
        [
            ("", "here", "0.4.0", "ratio"),
            ("first answer, s", f"{ours['first']:.2f}", "", ""),
            ("all taken in, s", f"{ours['taken_in']:.1f}", "", ""),
            ("peak memory, MB", f"{ours['memory']:.0f}", "", ""),
            *compare("GET /api/runs, ms", "list", ours, theirs),
            *compare("GET /api/runs/{id}, ms", "detail", ours, theirs),
        ]
    )


def compare(title: str, key: str, ours: dict[str, float], theirs: dict[str, float] | None):
    if theirs is None:
        return [(title, f"{ours[key]:.1f}", "", "")]
    ratio = f"{theirs[key] / ours[key]:.0f} times as fast"
    return [(title, f"{ours[key]:.1f}", f"{theirs[key]:.1f}", ratio)]


def measure_ours(root: Path) -> dict[str, float]:
    with viewer(root) as running:
        first = time.monotonic() - running.started

        def is_done() -> bool:
            time.sleep(0.3)  # asking is work for the server, too
            return httpx.get(f"{running.url}/api/health").json()["intake"]["state"] == "watching"

        wait_until(is_done)
        taken_in = time.monotonic() - running.started
        memory = running.peak_megabytes()
        return {"first": first, "taken_in": taken_in, "memory": memory, **requests(running.url)}


def measure_peer(root: Path) -> dict[str, float] | None:
    python = peer("runicorn==0.4.0")
    if python is None:
        return None
    code = "import sys; from runicorn.cli import main; sys.exit(main())"
    command = [python, "-c", code, "viewer", "--storage", root, "--port", "{port}"]
    with server(command) as running:
        return requests(running.url)


def requests(url: str) -> dict[str, float]:
    with httpx.Client(base_url=url, timeout=60) as client:
        run_id = client.get("/api/runs").json()[0]["id"]
        return {
            "list": median_ms(lambda: client.get("/api/runs").read(), 7),
            "detail": median_ms(lambda: client.get(f"/api/runs/{run_id}").read(), 20),
        }


if __name__ == "__main__":
    main()
