"""Return unused memory to the system. For glibc; with other C libraries nothing is done.

Each request has a thread of its own. By default glibc gives threads their own heaps, and raises
the size from which freed memory is returned at once to that of the largest array ever freed: after
a few large responses, hundreds of megabytes are free inside the heaps but not returned.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""From ``malloc.h``."""

_RETURNED = 256 * 2**10
"""Arrays of this size and above are returned to the system when they are freed."""


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError):  # no dynamic linking, or Windows
        return None


def keep_flat() -> None:
    """Configure glibc's allocator; call it once, before threads are started."""
    if library := _glibc():
        library.mallopt(_ARENA_MAX, 1)
        library.mallopt(_MMAP_THRESHOLD, _RETURNED)
        library.mallopt(_TRIM_THRESHOLD, _RETURNED)


def trim() -> None:
    """Return free memory of the heaps to the system; for the end of much work."""
    if library := _glibc():
        library.malloc_trim(0)


def freeze() -> None:
    """Exempt what is loaded by now from garbage collection: it stays until the process ends.

    Looking at it again would hold up some request for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
