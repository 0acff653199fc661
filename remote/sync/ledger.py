"""A ledger of which run folder here was copied from where, and what people did to it since.

A claim is what makes copying safe: no host may name a run of ours, or of another host, and write
to it. It also remembers what the folder alone cannot tell:

- A run that was here and is gone was purged. It stays away until its ``meta.json`` there is
  written anew, which is what a new run under the same id does first.
- A ``.deleted`` is taken over when it appears or changes there, and undone when it goes there: a
  run deleted or restored here stays so, until somebody there decides anew.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from runicorn import layout

if TYPE_CHECKING:
    from artifacts.models import Version

CLAIMS = layout.MIRRORS

Claim = dict[str, Any]
"""``source``: where from. ``here``: whether the folder was made. ``meta``, ``deleted``: the times
of these files there when they were copied. ``opened``: when a person last looked at it.
``documents``: of an artifact, what came."""


class Claims:
    """The claims of one source. *former*: a name that it may have had before."""

    def __init__(self, local_root: Path, source: str, former: str = "") -> None:
        self.root, self.source, self.former = local_root, source, former
        self._path = local_root / layout.SERVER_DIR / CLAIMS
        self._all: dict[str, Claim] = {}
        self._changed: set[str] = set()
        self._read_at = 0
        self.reread()

    def reread(self) -> None:
        """Take over what others have written since: another sync of this source, or process."""
        try:
            written = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if written == self._read_at:
            return
        self._read_at = written
        for run, claim in layout.read_json(self._path).items():
            if isinstance(claim, str):
                claim = {"source": claim, "here": True}
            if isinstance(claim, dict) and run not in self._changed:
                self._all[run] = {"here": False} | claim

    def runs(self) -> list[str]:
        """Return the runs that were copied from this source and are here."""
        return [name for name in self._copied() if layout.split_run_dir(name)]

    def artifacts(self) -> list[str]:
        return [name for name in self._copied() if not layout.split_run_dir(name)]

    def _copied(self) -> list[str]:
        return [
            name
            for name, claim in list(self._all.items())
            if self._is_ours(claim) and claim.get("here")
        ]

    def _is_ours(self, claim: Claim) -> bool:
        return claim.get("source") in (self.source, self.former)

    def owns(self, run: str) -> bool:
        return run in self._all and self._is_ours(self._all[run])

    def get(self, run: str) -> Claim:
        return self._all[run]

    def set(self, run: str, **values: Any) -> None:
        claim = self._all.get(run, {})
        if not claim or any(claim.get(name) != value for name, value in values.items()):
            self._all[run] = {"here": False, **claim, **values, "source": self.source}
            self._changed.add(run)

    def save(self) -> None:
        changed, self._changed = self._changed, set()
        if changed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            layout.update_json(self._path, {run: self._all[run] for run in changed})

    def purged(self, runs: Iterable[str]) -> list[str]:
        """Return those of *runs* that were here and are gone."""
        self.reread()
        return [
            run
            for run in runs
            if self.owns(run) and self._all[run]["here"] and not (self.root / run).exists()
        ]

    def accept(
        self, runs: Iterable[str], meta: Mapping[str, float | None]
    ) -> tuple[list[str], int]:
        """Return those of *runs* to copy, and how many are not, having come from elsewhere.

        *meta*: the time of ``meta.json`` there, at least for those that were purged.
        """
        self.reread()
        accepted, foreign = [], 0
        for run in runs:
            if run not in self._all and not (self.root / run).exists():
                self.set(run, here=False)
            if not self.owns(run):
                foreign += 1
                continue
            claim, exists = self._all[run], (self.root / run).exists()
            if claim["here"] and not exists:
                if claim.get("meta") is None:
                    self.set(run, meta=_seconds(meta.get(run)))
                if claim.get("meta") == _seconds(meta.get(run)):
                    continue
                self.set(run, here=False, deleted=None)
            accepted.append(run)
        self.save()
        return accepted, foreign

    def was_written_anew(self, run: str, meta: float) -> bool:
        known = self._all[run].get("meta")
        return known is not None and known != _seconds(meta)

    def copied(self, run: str, meta: float | None) -> None:
        if (self.root / run).exists():
            self.set(run, here=True)
            if meta is not None:
                self.set(run, meta=_seconds(meta))

    # -- .deleted ------------------------------------------------------------------------------

    def takes_deleted(self, run: str, mtime: float) -> bool:
        """Return whether the ``.deleted`` there is another than the one that was taken over."""
        return bool(self._all[run].get("deleted") != _seconds(mtime))

    def has_taken_deleted(self, run: str) -> bool:
        return self._all.get(run, {}).get("deleted") is not None

    def deleted_is_gone(self, run: str) -> None:
        """It was removed there: the run is restored here too."""
        if self.has_taken_deleted(run):
            layout.remove_deleted_marker(self.root / run)
            self.set(run, deleted=None)

    def opened(self, run: str) -> None:
        if time.time() - (self._all[run].get("opened") or 0) > 60:
            self.set(run, opened=time.time())
            self.save()

    def forget(self, runs: Iterable[str]) -> None:
        """Let *runs* come again, as if they had never been here."""
        for run in runs:
            self.set(run, here=False, meta=None, deleted=None)
        self.save()

    # -- artifacts -----------------------------------------------------------------------------

    def documents(self, artifact: str) -> dict[str, list[int]]:
        """Return size and time there of what came, by its path in the artifact's folder."""
        return dict(self._all.get(artifact, {}).get("documents") or {})

    def forget_documents(self, artifact: str, *, keep: Collection[str]) -> None:
        """Let all documents come again, except those of the versions in *keep*."""
        left = {
            name: mark
            for name, mark in self.documents(artifact).items()
            if name.partition("/")[0] in keep
        }
        self.set(artifact, here=bool(left), documents=left)
        self.save()


def came_from_a_host(version: Version) -> bool:
    """Return whether an artifact's version was copied from a host, connected or not."""
    claims = layout.read_json(settings.RUNICORN_STORAGE_ROOT / layout.SERVER_DIR / CLAIMS)
    return version.artifact.directory in claims


def _seconds(mtime: float | None) -> int | None:
    return None if mtime is None else int(mtime)
