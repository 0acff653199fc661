"""Copy many small files with worker processes.

Ten thousand small files cost the kernel's time, call by call. Threads do not help: after each of
those calls a thread has to win the interpreter back, so on two cores two threads took as long as
one, and four took twice as long. A process has an interpreter of its own, and a current folder of
its own: with short paths below it the kernel has a tenth less to do.

A pipe holds the numbers of the batches, and a worker stores the batch whose number it reads. What
the workers leave undone (a large file, an error, their own end) is done here afterwards, where an
error can be reported. Everything else passes through unnamed files: a pipe would stay open in every
process that the training script happens to fork meanwhile.
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

from .blobs import Stored
from .copy_worker import END, TOKEN_BYTES

if TYPE_CHECKING:
    from .blobs import BlobStore

    StoreFile = Callable[[str | os.PathLike[str], str], Stored]
    Pair = tuple[str | os.PathLike[str], str]

MANY = 1000
"""The number of files from which on starting processes (some 20 ms) pays."""

MOST_WORKERS = 4
_BATCH_FILES = 50
_MOST_BATCHES = 1000
"""The numbers of so many fit into a pipe that is not read yet."""

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); import blobs, copy_worker;"
    " copy_worker.serve(blobs.BlobStore(sys.argv[2]), int(sys.argv[3]), 0, 1)"
)


class CopyPool:
    """Worker processes that wait for files to store below *folder*."""

    def __init__(self, count: int, blobs: BlobStore, folder: Path, lock: int | None) -> None:
        self._base = os.path.commonpath([blobs.folder, folder])
        self._blobs = os.path.relpath(blobs.folder, self._base)
        self._folder, self._lock = folder, lock
        self._stack = ExitStack()
        try:
            self._request = self._unnamed_file()
            self._queue, self._tokens = os.pipe()
            self._stack.callback(os.close, self._queue)
            self._stack.callback(os.close, self._tokens)
            self._responses = [self._unnamed_file() for _ in range(count)]
            self._processes = [self._start(response) for response in self._responses]
        except BaseException:
            self._stack.close()
            raise

    def _unnamed_file(self) -> IO[bytes]:
        return self._stack.enter_context(tempfile.TemporaryFile(dir=self._folder))

    def _start(self, response: IO[bytes]) -> subprocess.Popen[bytes]:
        here = str(Path(__file__).resolve().parent)
        return self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, here, self._blobs, str(self._queue)],
                cwd=self._base,
                stdin=self._request,
                stdout=response,
                stderr=subprocess.DEVNULL,
                pass_fds=[fd for fd in (self._queue, self._lock) if fd is not None],
            )
        )

    def store_all(self, pairs: Sequence[Pair], store: StoreFile) -> list[Stored]:
        """Store each of *pairs* (source, target below the folder); return the results in order.

        The files that the workers leave undone are stored with *store*.
        """
        size = max(_BATCH_FILES, -(-len(pairs) // _MOST_BATCHES))
        below = len(self._base) + 1
        request = [(_absolute(str(source)), target[below:]) for source, target in pairs]
        self._request.write(marshal.dumps((size, request)))
        self._request.flush()
        os.write(self._tokens, self._batch_tokens(-(-len(pairs) // size)) + self._end_tokens())
        for process in self._processes:
            process.wait()
        results: list[Stored | None] = [None] * len(pairs)
        for response in self._responses:
            _read_response(response, results)
        return [
            stored or _store_again(store, *pair)
            for stored, pair in zip(results, pairs, strict=True)
        ]

    def _batch_tokens(self, batches: int) -> bytes:
        """Order the batches so that workers rarely create files in the same folder.

        There they would wait for each other; so each worker gets a range of its own.
        """
        range_size = -(-batches // len(self._processes))
        rounds = (range(first, batches, range_size) for first in range(range_size))
        numbers = (number for side_by_side in rounds for number in side_by_side)
        return b"".join((number + 1).to_bytes(TOKEN_BYTES, "big") for number in numbers)

    def _end_tokens(self) -> bytes:
        return END * len(self._processes)

    def close(self) -> None:
        """Let the workers finish their batches; batches left over after an error are dropped."""
        os.set_blocking(self._queue, False)
        with suppress(BlockingIOError):
            while os.read(self._queue, TOKEN_BYTES * _MOST_BATCHES):
                pass
        os.write(self._tokens, self._end_tokens())
        self._stack.close()


@contextmanager
def open_pool(
    blobs: BlobStore, files: int, folder: Path, lock: int | None
) -> Iterator[CopyPool | None]:
    """Start processes to store so many small files; None if they would not pay.

    *lock* is a file descriptor whose lock shows that *folder* is being worked in. The workers hold
    it as well, so that it is still locked if this process is killed first.
    """
    pool = None
    if files >= MANY and (count := min(_cores(), MOST_WORKERS)) > 1 and _has_python():
        with suppress(OSError, ValueError):  # they cannot be started
            pool = CopyPool(count, blobs, folder, lock)
    try:
        yield pool
    finally:
        if pool:
            pool.close()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _has_python() -> bool:
    """Return whether ``sys.executable`` is Python: a program may also have Python inside."""
    is_python = Path(sys.executable or "").name.lower().startswith("python")
    return os.name == "posix" and is_python and not getattr(sys, "frozen", False)


def _absolute(path: str) -> str:
    return path if path[:1] == os.sep else os.path.abspath(path)


def _read_response(response: IO[bytes], results: list[Stored | None]) -> None:
    """Enter into *results* what a worker stored: nothing if it was killed."""
    response.seek(0)
    batches: list[tuple[int, list[Any]]] = []
    with suppress(EOFError, ValueError, TypeError):
        batches = marshal.loads(response.read())
    for start, batch in batches:
        results[start : start + len(batch)] = [row and Stored(*row) for row in batch]


def _store_again(store: StoreFile, source: str | os.PathLike[str], target: str) -> Stored:
    """Store a file that the workers left, over what they may have begun."""
    Path(target).unlink(missing_ok=True)
    return store(source, target)
