"""Read the ends of many files with one Python on the host: over SFTP each costs three requests.

Several hundred runs that are written to have a thousand files that grow. Which bytes of which file
are wanted is told to the program by its input, not by a command line; it answers in the same order.
What it leaves out, or what does not fit the file here, is left to SFTP.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence

import asyncssh

from runicorn.remote_storage import Download

from .source import Source

LARGEST = 2**18
"""Bytes of one file; more is a matter of the line, not of requests."""

LARGEST_ANSWER = 2**24

AT_ONCE = 50
"""Files that are written here before others have their turn."""

PROGRAM = """\
import os, stat, sys
here = os.getcwdb() + b"/"
for one in sys.stdin.buffer.read().split(b"\\0")[:-1]:
    offset, size, name = one.split(b" ", 2)
    data = None
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if stat.S_ISREG(os.fstat(file).st_mode) and os.path.realpath(name).startswith(here):
                data = os.pread(file, int(size), int(offset))
        finally:
            os.close(file)
    except OSError:
        pass
    sys.stdout.buffer.write(b"-\\n" if data is None else b"%d\\n" % len(data) + data)
"""


async def fetch(
    source: Source,
    downloads: Sequence[Download],
    done: Callable[[Download, Exception | None], None],
) -> set[Download]:
    """Complete the downloads that lack little, and tell *done* of each. Return them."""
    asked: list[tuple[Download, int, int]] = []
    total = 0
    for download in downloads:
        if (wanted := _wanted(download)) and total + wanted[1] <= LARGEST_ANSWER:
            total += wanted[1]
            asked.append((download, *wanted))
    answer = bytearray()

    def take(data: bytes) -> None:
        if len(answer) + len(data) > total + 20 * len(asked):
            raise ValueError("more than was asked for")
        answer.extend(data)

    given = b"".join(b"%d %d %s\0" % (at, size, one.source.encode()) for one, at, size in asked)
    try:
        status = await source.run(f"python3 -I -S -c {shlex.quote(PROGRAM)}", given, take)
        contents = _parse(bytes(answer), len(asked))
    except asyncssh.ChannelOpenError:
        return set()  # too many at once; the next look may have one
    except (asyncssh.Error, OSError, ValueError):
        source.has_python = False
        return set()
    source.has_python = status == 0
    came = set()
    for number, ((download, at, size), data) in enumerate(zip(asked, contents, strict=True)):
        if data is not None and _complete(download, at, size, data):
            came.add(download)
            done(download, None)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    return came


def _wanted(download: Download) -> tuple[int, int] | None:
    """Return where to read from, and how much; None for a download that is left to SFTP."""
    if download.sha256:
        return None
    at, size = 0, download.size + 1
    if not download.is_open_ended:
        try:
            at = download.begin()
            size = download.missing
        except OSError:
            return None  # SFTP will meet it again, and tell
        finally:
            download.abandon()  # there may be more of them than may be open at once
    return (at, size) if size <= LARGEST else None


def _parse(answer: bytes, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    at = 0
    for _ in range(count):
        end = answer.index(b"\n", at, at + 20)
        size, at = answer[at:end], end + 1
        if size == b"-":
            found.append(None)
            continue
        if not size.isdigit():
            raise ValueError("not what was asked for")
        found.append(answer[at : at + int(size)])
        at += int(size)
    if at != len(answer):
        raise ValueError("not what was asked for")
    return found


def _complete(download: Download, at: int, size: int, data: bytes) -> bool:
    try:
        if download.begin() == at and len(data) <= size:
            download.write(data)
            if not (download.is_open_ended and len(data) == size):  # or it grew since
                download.finish()
    except OSError:
        pass
    finally:
        download.abandon()
    return download.is_done
