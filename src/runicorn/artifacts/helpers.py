"""Many small files: processes of their own copy them.

What ten thousand small files take is the kernel's time, call by call. Threads do not help: each
of those calls lets go of the interpreter and has to win it back, so on two cores two threads took
as long as one, and four took twice as long. A process has an interpreter of its own, and a current
folder of its own: with short paths below it the kernel has a tenth less to do.

A pipe holds the numbers of the batches; whoever reads one does it. What the helpers leave undone (a
large file, an error, their own end) is done here afterwards, where it is found out what is wrong
with it. All else goes through files without names: a pipe would stay open in whatever process the
training script happens to fork meanwhile.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .helping import END, TOKEN_BYTES

if TYPE_CHECKING:
    from .pool import Pool, Stored

    One = Callable[[str | os.PathLike[str], str], Stored]
    Pair = tuple[str | os.PathLike[str], str]

MANY = 1000
"""From so many files on, starting processes (some 20 ms) pays."""

MOST_HELPERS = 4
_BATCH = 50
_MOST_BATCHES = 1000
"""A pipe holds their numbers without waiting for a reader."""

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); import helping, pool;"
    " helping.serve(pool.Pool(sys.argv[2]), int(sys.argv[3]), 0, 1)"
)


class Helpers:
    """Processes that wait for work, which lies below *base*."""

    def __init__(self, count: int, pool: Pool, folder: Path, lock: int | None) -> None:
        self._base = os.path.commonpath([pool.folder, folder])
        self._pool = os.path.relpath(pool.folder, self._base)
        self._folder, self._lock = folder, lock
        self._stack = ExitStack()
        try:
            self._asked = self._unnamed()
            self._queue, self._tokens = os.pipe()
            self._stack.callback(os.close, self._queue)
            self._stack.callback(os.close, self._tokens)
            self._answers = [self._unnamed() for _ in range(count)]
            self._processes = [self._start(answers) for answers in self._answers]
        except BaseException:
            self._stack.close()
            raise

    def _unnamed(self) -> IO[bytes]:
        return self._stack.enter_context(tempfile.TemporaryFile(dir=self._folder))

    def _start(self, answers: IO[bytes]) -> subprocess.Popen[bytes]:
        here = str(Path(__file__).resolve().parent)
        return self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, here, self._pool, str(self._queue)],
                cwd=self._base,
                stdin=self._asked,
                stdout=answers,
                stderr=subprocess.DEVNULL,
                pass_fds=[each for each in (self._queue, self._lock) if each is not None],
            )
        )

    def store_all(self, pairs: Sequence[Pair], one: One) -> list[Stored]:
        """Do *one* for each of *pairs* (source, target below the folder); what it returns, in
        their order."""
        size = max(_BATCH, -(-len(pairs) // _MOST_BATCHES))
        below = len(self._base) + 1
        asked = [(_absolute(str(source)), target[below:]) for source, target in pairs]
        self._asked.write(marshal.dumps((size, asked)))
        self._asked.flush()
        os.write(self._tokens, self._order(-(-len(pairs) // size)) + self._ends())
        for process in self._processes:
            process.wait()
        found: list[Stored | None] = [None] * len(pairs)
        for answers in self._answers:
            _read_answers(answers, found)
        return [each or _anew(one, *pair) for each, pair in zip(found, pairs, strict=True)]

    def _order(self, batches: int) -> bytes:
        """Tokens such that helpers rarely make files in the same folder, which they would wait for
        each other to do: each goes through a stretch of its own."""
        stretch = -(-batches // len(self._processes))
        places = (range(place, batches, stretch) for place in range(stretch))
        numbers = (number for side_by_side in places for number in side_by_side)
        return b"".join((number + 1).to_bytes(TOKEN_BYTES, "big") for number in numbers)

    def _ends(self) -> bytes:
        return END * len(self._processes)

    def close(self) -> None:
        """Let them finish their batches; after an error there are others, which nobody wants."""
        os.set_blocking(self._queue, False)
        with suppress(BlockingIOError):
            while os.read(self._queue, TOKEN_BYTES * _MOST_BATCHES):
                pass
        os.write(self._tokens, self._ends())
        self._stack.close()


@contextmanager
def at_hand(pool: Pool, files: int, folder: Path, lock: int | None) -> Iterator[Helpers | None]:
    """Processes that get ready to store so many small files; None if they would not pay.

    *lock*: a file descriptor that tells others that somebody is at work in *folder*. The helpers
    hold it as well, so that it still tells so when this process is killed first.
    """
    helpers = None
    if files >= MANY and (count := min(_cores(), MOST_HELPERS)) > 1 and _has_python():
        with suppress(OSError, ValueError):  # they cannot be started
            helpers = Helpers(count, pool, folder, lock)
    try:
        yield helpers
    finally:
        if helpers:
            helpers.close()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _has_python() -> bool:
    """In a program with Python inside, ``sys.executable`` is that program."""
    is_python = Path(sys.executable or "").name.lower().startswith("python")
    return os.name == "posix" and is_python and not getattr(sys, "frozen", False)


def _absolute(path: str) -> str:
    return path if path[:1] == os.sep else os.path.abspath(path)


def _read_answers(answers: IO[bytes], found: list[Stored | None]) -> None:
    """Note in *found* what a helper did; nothing if it was killed."""
    from .pool import Stored

    answers.seek(0)
    said: list[tuple[int, list[Any]]] = []
    with suppress(EOFError, ValueError, TypeError):
        said = marshal.loads(answers.read())
    for start, batch in said:
        found[start : start + len(batch)] = [each and Stored(*each) for each in batch]


def _anew(one: One, source: str | os.PathLike[str], target: str) -> Stored:
    """Do what the helpers left, over what they may have begun."""
    Path(target).unlink(missing_ok=True)
    return one(source, target)
