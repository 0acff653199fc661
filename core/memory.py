"""Keep the process as large as its work, and no larger. For glibc; elsewhere nothing is done.

Each request has a thread of its own. By default glibc gives threads heaps of their own, and raises
the size from which memory is returned on the spot to that of the largest array ever freed: after
a few large answers hundreds of megabytes are free inside the heaps, and none of it outside.
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
    """Once, before threads are started."""
    if library := _glibc():
        library.mallopt(_ARENA_MAX, 1)
        library.mallopt(_MMAP_THRESHOLD, _RETURNED)
        library.mallopt(_TRIM_THRESHOLD, _RETURNED)


def trim() -> None:
    """Return what is free inside the heaps: after much work that will not come again soon."""
    if library := _glibc():
        library.malloc_trim(0)


def freeze() -> None:
    """What is loaded by now stays for ever: the garbage collector need not look at it again.

    It would do so in the middle of some request, for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
