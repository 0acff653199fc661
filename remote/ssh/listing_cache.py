"""Keep listings of folders for a few seconds: asking again and again costs a host little."""

from __future__ import annotations

import time
from collections import OrderedDict

from ..exceptions import RemoteError, TooManyAttempts
from .browse import Folder, list_folder
from .connections import Connection

KEPT_SECONDS = 5
PAUSE_SECONDS = 2
"""After a failure, the same folder is not asked for again so soon."""

MOST = 1000

_kept: OrderedDict[tuple[str, float, str], tuple[float, Folder | None]] = OrderedDict()


async def list_recently(connection: Connection, path: str) -> Folder:
    """Return what ``list_folder`` does, at most KEPT_SECONDS old."""
    key = (connection.id, connection.connected_at, path)
    now = time.monotonic()
    at, folder = _kept.get(key, (0.0, None))
    if folder is not None and now - at < KEPT_SECONDS:
        return folder
    if folder is None and (left := at + PAUSE_SECONDS - now) > 0 and key in _kept:
        raise TooManyAttempts(f"Rate limited: please wait {left:.1f} seconds before retrying", left)
    try:
        folder = await list_folder(connection, path)
    except RemoteError:
        folder = None
        raise
    finally:
        _kept[key] = (time.monotonic(), folder)
        _kept.move_to_end(key)
        if len(_kept) > MOST:
            for _ in range(MOST // 10):
                _kept.popitem(last=False)
    return folder
