"""Whether a run still lives: whoever moves or removes it would tear it from its process."""

from __future__ import annotations

import socket
from pathlib import Path

from .. import layout, processes


def is_living(folder: Path) -> bool:
    """Whether the run is running, as far as its files and the processes of this host tell."""
    status = layout.read_json(folder / layout.STATUS)
    if status.get("status") != "running":
        return False
    meta = layout.read_json(folder / layout.META)
    if meta.get("hostname") not in (None, "", socket.gethostname()):
        return True
    seen = processes.last_seen(folder, status)
    return processes.is_alive(meta.get("pid"), meta.get("process"), seen) is not False


def is_mirrored(root: Path, directory: str) -> bool:
    """Whether the run is a copy of one on another host, which a sync brings: it lives there."""
    claim = layout.read_json(root / layout.SERVER_DIR / layout.MIRRORS).get(directory)
    return isinstance(claim, str) or (isinstance(claim, dict) and claim.get("here") is True)
