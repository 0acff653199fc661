"""What a script prints, as lines of ``logs.txt``, while the terminal sees it untouched.

Seen is what goes through ``sys.stdout`` and ``sys.stderr``. What is written past them, by
subprocesses, C libraries, ``os.write`` or ``sys.__stdout__``, arrives at the terminal alone, unless
the descriptors are captured as well (``capture_console="fd"``): they are pipes then, which a
process of its own reads, so that the last words of one that crashes are kept.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any, TextIO

from ._writer import LineWriter, text_line

logger = logging.getLogger("runicorn")

LIVE_EVERY_S = 5.0
"""How often a progress bar that is still moving leaves a line behind."""

_MOST_CHARS = 1 << 16
"""Longer text without a newline becomes a line all the same."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_UP_AND_DOWN = "\x1b[A\n"


_END_S = 5.0
"""How long the end of a run waits for the process that reads the descriptors."""


class ConsoleCapture:
    """Passes every whole line printed to stdout and stderr to *emit*, from now until ``stop``.

    *logs*: the file to which a process of its own appends what is written to the descriptors; the
    streams are left alone then, but for those that do not end there, as in a notebook.
    """

    def __init__(self, emit: Callable[[str], object], logs: Path | None = None) -> None:
        self._descriptors = _Descriptors.captured(logs) if logs is not None else None
        self._tees = []
        for number, name in ((1, "stdout"), (2, "stderr")):
            stream = getattr(sys, name)
            if self._descriptors is None or _number_of(stream) != number:
                self._tees.append(_Tee(stream, name, _Lines(emit)))
        self.start()

    def start(self) -> None:
        for tee in self._tees:
            tee.start()

    def stop(self) -> None:
        """Emit what has no newline yet and give the streams back; may be called again."""
        for tee in self._tees:
            tee.stop()
        if self._descriptors is not None:
            self._descriptors.release()
            self._descriptors = None

    def after_fork(self) -> None:
        for tee in self._tees:
            tee.lines.after_fork()
        self._descriptors = None  # what the child writes is read as well; to end it is not its part


def _number_of(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except Exception:  # a notebook's stream has none
        return None


class _Descriptors:
    """Descriptors 1 and 2 as pipes that another process reads."""

    @classmethod
    def captured(cls, logs: Path) -> _Descriptors | None:
        """Capture them; None, with a word, where that does not work."""
        try:
            return cls(logs)
        except Exception as error:
            logger.warning(
                "Only what goes through sys.stdout and sys.stderr is recorded: %s", error
            )
            return None

    def __init__(self, logs: Path) -> None:
        if sys.platform == "win32":
            raise OSError("descriptors cannot be captured on Windows")
        pipes = [os.pipe(), os.pipe()]
        readers, writers = zip(*pipes, strict=True)
        package = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(logs), *map(str, readers)],
                stdin=subprocess.DEVNULL,
                pass_fds=readers,
                start_new_session=True,  # Ctrl-C is for the training
                env={**os.environ, "PYTHONPATH": path},
            )
            self._originals = [os.dup(1), os.dup(2)]
            _flush_streams()
            for number, writer in ((1, writers[0]), (2, writers[1])):
                os.dup2(writer, number)
        finally:
            for descriptor in (*readers, *writers):
                os.close(descriptor)

    def release(self) -> None:
        """Give the descriptors back, and wait until all is written that was printed so far."""
        _flush_streams()
        for number, original in ((1, self._originals[0]), (2, self._originals[1])):
            os.dup2(original, number)
            os.close(original)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:  # a child still has the pipes: it is read on
            self._process.returncode = 0


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except Exception:
            pass


def _read_descriptors(logs: Path, readers: list[int]) -> None:
    """Pass on to descriptors 1 and 2 what arrives at *readers*, and its lines to *logs*."""
    writer = LineWriter(logs)
    with selectors.DefaultSelector() as selector:
        for number, reader in enumerate(readers, 1):
            lines = _Lines(lambda line: writer.append(text_line(line)))
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            selector.register(reader, selectors.EVENT_READ, (number, lines, decoder))
        while selector.get_map():
            for key, _ in selector.select():
                number, lines, decoder = key.data
                content = os.read(key.fd, 1 << 16)
                _write_all(number, content)
                lines.feed(decoder.decode(content, final=not content))
                if not content:
                    lines.end()
                    selector.unregister(key.fd)
    writer.close()


def _write_all(descriptor: int, content: bytes) -> None:
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError:
        pass  # a terminal that was closed


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
            _redirect_handlers(self._stream, self)

    def stop(self) -> None:
        self._capturing = False
        self.lines.end()
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)
        _redirect_handlers(self, self._stream)

    def write(self, text: str) -> int:
        written = self._stream.write(text)  # type: ignore[union-attr]
        if self._capturing:
            self.lines.feed(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    @property
    def buffer(self) -> Any:
        return _TeeBuffer(self._stream.buffer, self)  # type: ignore[union-attr]

    def feed_bytes(self, content: Any) -> None:
        if self._capturing:
            self.lines.feed(bytes(content).decode("utf-8", "replace"))

    def __enter__(self) -> _Tee:
        self._stream.__enter__()  # type: ignore[union-attr]
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)  # type: ignore[union-attr]

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # not there yet: copy and pickle ask before __init__
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)  # type: ignore[arg-type]


class _TeeBuffer:
    """The binary side of a stream, likewise."""

    def __init__(self, buffer: Any, tee: _Tee) -> None:
        self._buffer = buffer
        self._tee = tee

    def write(self, content: Any) -> int:
        written: int = self._buffer.write(content)
        self._tee.feed_bytes(content)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "_buffer":
            raise AttributeError(name)
        return getattr(self._buffer, name)


def _redirect_handlers(old: Any, new: Any) -> None:
    """Let the handlers of ``logging`` that were given the stream *old* write to *new*."""
    if old is None or new is None:
        return
    for reference in list(getattr(logging, "_handlerList", ())):
        handler = reference()
        try:
            if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                handler.setStream(new)
        except Exception:  # one of the script's own, or one whose stream is closed
            pass


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


if __name__ == "__main__":
    _read_descriptors(Path(sys.argv[1]), [int(number) for number in sys.argv[2:]])
