"""How far long work has come, for people at a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

_WIDTH = 30
_INTERVAL_S = 0.1


class Bar:
    """``with Bar("Importing") as bar: bar(done, total)``, in bytes; silent without a terminal.

    It is drawn on stderr, so that what goes to stdout stays clean.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._is_shown = self._stream.isatty()
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        self._next = now + _INTERVAL_S
        amount = f"{done / 1e6:.1f} MB"
        if total:
            part = min(1.0, done / total)
            bar = ("#" * round(part * _WIDTH)).ljust(_WIDTH, ".")
            amount = f"[{bar}] {part:4.0%} of {total / 1e6:.1f} MB"
        self._stream.write(f"\r{self._label} {amount}\033[K")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_shown and self._next:
            self._stream.write("\r\033[K")
            self._stream.flush()
