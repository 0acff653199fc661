"""What one ``log()`` of three scalars costs, beside a bare ``os.write`` of the same line.

    python benchmarks/log_call.py [--calls 50000] [--rounds 7]

*interleaved*: the two take turns, call by call, as in a training loop that does something else in
between; both then start with equally cold caches. *tight loop*: thousands of the same call in a
row, in turns of rounds, which a bare system call likes most. Both files lie in the same folder,
both descriptors are opened with ``O_APPEND``. The clock's own cost is taken off.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns as clock

import runicorn as rn

VALUES = {"loss": 0.5123, "accuracy": 0.91234, "lr": 0.001}


def interleaved(call: Callable[[], object], bare: Callable[[], object], calls: int) -> list[float]:
    """Median microseconds of (call, bare)."""
    taken: list[list[int]] = [[], [], []]
    for _ in range(calls):
        t0 = clock()
        t1 = clock()
        bare()
        t2 = clock()
        call()
        t3 = clock()
        for times, time in zip(taken, (t1 - t0, t2 - t1, t3 - t2), strict=True):
            times.append(time)
    nothing, bare_ns, call_ns = map(statistics.median, taken)
    return [(call_ns - nothing) / 1000, (bare_ns - nothing) / 1000]


def tight(call: Callable[[], object], bare: Callable[[], object], calls: int) -> list[float]:
    """Microseconds of (call, bare), each in a loop of its own."""
    taken = []
    for function in (call, bare):
        start = clock()
        for _ in range(calls):
            function()
        taken.append((clock() - start) / calls / 1000)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50_000, help="calls in one round")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; the median counts")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        run = rn.init(storage=folder, capture_env=False)
        run.log(VALUES)
        line = (run.run_dir / "events.jsonl").read_bytes()
        descriptor = os.open(Path(folder, "bare"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        write = os.write

        def bare() -> None:
            write(descriptor, line)

        print(f"{len(line)} bytes a line, {args.calls} calls, {args.rounds} rounds\n")
        print(f"{'':30}{'log()':>10}{'os.write':>12}{'ratio':>8}")
        for name, log in (("run.log()", run.log), ("runicorn.log()", rn.log)):

            def call(log: Callable[..., None] = log) -> None:
                log(VALUES)

            for how in (interleaved, tight):
                rounds = [how(call, bare, args.calls) for _ in range(args.rounds)]
                ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
                ratio = statistics.median(one / other for one, other in rounds)
                label = f"{name}, {how.__name__}"
                print(f"{label:30}{ours:>7.2f} µs{theirs:>9.2f} µs{ratio:>8.2f}")
        os.close(descriptor)
        run.finish()


if __name__ == "__main__":
    main()
