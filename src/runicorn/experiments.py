"""Tags, notes and marks of runs, and the runs themselves, as scripts for Runicorn 0.4 ask for them:
by run id. :mod:`runicorn.run_store` does the work."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import layout
from .run_store import Annotations, RunNotFound, RunRefused, RunStore, annotation
from .run_store.store import StoredRun

_DAY_S = 24 * 3600


@dataclass
class ExperimentMetadata:
    """What is noted of one run. Times are Unix seconds."""

    id: str
    project: str = "default"
    name: str = "default"
    tags: list[str] = field(default_factory=list)
    description: str | None = None
    created_at: float = 0
    updated_at: float = 0
    archived: bool = False
    pinned: bool = False


class ExperimentManager:
    """The runs below *storage_root*, whether anything was noted of them or not.

    What is noted lies in the run's ``annotations.json``, and in the root's
    ``.experiments_metadata.json`` for other versions. Of a run whose folder was copied, with its
    id, nothing is changed: AmbiguousRun names the folders, and RunStore takes them.
    """

    def __init__(self, storage_root: str | os.PathLike[str]) -> None:
        self.storage_root = Path(storage_root)
        self.metadata_file = self.storage_root / layout.EXPERIMENTS_METADATA
        self._store = RunStore(storage_root)

    def add_experiment(
        self,
        run_id: str,
        project: str,
        name: str,
        tags: Iterable[str] | None = None,
        description: str | None = None,
    ) -> ExperimentMetadata:
        """Note a run, or what is new of a run that is noted already. It need not be there."""

        def note(noted: Annotations) -> None:
            if tags is not None:
                noted.tags = list(tags)
            if description is not None:
                noted.notes = description

        if self._change(run_id, note):
            return _metadata(self._store.run(self._store.find(run_id)))
        file = self._store.experiments_file
        noted = annotation.of_record(file.record(run_id) or {})
        note(noted)
        now = time.time()
        record = ExperimentMetadata(
            run_id,
            project,
            name,
            annotation.unique(noted.tags),
            noted.notes or None,
            created_at=annotation.time_of((file.record(run_id) or {}).get("created_at")) or now,
            updated_at=now,
            archived=noted.archived,
            pinned=noted.pinned,
        )
        file.put(asdict(record), create=True)
        file.flush()
        return record

    def tag_experiment(self, run_id: str, tags: Iterable[str], append: bool = True) -> bool:
        """Give a run *tags*, beside those it has or instead of them; False if there is none."""
        added = list(tags)
        return self._change(
            run_id,
            lambda noted: setattr(noted, "tags", [*(noted.tags if append else []), *added]),
        )

    def describe_experiment(self, run_id: str, description: str) -> bool:
        """Replace the notes about a run; False if there is none."""
        return self._change(run_id, lambda noted: setattr(noted, "notes", description))

    def archive_experiment(self, run_id: str, archive: bool = True) -> bool:
        return self._change(run_id, lambda noted: setattr(noted, "archived", archive))

    def pin_experiment(self, run_id: str, pin: bool = True) -> bool:
        return self._change(run_id, lambda noted: setattr(noted, "pinned", pin))

    def search_experiments(
        self,
        project: str | None = None,
        tags: Iterable[str] | None = None,
        text: str | None = None,
        archived: bool = False,
        pinned: bool | None = None,
    ) -> list[ExperimentMetadata]:
        """Runs with all of *tags* and *text* in name, project, description or a tag, whatever its
        case; the last changed first. Those in the recycle bin are left out, archived ones unless
        *archived* asks for them as well."""
        hits = self._store.search(project, tags or (), text or "", archived, pinned, absent=True)
        return [_metadata(run) for run in hits]

    def delete_experiments(self, run_ids: Iterable[str], force: bool = False) -> dict[str, bool]:
        """Remove the folders of runs for good, past the recycle bin.

        False for a run that stays or never was: without *force* pinned and running ones stay, and
        in any case those that hold other runs and those with a copy under the same id.
        """
        directories = self._store.directories()
        return {
            run_id: len(directories.get(run_id, ())) == 1
            and self._remove(directories[run_id][0], force)
            for run_id in dict.fromkeys(run_ids)
        }

    def cleanup_old_experiments(self, days: float = 30, dry_run: bool = True) -> list[str]:
        """The runs in which nothing has changed for *days*; removed for good unless *dry_run*.

        Pinned, archived and running ones are left alone, and those in the recycle bin.
        """
        before = time.time() - days * _DAY_S
        old = [
            run.run_id
            for run in self._store.runs()
            if run.changed_at < before
            and not (run.annotations.pinned or run.annotations.archived or run.is_deleted)
            and run.status != "running"
        ]
        if not dry_run:
            results = self.delete_experiments(old)
            old = [run_id for run_id in old if results[run_id]]
        return old

    def get_experiment_stats(self) -> dict[str, Any]:
        """``{total, archived, pinned, projects: {name: count}, tags, active}``."""
        runs = [run for run in self._store.runs(absent=True) if not run.is_deleted]
        archived = sum(run.annotations.archived for run in runs)
        return {
            "total": len(runs),
            "archived": archived,
            "pinned": sum(run.annotations.pinned for run in runs),
            "projects": dict(Counter(_metadata(run).project for run in runs)),
            "tags": sorted({tag for run in runs for tag in run.annotations.tags}),
            "active": len(runs) - archived,
        }

    def _change(self, run_id: str, change: Callable[[Annotations], object]) -> bool:
        """Apply *change* to what is noted of a run; False if there is no such run."""
        file = self._store.experiments_file
        try:
            directory = self._store.find(run_id)
        except RunNotFound:
            return self._change_record(run_id, change)
        self._store.annotate(directory, change, experiments_file=True)
        file.flush()
        return True

    def _change_record(self, run_id: str, change: Callable[[Annotations], object]) -> bool:
        """The same for a run that is noted in 0.4's file and is gone, or not there yet."""
        file = self._store.experiments_file
        record = file.record(run_id)
        if record is None:
            return False
        noted = annotation.of_record(record)
        change(noted)
        file.put(
            {
                **record,
                "id": run_id,
                "tags": annotation.unique(noted.tags),
                "description": noted.notes or None,
                "archived": noted.archived,
                "pinned": noted.pinned,
                "updated_at": time.time(),
            }
        )
        file.flush()
        return True

    def _remove(self, directory: str, force: bool) -> bool:
        store = self._store
        try:
            if store.annotations(directory).pinned and not force:
                return False
            was_deleted = store.is_deleted(directory)
            if not was_deleted:
                store.delete(directory, reason="deleted")
            _, refusals = store.purge([directory], force=force)
            if refusals and not was_deleted:
                store.restore(directory)
            store.experiments_file.flush()
        except (RunRefused, OSError):
            return False
        return not refusals


def _metadata(run: StoredRun) -> ExperimentMetadata:
    noted = run.annotations
    return ExperimentMetadata(
        id=run.run_id,
        project=run.project or "default",
        name=run.name or "default",
        tags=noted.tags,
        description=noted.notes or None,
        created_at=run.created_at,
        updated_at=run.changed_at,
        archived=noted.archived,
        pinned=noted.pinned,
    )
