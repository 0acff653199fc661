"""Every change that a person makes to artifacts: one function per verb.

REST, admin and pages call these. Each changes the folder first, under the locks that other
programs use too, and then the index. *by* is the acting user (None: the machine's owner in the
embedded default), who is recorded with the change. The caller checks that *by* may do it, with
``changeable_by`` and ``purgeable_by``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.conf import settings

from core.access import name_of, record
from runicorn import layout
from runicorn.artifacts.folders import EVALUATIONS
from runicorn.artifacts.names import check_name
from runicorn.artifacts.storage import Purged

from . import index, uploads
from .models import Artifact, Version
from .uploads import UNNAMED_USER


def soft_delete_versions(versions: Iterable[Version], *, by: Any) -> int:
    """Mark *versions* as deleted, without removing anything; return how many were not before."""
    return sum(_soft_delete(version, by) for version in versions)


def _soft_delete(version: Version, by: Any) -> bool:
    location = version.artifact.location
    changed = index.storage().soft_delete(location, version.number, by=name_of(by) or UNNAMED_USER)
    index.index_artifact(location)
    if changed:
        record(by, "version.delete", version)
    return changed


def restore_versions(versions: Iterable[Version], *, by: Any) -> int:
    """Mark *versions* as not deleted; return how many were deleted before."""
    return sum(_restore(version, by) for version in versions)


def _restore(version: Version, by: Any) -> bool:
    location = version.artifact.location
    changed = index.storage().restore(location, version.number)
    index.index_artifact(location)
    if changed:
        record(by, "version.restore", version)
    return changed


def purge_versions(versions: Iterable[Version], *, by: Any) -> Purged:
    """Remove *versions* for good, and the bytes that no other version needs."""
    to_delete = list(versions)
    targets = [(version.artifact.location, version.number) for version in to_delete]
    purged = index.storage().purge(targets)
    for location in {location.folder: location for location, _ in targets}.values():
        index.index_artifact(location)
    for version in to_delete:
        record(by, "version.purge", version)
    return purged


def set_alias(version: Version, alias: str, *, by: Any) -> None:
    """Point *alias* to *version* and to no other. Raises ValueError for a bad name."""
    index.storage().set_alias(version.artifact.location, alias, version.number)
    index.index_artifact(version.artifact.location)
    record(by, "alias.set", f"{alias} → {version}")


def remove_alias(artifact: Artifact, alias: str, *, by: Any) -> bool:
    """Remove *alias*; return whether the artifact had it."""
    removed = index.storage().remove_alias(artifact.location, alias)
    index.index_artifact(artifact.location)
    if removed:
        record(by, "alias.remove", f"{alias} of {artifact}")
    return removed


def edit_version(version: Version, changes: dict[str, Any], *, by: Any) -> bool:
    """Replace ``description``, ``metadata`` or ``tags``; the history keeps their old values.

    Return whether anything changed. Raises ValueError for invalid values.
    """
    location = version.artifact.location
    changed = index.storage().edit(
        location, version.number, changes, by=name_of(by) or UNNAMED_USER
    )
    index.index_artifact(location)
    if changed:
        record(by, "version.edit", version)
    return changed


def promote(
    version: Version, stage: str, *, notes: str | None, evaluator_run_id: str | None, by: Any
) -> str:
    """Move *version* to *stage*; return the old stage. Raises InvalidTransition."""
    location = version.artifact.location
    old = index.storage().promote(
        location, version.number, stage, notes=notes, evaluator_run_id=evaluator_run_id
    )
    index.index_artifact(location)
    record(by, "version.promote", f"{version}: {old} → {stage}")
    return old


def record_evaluation(
    name: str, number: int, version: Version | None, facts: dict[str, Any], *, by: Any
) -> str:
    """Store an evaluation of a version, which may be unknown here; return its id.

    Raises ValueError for a name that no artifact may have, or a number that no version has.
    """
    check_name(name)
    if abs(number) >= 2**63:
        raise ValueError("version has too many digits.")
    folder = settings.RUNICORN_STORAGE_ROOT / EVALUATIONS
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    milliseconds = int(now * 1000)
    while (path := folder / f"{name}_v{number}_{milliseconds}.json").exists():
        milliseconds += 1
    evaluation = {
        "id": path.stem,
        "model_name": name,
        "model_version": number,
        "evaluation_date": now,
        **{key: facts.get(key) for key in ("evaluator_run_id", "metrics", "test_dataset")},
        **{key: facts.get(key) for key in ("status", "notes")},
    }
    layout.write_json(path, evaluation)
    if version is not None:
        index.storage().note_evaluation(version.artifact.location, number, evaluation)
        index.index_artifact(version.artifact.location)
    record(by, "version.evaluate", f"{name}:v{number}")
    return path.stem


def collect_garbage(*, by: Any) -> Purged:
    """Remove contents that no version needs, and the remains of killed processes."""
    uploads.collect_stale()
    collected = index.storage().collect_garbage()
    index.catch_up()
    record(by, "artifacts.collect", f"{collected.count} contents")
    return collected
