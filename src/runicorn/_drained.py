"""A stream that is only written to, and emptied piece by piece while it grows."""

from __future__ import annotations

import io
from typing import Any


class Drained(io.RawIOBase):
    """What writers of files (zip, Parquet, Arrow) write to, so that it is sent while it is made."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data, self._written = bytes(self._written), bytearray()
        return data
