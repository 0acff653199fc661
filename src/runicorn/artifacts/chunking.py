"""Cut contents into chunks at places that the content decides: what stays the same is cut alike.

FastCDC (2020). Both ends of a transfer must cut alike, so the sizes are part of the protocol.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

AVERAGE = 256 << 10
"""Bytes in a chunk, on average. Between a quarter and four times of it."""

SMALLEST_FILE = 4 << 20
"""A smaller file is sent as a whole."""


class Chunk(NamedTuple):
    digest: str
    length: int


def is_available() -> bool:
    try:
        import pyfastcdc  # noqa: F401
    except ImportError:
        return False
    return True


def cut(path: str | os.PathLike[str]) -> Iterator[Chunk]:
    """The chunks of the file, in order. Raises ImportError without ``runicorn[transfer]``."""
    from pyfastcdc import FastCDC

    with open(path, "rb") as file:
        for chunk in FastCDC(AVERAGE).cut_stream(file):
            data = chunk.data
            yield Chunk(hashlib.sha256(data).hexdigest(), len(data))
