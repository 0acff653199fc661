"""Many small files: a second process copies a share of them.

What ten thousand small files take is the kernel's time, call by call. Threads do not help: each
of those calls lets go of the interpreter and has to win it back, so on two cores two threads took
as long as one, and four took twice as long. A process has an interpreter of its own: with one they
took little more than half.

The process loads ``pool.py`` and this file, and nothing of the training script. It reads batches of
(source, target), a line of JSON each, and answers each with a line. What it cannot do (a large
file, an error, its own end) is left to the caller, who finds out what is wrong with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from .pool import Pool, Stored

    One = Callable[[str | os.PathLike[str], str], Stored]
    Pair = tuple[str | os.PathLike[str], str]

MANY = 1000
"""From so many files on, starting a process (some 30 ms) pays."""

_BATCH = 100

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); import helper, pool;"
    " helper.serve(pool.Pool(pool.Path(sys.argv[2])), sys.stdin, sys.stdout)"
)


def store_all(pool: Pool, pairs: Sequence[Pair], one: One, lock: int | None) -> list[Stored]:
    """Do *one* for each of *pairs* (source, target); what it returns, in their order.

    *lock*: a file descriptor that tells others that somebody is at work here. The helper holds it
    as well, so that it still tells so when this process is killed first.
    """
    if len(pairs) < MANY or not _may_help():
        return [one(*pair) for pair in pairs]
    found: list[Stored | None] = [None] * len(pairs)
    waiting = deque(range(0, len(pairs), _BATCH))
    asking = threading.Thread(target=_let_help, args=(pool, pairs, waiting, found, lock))
    asking.start()
    try:
        while (start := _next(waiting)) is not None:
            for index in range(start, min(start + _BATCH, len(pairs))):
                found[index] = one(*pairs[index])
    finally:
        waiting.clear()
        asking.join()
    return [done or _anew(one, *pair) for done, pair in zip(found, pairs, strict=True)]


def _may_help() -> bool:
    """Whether there is a second core, and a Python to start on it.

    In a program with Python inside, ``sys.executable`` is that program.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    is_python = Path(sys.executable or "").name.lower().startswith("python")
    return (cores or 1) > 1 and is_python and not getattr(sys, "frozen", False)


def _next(waiting: deque[int]) -> int | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _let_help(
    pool: Pool,
    pairs: Sequence[Pair],
    waiting: deque[int],
    found: list[Stored | None],
    lock: int | None,
) -> None:
    """Give batches to a process as long as there are any; what it leaves stays None."""
    from .pool import Stored

    here = str(Path(__file__).resolve().parent)
    with (
        suppress(OSError, ValueError),  # it cannot be started, or it is gone
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, here, str(pool.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=() if lock is None else (lock,),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            text=True,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        while (start := _next(waiting)) is not None:
            batch = [(str(source), to) for source, to in pairs[start : start + _BATCH]]
            process.stdin.write(f"{json.dumps(batch)}\n")
            process.stdin.flush()
            answers = json.loads(process.stdout.readline())
            found[start : start + _BATCH] = [each and Stored(*each) for each in answers]


def _anew(one: One, source: str | os.PathLike[str], target: str) -> Stored:
    """Do what the helper left, over what it may have begun."""
    Path(target).unlink(missing_ok=True)
    return one(source, target)


def serve(pool: Pool, asked: IO[str], answers: IO[str]) -> None:
    """The helper: store what is asked for until the input ends."""
    for line in asked:
        answers.write(f"{json.dumps([_stored(pool, *pair) for pair in json.loads(line)])}\n")
        answers.flush()


def _stored(pool: Pool, source: str, target: str) -> tuple[str, int, float | None] | None:
    try:
        done = pool.store(source, target, is_likely=_leave)
    except OSError:
        return None
    return done.digest, done.size, done.modified_at


def _leave(size: int) -> NoReturn:
    """Asked of large files: their copy is two threads' work already."""
    raise OSError
