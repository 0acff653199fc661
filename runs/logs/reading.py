"""Read the lines of a run's log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from ..models import Run

LARGEST_TAIL = 32 * 2**20
"""The most bytes of a log that are searched for its last lines."""

LONGEST_LINE = 2**20
"""Longer lines are shown as several: no browser survives one of a hundred megabytes."""

_ENDS = re.compile(rb"[\r\n]")


def split_lines(data: bytes) -> tuple[list[str], bytes]:
    """Return the complete lines in *data* that are not blank, and the rest without an end.

    ``\\n``, ``\\r\\n`` and a lone ``\\r`` end a line; bytes that are not UTF-8 are dropped.
    """
    *complete, rest = _ENDS.split(data)
    segments = (
        line[start : start + LONGEST_LINE]
        for line in complete
        for start in range(0, len(line), LONGEST_LINE)
    )
    return [line for line in map(_decode, segments) if line.strip()], rest


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "ignore")


@dataclass
class Tail:
    """The end of a log."""

    lines: list[str]
    rest: bytes
    """The bytes after the last complete line."""

    end: int
    """The offset up to which the log was read."""

    is_cut: bool
    """Whether there are earlier lines that are not in ``lines``."""

    exists: bool
    """Whether the run has a log."""


def read_tail(run: Run, limit: int) -> Tail:
    """Return the last *limit* complete lines of the log."""
    chunks = run.log_chunks.order_by("-offset").values_list("offset", "data")
    parts: list[bytes] = []
    end, size, lines, cut = 0, 0, 0, False
    for offset, data in _in_batches(chunks):
        data = bytes(data)
        end = end or offset + len(data)
        if lines > limit or size > LARGEST_TAIL:
            cut = True
            break
        parts.append(data)
        size += len(data)
        # Blank lines do not count; this is at most too small, and then one more chunk is read.
        lines += sum(1 for line in _ENDS.split(data) if line.strip())
    complete, rest = split_lines(b"".join(reversed(parts)))
    exists = bool(parts) or run.indexed_files.filter(name__startswith="logs.").exists()
    return Tail(complete[-limit:], rest, end, cut or len(complete) > limit, exists)


def read_from(run: Run, offset: int, limit: int = 2**20) -> bytes:
    """Return the log from *offset*: at least the rest of that chunk, and about *limit* bytes."""
    first = run.log_chunks.filter(offset__lte=offset).order_by("-offset").first()
    if first is None:
        return b""
    data = bytes(first.data)[offset - first.offset :]
    following = run.log_chunks.filter(offset__gt=first.offset).order_by("offset")
    for more in _in_batches(following.values_list("data", flat=True)):
        if len(data) >= limit:
            break
        data += bytes(more)
    return data


def whole(run: Run) -> Iterator[bytes]:
    """Yield the log from its beginning to its end."""
    chunks = run.log_chunks.order_by("offset").values_list("data", flat=True)
    return map(bytes, _in_batches(chunks))


def _in_batches(rows: QuerySet[Any, Any], size: int = 16) -> Iterator[Any]:
    """Yield *rows*, a few at a time: PostgreSQL would send them all at once."""
    start = 0
    while batch := list(rows[start : start + size]):
        yield from batch
        start += size


def tail(run: Run, lines: int = 200) -> list[str]:
    """Return the last *lines* lines, including a last one without an end."""
    end_of_log = read_tail(run, lines)
    last = _decode(end_of_log.rest)
    return [*end_of_log.lines, *([last] if last.strip() else [])][-lines:]
