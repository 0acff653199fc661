"""Every change that a person makes to runs: one function per verb.

REST, admin, pages and the command line call these; nothing else changes a run's state. *by* is
the acting user (None: the machine's owner in the embedded default). The caller checks that *by*
may do it, with ``changeable_by`` and ``purgeable_by``.

A run is changed in its folder first, by ``runicorn.run_store`` as on the command line, and then in
the index: changes by another viewer of the same folder take the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
from django.conf import settings
from django.db import transaction

from core import access
from runicorn import heartbeats, layout, processes, run_store
from runicorn.run_store import Annotations, RunConflict, RunNotFound, RunStore, living

from .ingest import folder_source
from .models import Run

logger = logging.getLogger("runicorn.runs")

Outcome = dict[str, str | None]
"""Run id to None (done) or the reason of the failure (an empty text: a failed write)."""


@dataclass
class Purged:
    count: int = 0
    bytes: int = 0
    refusals: Outcome = field(default_factory=dict)


def store() -> RunStore:
    """Return the store of the runs in the storage folder, where every change is made."""
    return RunStore(settings.RUNICORN_STORAGE_ROOT)


def soft_delete_runs(runs: Iterable[Run], *, by: Any, reason: str = "user_deleted") -> Outcome:
    """Move *runs* to the recycle bin. Their folders remain, marked with ``.deleted``."""

    def delete(run: Run) -> None:
        store().delete(run.directory, by=access.name_of(by) or None, reason=reason)
        folder_source.refresh(run)
        access.record(by, "run.delete", run)

    return _each(runs, delete, "already deleted", lambda run: not run.is_deleted)


def restore_runs(runs: Iterable[Run], *, by: Any) -> Outcome:
    """Restore *runs* from the recycle bin, with their present status."""

    def restore(run: Run) -> None:
        _relocate([run], lambda: {run.directory: store().restore(run.directory)})
        access.record(by, "run.restore", run)

    return _each(runs, restore, "run not deleted", lambda run: run.is_deleted)


def _each(
    runs: Iterable[Run], act: Callable[[Run], object], otherwise: str, fits: Callable[[Run], bool]
) -> Outcome:
    """Apply *act* to each of *runs* that *fits*; the outcome of the others is *otherwise*."""
    outcome: Outcome = {}
    for run in runs:
        try:
            outcome[run.run_id] = None if fits(run) else otherwise
            if outcome[run.run_id] is None:
                act(run)
        except RunNotFound:
            outcome[run.run_id] = "run not found"
        except RunConflict as error:
            outcome[run.run_id] = str(error)
        except (OSError, TimeoutError) as error:
            logger.error("%s could not be changed: %s", run.path, error)
            outcome[run.run_id] = ""
    return outcome


def purge_runs(runs: Iterable[Run], *, by: Any) -> Purged:
    """Remove *runs* from the recycle bin, with their folders. Runs outside it are skipped.

    So are those that still run, or whose folder contains other runs: ``refusals`` says why.
    """
    purged = Purged()
    for start in range(0, len(deleted := [run for run in runs if run.is_deleted]), PURGED_AT_ONCE):
        batch = deleted[start : start + PURGED_AT_ONCE]
        freed, refusals = store().purge(run.directory for run in batch)
        purged.bytes += freed
        for run in batch:
            reason = refusals.get(run.directory)
            if reason is not None and layout.is_run_dir(run.path):
                purged.refusals[run.run_id] = reason
                logger.warning("Run %s was not purged: %s", run.run_id, reason)
                continue
            run.delete()
            purged.count += 1
            access.record(by, "run.purge", run)
    return purged


PURGED_AT_ONCE = 100


def remove_runs(runs: Iterable[Run], *, force: bool, by: Any) -> set[str]:
    """Remove *runs* for good, bypassing the recycle bin; return the ids of the removed ones.

    Without *force*, pinned runs are kept. Runs that cannot be removed are restored.
    """
    runs = [run for run in runs if force or not run.pinned]
    fresh = [run.pk for run in runs if not run.is_deleted]
    soft_delete_runs((run for run in runs if not run.is_deleted), by=by, reason="deleted")
    keys = [run.pk for run in runs]
    purge_runs(list(Run.objects.deleted().filter(pk__in=keys)), by=by)
    restore_runs(list(Run.objects.deleted().filter(pk__in=fresh)), by=by)
    remaining = set(Run.objects.filter(pk__in=keys).values_list("pk", flat=True))
    return {run.run_id for run in runs if run.pk not in remaining}


def size_of_runs(runs: Iterable[Run]) -> int:
    """Return the bytes on disk that purging *runs* would free."""
    return sum(run_store.size_of(run.path) for run in runs)


def set_tags(run: Run, keys: Iterable[str], *, by: Any, append: bool = False) -> None:
    """Replace the tags of *run*, or add to them with *append*."""
    tags = [key.strip()[:255] for key in keys if key.strip()]
    _annotate(run, lambda: store().tag(run.directory, tags, append=append, **_SHARED))
    access.record(by, "run.tag", run)


def set_notes(run: Run, notes: str, *, by: Any) -> None:
    """Replace the notes of *run*."""
    _annotate(run, lambda: store().set_notes(run.directory, notes, **_SHARED))
    access.record(by, "run.note", run)


def annotate(run: Run, changes: Mapping[str, Any], *, by: Any) -> None:
    """Change several of ``display_name``, ``pinned``, ``archived``, ``notes`` and ``tags``."""

    def change(annotations: Annotations) -> None:
        for name, value in changes.items():
            setattr(annotations, name, value)

    _annotate(run, lambda: store().annotate(run.directory, change, **_SHARED))
    access.record(by, "run.annotate", run)


_SHARED = {"experiments_file": True}
"""Also write 0.4's file, the documented place of tags, and create it if missing."""


def _annotate(run: Run, change: Callable[[], object]) -> None:
    try:
        change()
    except RunNotFound:
        logger.warning("%s is gone, and was not annotated.", run.directory)
    folder_source.refresh(run)


def move_run(run: Run, project: str, name: str, *, by: Any) -> None:
    """Move *run* to another project and experiment. Raises the exceptions of ``RunStore.move``."""
    directory = run.directory
    _relocate([run], lambda: {directory: store().move(directory, project, name)})
    access.record(by, "run.move", f"{run} → {project}/{name}")


def rename_experiment(project: str, name: str, new_name: str, *, by: Any) -> int:
    """Rename an experiment; return the number of its runs. Raises the store's exceptions."""
    runs = Run.objects.filter(project__name=project, name=name)
    moved = _relocate(runs, lambda: store().rename_experiment(project, name, new_name))
    access.record(by, "experiment.rename", f"{project}/{name} → {new_name}")
    return moved


def rename_project(project: str, new_project: str, *, by: Any) -> int:
    """Rename a project; return the number of its runs. Raises the store's exceptions."""
    runs = Run.objects.filter(project__name=project)
    moved = _relocate(runs, lambda: store().rename_project(project, new_project))
    access.record(by, "project.rename", f"{project} → {new_project}")
    return moved


def _relocate(runs: Iterable[Run], move: Callable[[], dict[str, str]]) -> int:
    """Call *move*, which returns the new folder by the old one, and move the rows of *runs*.

    This is one transaction, so that a run keeps its row whatever the indexer sees meanwhile.
    """
    with transaction.atomic():
        keys = [run.pk for run in runs]
        list(Run.objects.select_for_update().filter(pk__in=keys).values_list("pk"))
        moved = move()
        for old, new in moved.items():
            if old != new:
                Run.objects.filter(directory=new).delete()
                Run.objects.filter(directory=old).update(directory=new)
    for run in Run.objects.filter(directory__in=moved.values()):
        folder_source.refresh_moved(run)
    return len(moved)


def finish_interrupted() -> None:
    """Finish moves and removals that a crash has interrupted."""
    store().finish_interrupted()


# -- vanished processes ------------------------------------------------------------------------

_COPIES = (
    *(".runicorn_remote_cache", "remote_cache", "_remote_", "runicorn_server_syn"),
    *("_mirror_", "_sync_"),
)
"""Names in paths of copies of another host's runs (from v0.4)."""


def check_process(run: Run) -> bool:
    """Update the status of a running run: failed if its processes are gone or lost, running again
    if it was lost and shows a sign of life.

    Return whether it changed. A run without heartbeats is judged only by its process, and only on
    this host: it is never ended because of its age.
    """
    folder = run.path
    if not (run.status == Run.Status.RUNNING or run.exit_reason == heartbeats.LOST):
        return False
    if any(part in str(folder).lower() for part in _COPIES):
        return False
    if living.judged(folder) is None:
        return False
    try:
        with layout.locked_in_run(folder / layout.STATUS):
            # Under this lock a process resumes the run or ends it: check whether one just did.
            status = living.judged(folder)
            if status is None:
                return False
            layout.write_json(folder / layout.STATUS, status)
    except FileNotFoundError:  # the folder was removed
        return False
    except (OSError, TimeoutError) as error:
        logger.warning("Could not say in %s what became of the run: %s", folder, error)
        return False
    folder_source.refresh(run)
    return True


def check_vanished(runs: Iterable[Run]) -> None:
    """Check runs quickly, for lists: only those of this machine whose process id is gone."""
    here = ("", processes.hostname())
    own = (run for run in runs if run.pid and run.hostname in here)
    check_processes(run for run in own if not psutil.pid_exists(run.pid))


def check_processes(runs: Iterable[Run]) -> int:
    """Check the processes of *runs*, even if some fail; return the number of changed runs."""
    updated = 0
    for run in runs:
        try:
            updated += check_process(run)
        except Exception:
            logger.exception("Could not check the process of run %s", run.run_id)
    return updated
