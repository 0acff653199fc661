"""A tar archive, written while it is sent."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

READ_BYTES = 2**20

Member = tuple[tarfile.TarInfo, BinaryIO | None]


def tar_stream(members: Iterable[Member]) -> Iterator[bytes]:
    """Yield the archive of *members* in parts: of each the header, and the file that it is read
    from, which is closed here.

    ``tarfile`` itself writes a whole member before it returns. Raises OSError if a file is shorter
    than its header says; the archive then ends early, so that it is not taken for a whole one.
    """
    written = 0
    for info, file in members:
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        written += len(header)
        yield header
        if file is None:
            continue
        with file:
            left = info.size
            while left:
                data = file.read(min(READ_BYTES, left))
                if not data:
                    name = info.name.encode("utf-8", "backslashreplace").decode()
                    raise OSError(errno.EIO, "The file became shorter while it was read", name)
                left -= len(data)
                yield data
        padding = -info.size % tarfile.BLOCKSIZE
        written += info.size + padding
        yield bytes(padding)
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)
