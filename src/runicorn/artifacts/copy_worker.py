"""The program of the worker processes that store many small files (see ``copy_pool.py``).

They load this file and ``blobs.py`` alone, neither the rest of runicorn nor the training script, so
that they are at work within some 20 ms.
"""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .blobs import BlobStore

TOKEN_BYTES = 4
END = bytes(TOKEN_BYTES)
"""The token after the last batch; batches are counted from one."""


def serve(blobs: BlobStore, queue: int, request: int, response: int) -> None:
    """Store a batch of files for each token in *queue*, up to the token ``END``.

    *request* is a file with (files in a batch, [(source, target)]). The file *response* gets a list
    of (index of the first file, [(digest, bytes, mtime), or None for a file left to the caller]).
    """
    parent = os.getppid()
    results = []
    size, pairs = 0, None
    while (token := os.read(queue, TOKEN_BYTES)) != END and os.getppid() == parent:
        if pairs is None:
            size, pairs = marshal.loads(os.pread(request, os.fstat(request).st_size, 0))
        start = (int.from_bytes(token, "big") - 1) * size
        batch = pairs[start : start + size]
        results.append((start, [_store(blobs, source, target) for source, target in batch]))
    with open(response, "wb") as file:
        file.write(marshal.dumps(results))


def _store(blobs: BlobStore, source: str, target: str) -> tuple[str, int, float | None] | None:
    try:
        stored = blobs.store(source, target, is_likely=_leave_to_caller)
    except OSError:
        return None
    return stored.digest, stored.size, stored.modified_at


def _leave_to_caller(size: int) -> bool:
    """Refuse a large file: the caller already copies those with two threads."""
    raise OSError
