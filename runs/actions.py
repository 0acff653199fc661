"""Every change of state that a person makes to runs: one function per verb.

REST, admin, pages and the command line call these; nothing else changes a run's state. *by* is
the acting user (None: the machine's owner in the embedded default). Whether *by* may is the
caller's question, answered with ``visible_to``.

A directory-backed run is changed in its folder first, and the index then takes that in: what
another viewer does to the same folder takes the same way.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from core import access
from runicorn import layout, processes

from . import tags
from .ingest import folder_source
from .models import Run

logger = logging.getLogger("runicorn.runs")

Outcome = dict[str, str | None]
"""Run id to None (done) or to what stood in the way (an empty text: a failed write)."""


@dataclass
class Purged:
    count: int = 0
    bytes: int = 0


def soft_delete_runs(runs: Iterable[Run], *, by: Any, reason: str = "user_deleted") -> Outcome:
    """Move *runs* to the recycle bin. Their folders stay, marked with ``.deleted``."""
    outcome: Outcome = {}
    for run in runs:
        if run.is_deleted:
            outcome[run.run_id] = "already deleted"
            continue
        now = time.time()
        try:
            layout.write_deleted_marker(run.path, reason=reason, at=now)
        except FileNotFoundError:
            outcome[run.run_id] = "run not found"
            continue
        except OSError as error:
            logger.error("Could not mark %s as deleted: %s", run.path, error)
            outcome[run.run_id] = ""
            continue
        folder_source.refresh(run)
        Run.objects.filter(pk=run.pk).update(deleted_by=access.name_of(by))
        outcome[run.run_id] = None
    return outcome


def restore_runs(runs: Iterable[Run], *, by: Any) -> Outcome:
    """Bring *runs* back from the recycle bin, with the status they have."""
    outcome: Outcome = {}
    for run in runs:
        if not run.is_deleted:
            outcome[run.run_id] = "run not deleted"
            continue
        try:
            layout.remove_deleted_marker(run.path)
        except OSError as error:
            logger.error("Could not restore %s: %s", run.path, error)
            outcome[run.run_id] = ""
            continue
        folder_source.refresh(run)
        Run.objects.filter(pk=run.pk).update(deleted_by="")
        outcome[run.run_id] = None
    return outcome


def purge_runs(runs: Iterable[Run], *, by: Any) -> Purged:
    """Remove *runs* from the recycle bin, folders and all. Runs that are not in it are passed over.

    A folder is first moved aside as a whole, so that a crash leaves a run either there or gone.
    """
    purged = Purged()
    for run in runs:
        if not run.is_deleted:
            continue
        size = size_of_runs([run])
        if not _remove_folder(run.path):
            continue
        run.delete()
        purged.count += 1
        purged.bytes += size
        logger.info("Run %s was purged by %s", run.run_id, by or "the owner")
    return purged


def size_of_runs(runs: Iterable[Run]) -> int:
    """Bytes on disk that purging *runs* frees."""
    return sum(_size(run.path) for run in runs)


def set_tags(run: Run, keys: list[str], *, by: Any) -> None:
    """Give *run* exactly these tags."""
    wanted = list(dict.fromkeys(key.strip()[:255] for key in keys if key.strip()))
    tags.write(run, {"tags": wanted})
    tags.apply(run)


def set_notes(run: Run, notes: str, *, by: Any) -> None:
    """Replace the free text that people keep about *run*."""
    tags.write(run, {"description": notes or None})
    tags.apply(run)


def empty_trash() -> None:
    """Finish removals that a crash has interrupted."""
    shutil.rmtree(_trash(), ignore_errors=True)


def _trash() -> Path:
    return settings.RUNICORN_STORAGE_ROOT / layout.SERVER_DIR / "trash"


def _remove_folder(path: Path) -> bool:
    """Remove a run's folder, never what a link in it points to. Returns whether it is gone."""
    aside = _trash() / uuid.uuid4().hex
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.rename(aside)
        path = aside
    except FileNotFoundError:
        return True
    except OSError:
        pass  # another file system: remove it where it lies
    try:
        shutil.rmtree(path)
    except OSError as error:
        logger.error("Could not remove all of %s: %s", path, error)
    return path is aside or not path.exists()


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                pass
    return total


# -- vanished processes ------------------------------------------------------------------------

_COPIES = (
    *(".runicorn_remote_cache", "remote_cache", "_remote_", "runicorn_server_syn"),
    *("_mirror_", "_sync_"),
)
"""Parts of paths that hold copies of another host's runs (v0.4 names)."""


def check_process(run: Run) -> bool:
    """Mark *run* as failed if it says that it runs here and its process is gone.

    Returns whether it was changed. A process that has the id by now, but began later than the run
    was last written to, is another one.
    """
    path = run.path
    if run.status != Run.Status.RUNNING or not run.pid:
        return False
    if run.hostname not in ("", socket.gethostname()):
        return False
    if any(part in str(path).lower() for part in _COPIES):
        return False
    run = folder_source.refresh(run)  # type: ignore[assignment]
    if run is None or run.status != Run.Status.RUNNING or not run.pid:
        return False
    listed = run.files.listed() or {}
    last_seen = max((info.st_mtime for name, info in listed.items() if name != "."), default=0)
    if not {layout.META, layout.STATUS} <= listed.keys():
        return False
    meta = run.document(layout.META)
    if processes.is_alive(run.pid, meta.get("process"), last_seen) is not False:
        return False
    try:
        with layout.locked(path / layout.STATUS):
            # Under this lock a new process takes the run over: look whether one just did.
            if layout.read_json(path / layout.META) != meta:
                return False
            status = layout.read_json(path / layout.STATUS)
            if status.get("status") != Run.Status.RUNNING:
                return False
            status |= {
                "status": "failed",
                "ended_at": time.time(),
                "exit_reason": "process_not_found",
            }
            layout.write_json(path / layout.STATUS, status)
    except (OSError, TimeoutError) as error:
        logger.warning("Could not mark %s as failed: %s", path, error)
        return False
    folder_source.refresh(run)
    return True


def check_vanished(runs: Iterable[Run]) -> None:
    """The quick form for lists: look closer only at runs of this machine whose pid is gone."""
    check_processes(run for run in runs if run.pid and not psutil.pid_exists(run.pid))


def check_processes(runs: Iterable[Run]) -> int:
    """``check_process`` for each; one that cannot be checked does not stop the others."""
    updated = 0
    for run in runs:
        try:
            updated += check_process(run)
        except Exception:
            logger.exception("Could not check the process of run %s", run.run_id)
    return updated
