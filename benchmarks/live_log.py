"""From a line in ``logs.txt`` to a WebSocket client, with 100 clients connected.

    python benchmarks/live_log.py [--clients 100] [--lines 50]

To reach: a median under 50 ms over all lines and clients. The peer is the same line through a bare
pipe of the operating system to a waiting thread: what no server can go below.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

from common import table, viewer, write_runs
from websockets.asyncio.client import connect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--lines", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_runs(root, 1)
        [run] = root.glob("*/*/runs/*")
        (run / "logs.txt").write_text("start\n")
        with viewer(root) as running:
            url = f"{running.url.replace('http', 'ws')}/api/runs/{run.name}/logs/ws"
            delays = asyncio.run(follow(url, run / "logs.txt", args.clients, args.lines))
    pipe = through_pipe(args.lines)
    delays.sort()
    table(
        [
            ("", "median", "95 %", "slowest"),
            ("line to client, ms", *(f"{1000 * d:.1f}" for d in spread(delays))),
            ("line through a pipe, ms", *(f"{1000 * d:.3f}" for d in spread(pipe))),
        ]
    )
    print(f"{len(delays)} lines received by {args.clients} clients of {args.lines} written.")


def spread(delays: list[float]) -> tuple[float, float, float]:
    ordered = sorted(delays)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.95)], ordered[-1]


async def follow(url: str, log: Path, clients: int, lines: int) -> list[float]:
    """Seconds from the write of each line to its arrival, for every client."""
    ready = asyncio.Barrier(clients + 1)

    async def client() -> list[float]:
        async with connect(url) as socket:
            assert await socket.recv() == "start"
            await ready.wait()
            delays = []
            for _ in range(lines):
                sent = float(await socket.recv())
                delays.append(time.perf_counter() - sent)
            return delays

    async def write() -> None:
        await ready.wait()
        with log.open("ab", buffering=0) as file:
            for _ in range(lines):
                await asyncio.sleep(0.05)
                file.write(b"%.9f\n" % time.perf_counter())

    *received, _ = await asyncio.gather(*(client() for _ in range(clients)), write())
    return [delay for delays in received for delay in delays]


def through_pipe(lines: int) -> list[float]:
    reader, writer = os.pipe()
    delays: list[float] = []

    def read() -> None:
        for _ in range(lines):
            written = float(os.read(reader, 64))
            delays.append(time.perf_counter() - written)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(lines):
        time.sleep(0.005)
        os.write(writer, b"%.9f\n" % time.perf_counter())
    thread.join()
    return delays


if __name__ == "__main__":
    main()
