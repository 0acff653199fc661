"""What a script prints, as lines of ``logs.txt``, while the terminal sees it untouched."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from threading import RLock
from typing import Any, TextIO

LIVE_EVERY_S = 5.0
"""How often a progress bar that is still moving leaves a line behind."""

_MOST_CHARS = 1 << 16
"""Longer text without a newline becomes a line all the same."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_UP_AND_DOWN = "\x1b[A\n"


class ConsoleCapture:
    """Passes every whole line printed to stdout and stderr to *emit*, from now until ``stop``."""

    def __init__(self, emit: Callable[[str], object]) -> None:
        self._tees = [_Tee(getattr(sys, name), name, _Lines(emit)) for name in ("stdout", "stderr")]
        for tee in self._tees:
            tee.start()

    def stop(self) -> None:
        """Emit what has no newline yet and give the streams back; may be called again."""
        for tee in self._tees:
            tee.stop()

    def after_fork(self) -> None:
        for tee in self._tees:
            tee.lines.after_fork()


class _Tee:
    """A stream that is the original one in everything, except that *lines* hears what is written.

    Whoever still holds it after ``stop`` (a logging handler) writes to the original.
    """

    def __init__(self, stream: TextIO | None, name: str, lines: _Lines) -> None:
        self._stream = stream
        self._name = name
        self.lines = lines
        self._capturing = False

    def start(self) -> None:
        if self._stream is not None:  # pythonw and daemons have none
            self._capturing = True
            setattr(sys, self._name, self)

    def stop(self) -> None:
        self._capturing = False
        self.lines.end()
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)

    def write(self, text: str) -> int:
        written = self._stream.write(text)  # type: ignore[union-attr]
        if self._capturing:
            self.lines.feed(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # not there yet: copy and pickle ask before __init__
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)  # type: ignore[arg-type]


class _Lines:
    """Cuts written text into lines; of a line that rewrites itself only the last state counts."""

    def __init__(self, emit: Callable[[str], object]) -> None:
        self._emit = emit
        self._partial = ""
        self._next_live: float | None = None
        self._lock = RLock()
        self._feeding = False

    def feed(self, text: str) -> None:
        """Never raises: whatever goes wrong here is not the affair of a ``print``."""
        try:
            with self._lock:
                if not self._feeding:  # else: what emitting a line prints itself
                    self._feeding = True
                    try:
                        self._feed(text)
                    finally:
                        self._feeding = False
        except Exception:
            pass

    def _feed(self, text: str) -> None:
        self._partial += text
        while _UP_AND_DOWN in self._partial:  # nested bars go down and up again to redraw
            self._partial = self._partial.replace(_UP_AND_DOWN, "\r")
        *whole, self._partial = self._partial.split("\n")
        for line in whole:
            self._emit_line(line, blank="\r" not in line)
        if "\r" in self._partial:
            self._partial = "\r" + "\r".join(self._partial.split("\r")[-2:])
            self._emit_live()
        if len(self._partial) > _MOST_CHARS:
            self.end()

    def _emit_line(self, line: str, *, blank: bool) -> None:
        self._next_live = None
        text = _visible(line)
        if text or blank:
            self._emit(text)

    def _emit_live(self) -> None:
        now = time.monotonic()
        if self._next_live is None:
            self._next_live = now + LIVE_EVERY_S
        elif now >= self._next_live:
            self._next_live = now + LIVE_EVERY_S
            self._emit(_visible(self._partial))

    def end(self) -> None:
        with self._lock:
            partial, self._partial = self._partial, ""
            if partial:
                self._emit_line(partial, blank=False)

    def after_fork(self) -> None:
        """In a child: the unfinished line is the parent's."""
        self._lock = RLock()
        self._partial = ""
        self._feeding = False


def _visible(line: str) -> str:
    """What a terminal would show of *line* in the end, without colours and cursor movements."""
    if "\x1b" in line:
        line = _ESCAPES.sub("", line)
    states = (state for state in reversed(line.split("\r")) if state.strip())
    return next(states, "").rstrip()
