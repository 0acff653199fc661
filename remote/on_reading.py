"""Before files are read that lie on a host: have the owner fetch them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from artifacts.models import Version

from .exceptions import RemoteError
from .models import SyncJob
from .owner import asking
from .sync import registry
from .sync.ledger import Claims
from .sync.session import FRESH_SECONDS

JOBS_SECONDS = 1
"""How long a process that is not the owner remembers what is synced on demand."""


class Elsewhere:
    """Which folders are synced on demand by another process, and when they were asked for."""

    def __init__(self) -> None:
        self._claims: dict[str, Claims] = {}
        self._next_look = 0.0
        self._asked: dict[str, float] = {}

    def is_due(self, directory: str) -> bool:
        """Whether *directory* came from a host that is connected, and was not just asked for."""
        if not any(claims.owns(directory) for claims in self._look()):
            return False
        now = time.monotonic()
        self._asked = {run: at for run, at in self._asked.items() if now - at < FRESH_SECONDS}
        return self._asked.setdefault(directory, now) == now

    def _look(self) -> Iterable[Claims]:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + JOBS_SECONDS
            jobs = SyncJob.objects.filter(mode=registry.SMART, is_alive=True)
            self._claims = {
                job.id: self._claims.get(job.id)
                or Claims(Path(job.local_root), job.source, job.former_source)
                for job in jobs
            }
            for claims in self._claims.values():
                claims.reread()
        return self._claims.values()


_elsewhere = Elsewhere()


def bring_run(directory: str) -> None:
    """Fetch what is new of the run in *directory* (relative to the storage root)."""
    if asking.is_here():
        registry.bring(directory)
    elif _elsewhere.is_due(directory):
        with suppress(RemoteError):  # what is here is shown then
            asking.ask("bring_run", directory=directory)


def bring_version(version: Version) -> None:
    """Fetch the files of an artifact's version."""
    if version.files_folder.is_dir():
        return
    directory = version.artifact.directory
    if asking.is_here():
        registry.bring_files(directory, version.number)
    elif _elsewhere.is_due(directory):
        with suppress(RemoteError):
            asking.ask("bring_version", directory=directory, number=version.number)
