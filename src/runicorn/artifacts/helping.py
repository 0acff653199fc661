"""What the processes do that store many small files (``helpers.py`` says why and when).

They load this file and ``pool.py`` and nothing else, neither the rest of runicorn nor the training
script, so that they are at work within some 20 ms.
"""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pool import Pool

TOKEN_BYTES = 4
END = bytes(TOKEN_BYTES)
"""What says that there are no batches any more; batches are counted from one."""


def serve(pool: Pool, queue: int, asked: int, answers: int) -> None:
    """Store a batch for each token in the queue until it says that there are no more.

    *asked*: a file with (files in a batch, [(source, target)]). *answers* gets a list of
    (first place, [(digest, bytes, modified at), or None for what is left to the caller]).
    """
    parent = os.getppid()
    done = []
    size, pairs = 0, None
    while (token := os.read(queue, TOKEN_BYTES)) != END and os.getppid() == parent:
        if pairs is None:
            size, pairs = marshal.loads(os.pread(asked, os.fstat(asked).st_size, 0))
        start = (int.from_bytes(token, "big") - 1) * size
        done.append((start, [_stored(pool, *pair) for pair in pairs[start : start + size]]))
    with open(answers, "wb") as file:
        file.write(marshal.dumps(done))


def _stored(pool: Pool, source: str, target: str) -> tuple[str, int, float | None] | None:
    try:
        done = pool.store(source, target, is_likely=_leave)
    except OSError:
        return None
    return done.digest, done.size, done.modified_at


def _leave(size: int) -> bool:
    """Asked of large files: their copy is two threads' work already."""
    raise OSError
