"""Tags, notes, pins and archive marks of runs, in the storage root's
``.experiments_metadata.json``; and the runs themselves, by what that file says of them."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from . import layout

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


_FIELDS = tuple(f.name for f in fields(ExperimentMetadata))


class ExperimentManager:
    """The runs below *storage_root*, whether anything was noted of them or not.

    Every change is made under the file's lock and appears in one step. Looking for runs reads the
    folder tree once per call, and two small files of each run about which nothing is noted.
    """

    def __init__(self, storage_root: str | os.PathLike[str]) -> None:
        self.storage_root = Path(storage_root)
        self.metadata_file = self.storage_root / layout.EXPERIMENTS_METADATA

    def add_experiment(
        self,
        run_id: str,
        project: str,
        name: str,
        tags: Iterable[str] | None = None,
        description: str | None = None,
    ) -> ExperimentMetadata:
        """Note a run, or what is new of a run that is noted already."""

        def note(record: ExperimentMetadata) -> None:
            record.project, record.name = project, name
            if tags is not None:
                record.tags = list(dict.fromkeys(tags))
            if description is not None:
                record.description = description

        record = self._change(run_id, note, create=True)
        assert record is not None
        return record

    def tag_experiment(self, run_id: str, tags: Iterable[str], append: bool = True) -> bool:
        """Give a run *tags*, beside those it has or instead of them; False if there is none."""

        def tag(record: ExperimentMetadata) -> None:
            record.tags = list(dict.fromkeys([*(record.tags if append else []), *tags]))

        return self._change(run_id, tag) is not None

    def describe_experiment(self, run_id: str, description: str) -> bool:
        """Replace the notes about a run; False if there is none."""

        def describe(record: ExperimentMetadata) -> None:
            record.description = description or None

        return self._change(run_id, describe) is not None

    def archive_experiment(self, run_id: str, archive: bool = True) -> bool:
        return self._change(run_id, lambda record: setattr(record, "archived", archive)) is not None

    def pin_experiment(self, run_id: str, pin: bool = True) -> bool:
        return self._change(run_id, lambda record: setattr(record, "pinned", pin)) is not None

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
        wanted = set(tags or ())
        text = (text or "").casefold()
        found = [
            record
            for record in self._records().values()
            if (archived or not record.archived)
            and project in (None, record.project)
            and pinned in (None, record.pinned)
            and wanted <= set(record.tags)
            and text in "\n".join(_texts(record)).casefold()
        ]
        return sorted(found, key=lambda record: (-record.updated_at, record.id))

    def delete_experiments(self, run_ids: Iterable[str], force: bool = False) -> dict[str, bool]:
        """Remove the folders of runs for good, past the recycle bin; pinned ones with *force* only.

        False for a run that stays or never was. Nothing outside a run's own folder is touched, and
        no link is followed.
        """
        folders = self._folders()
        records = self._stored()
        results = {}
        for run_id in dict.fromkeys(run_ids):
            record = records.get(run_id)
            is_kept = record is not None and record.pinned and not force
            results[run_id] = not is_kept and self._remove(folders.get(run_id))
        self._forget(run_id for run_id, is_gone in results.items() if is_gone)
        return results

    def cleanup_old_experiments(self, days: float = 30, dry_run: bool = True) -> list[str]:
        """The runs in which nothing has changed for *days*; removed for good unless *dry_run*.

        Pinned, archived and running ones are left alone.
        """
        before = time.time() - days * _DAY_S
        folders = self._folders()
        old = [
            record.id
            for record in self._records().values()
            if record.updated_at < before
            and not (record.pinned or record.archived)
            and record.id in folders
            and layout.read_json(folders[record.id] / layout.STATUS).get("status") != "running"
        ]
        if not dry_run:
            results = self.delete_experiments(old)
            old = [run_id for run_id in old if results[run_id]]
        return old

    def get_experiment_stats(self) -> dict[str, Any]:
        """``{total, archived, pinned, projects: {name: count}, tags, active}``."""
        records = self._records().values()
        archived = sum(record.archived for record in records)
        return {
            "total": len(records),
            "archived": archived,
            "pinned": sum(record.pinned for record in records),
            "projects": dict(Counter(record.project for record in records)),
            "tags": sorted({tag for record in records for tag in record.tags}),
            "active": len(records) - archived,
        }

    # -- records and folders -------------------------------------------------------------------

    def _stored(self) -> dict[str, ExperimentMetadata]:
        stored = layout.read_json(self.metadata_file)
        return {i: record_from(i, data) for i, data in stored.items() if isinstance(data, dict)}

    def _records(self) -> dict[str, ExperimentMetadata]:
        """What is noted, and every other run as its folder has it."""
        records = self._stored()
        for run_id, folder in self._folders().items():
            if (folder / layout.DELETED).exists():
                records.pop(run_id, None)
            elif run_id not in records:
                records[run_id] = _record_of(folder, self.storage_root)
        return records

    def _folders(self) -> dict[str, Path]:
        """Every run's folder by its id; of equal ids the first one."""
        folders: dict[str, Path] = {}
        for _, entry in layout.iter_run_dirs(self.storage_root):
            folders.setdefault(entry.name, Path(entry.path))
        return folders

    def _change(
        self, run_id: str, change: Callable[[ExperimentMetadata], object], create: bool = False
    ) -> ExperimentMetadata | None:
        """Apply *change* to a run's record; None if there is no such run."""
        self.storage_root.mkdir(parents=True, exist_ok=True)
        with layout.locked(self.metadata_file):
            stored = layout.read_json(self.metadata_file)
            data = stored.get(run_id)
            if isinstance(data, dict):
                record = record_from(run_id, data)
            elif (folder := self._folders().get(run_id)) is not None:
                record = _record_of(folder, self.storage_root)
            elif create:
                record = ExperimentMetadata(run_id, created_at=time.time())
            else:
                return None
            change(record)
            record.updated_at = time.time()
            # Members that other versions keep there stay.
            stored[run_id] = {**(data if isinstance(data, dict) else {}), **asdict(record)}
            layout.write_json(self.metadata_file, stored)
        return record

    def _forget(self, run_ids: Iterable[str]) -> None:
        gone = set(run_ids)
        if not gone or not self.metadata_file.exists():
            return
        with layout.locked(self.metadata_file):
            stored = layout.read_json(self.metadata_file)
            layout.write_json(
                self.metadata_file, {i: r for i, r in stored.items() if i not in gone}
            )

    def _remove(self, folder: Path | None) -> bool:
        if folder is None or folder.is_symlink():
            return False
        try:
            shutil.rmtree(folder)
        except OSError:
            return False
        return True


def _texts(record: ExperimentMetadata) -> list[str]:
    return [record.name, record.project, record.description or "", *record.tags]


def record_from(run_id: str, data: dict[str, Any]) -> ExperimentMetadata:
    """What the file has of a run; members of another type count as absent."""
    record = ExperimentMetadata(run_id)
    for name in _FIELDS[1:]:
        value, default = data.get(name), getattr(record, name)
        is_time = name in ("created_at", "updated_at") and isinstance(value, int | float)
        if is_time or (isinstance(value, type(default)) if default is not None else True):
            setattr(record, name, value)
    record.tags = [tag for tag in record.tags if isinstance(tag, str)]
    if not isinstance(record.description, str):
        record.description = None
    return record


def _record_of(folder: Path, root: Path) -> ExperimentMetadata:
    """What a run's folder says of it; where it lies, if it does not say that."""
    parts = layout.split_run_dir(folder.relative_to(root).as_posix())
    place = {"project": parts[0], "name": parts[1]} if parts else {}
    meta = layout.read_json(folder / layout.META)
    status = layout.read_json(folder / layout.STATUS)
    named = {key: meta[key] for key in place if isinstance(meta.get(key), str)}
    created = _time(meta.get("created_at")) or _mtime(folder)
    updated = _time(status.get("ended_at")) or max(created, _mtime(folder / layout.EVENTS))
    return record_from(
        folder.name, {**place, **named, "created_at": created, "updated_at": updated}
    )


def _time(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
