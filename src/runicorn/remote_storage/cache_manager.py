"""The folder on this machine that copies of another machine's runs go to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from .. import layout

STATS = ".cache_stats.json"
GIGABYTE = 2**30


class LocalCacheManager:
    """*cache_dir* (``root_dir`` in some of 0.4's examples): laid out like a storage root, so that
    ``runicorn viewer --storage <cache_dir>`` shows it. It is made if need be.

    *max_cache_size_gb*: what is large (curves, logs, media) comes as long as there is room. The
    documents of a run always do.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] | None = None,
        max_cache_size_gb: float = 10.0,
        *,
        root_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        chosen = cache_dir if cache_dir is not None else root_dir
        if chosen is None:
            raise TypeError("LocalCacheManager needs the folder to copy to: cache_dir")
        self.cache_dir = Path(chosen)
        self.max_cache_size_gb = max_cache_size_gb
        self.cache_dir.mkdir(parents=True, exist_ok=True)

    @property
    def root_dir(self) -> Path:
        return self.cache_dir

    def size(self) -> int:
        """Bytes that are here."""
        return sum(
            os.lstat(os.path.join(folder, name)).st_size
            for folder, _, names in os.walk(self.cache_dir)
            for name in names
        )

    def room(self) -> int:
        """Bytes that may still come."""
        return max(0, int(self.max_cache_size_gb * GIGABYTE) - self.size())

    def stats(self) -> dict[str, Any]:
        """``last_sync``, and of the last sync by manifest ``last_manifest_sync`` (both seconds
        since 1970) and ``manifest_revision``: all text."""
        return layout.read_json(self.cache_dir / STATS)

    def note_sync(self, manifest_revision: int | None = None) -> None:
        """A sync has ended well; *manifest_revision* if it was one by manifest."""
        now = str(time.time())
        values = {"last_sync": now}
        if manifest_revision is not None:
            values |= {"last_manifest_sync": now, "manifest_revision": str(manifest_revision)}
        layout.update_json(self.cache_dir / STATS, values)
