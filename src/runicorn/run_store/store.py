"""The verbs. Each checks, changes the files in one step under the store's lock, or says why not."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import layout
from ..files import load_json_inside
from . import annotation as notes_of
from . import moves
from .annotation import Annotations
from .errors import AmbiguousRun, RunConflict, RunNotFound, RunRefused
from .experiments_file import ExperimentsFile, experiments_file
from .living import is_living, is_mirrored

logger = logging.getLogger("runicorn")

_LOCK = "runs"
_TRASH = "trash"


@dataclass
class StoredRun:
    """A run as its folder has it."""

    directory: str
    """Relative to the storage root; empty if it has none."""
    run_id: str
    project: str | None
    name: str | None
    status: str
    annotations: Annotations
    created_at: float
    changed_at: float
    """When a person or the run itself changed something last."""
    is_deleted: bool


class RunStore:
    """The runs of one storage root, and what people do to them."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    @property
    def experiments_file(self) -> ExperimentsFile:
        return experiments_file(self.root)

    # -- finding ---------------------------------------------------------------------------------

    def directories(self) -> dict[str, list[str]]:
        """The folders of all runs by run id; a copied run has several, in order of their names."""
        directories: dict[str, list[str]] = {}
        for directory, entry in layout.iter_run_dirs(self.root):
            directories.setdefault(entry.name, []).append(directory)
        return {run_id: sorted(folders) for run_id, folders in directories.items()}

    def find(self, run_id: str, directory: str | None = None) -> str:
        """The folder of a run that is to be changed. Raises RunNotFound and AmbiguousRun.

        *directory*: which one of several copies.
        """
        folders = self.directories().get(run_id, [])
        if directory is not None:
            folders = [folder for folder in folders if folder == directory.strip("/")]
        if not folders:
            raise RunNotFound(f"There is no run {run_id}.")
        if len(folders) > 1:
            raise AmbiguousRun(run_id, folders)
        return folders[0]

    def original(self, directories: Iterable[str]) -> str:
        """Of several copies of a run the one to show: its files agree with where it lies.

        If several do, or none, it is the one whose folder is the oldest.
        """

        def rank(directory: str) -> tuple[bool, float, str]:
            folder = self.root / directory
            is_home = layout.is_at_home(directory, layout.read_json(folder / layout.META))
            return not is_home, _mtime(folder), directory

        return min(directories, key=rank)

    def run(self, directory: str) -> StoredRun:
        """The run in *directory*, as its files say now. Raises RunNotFound."""
        folder = self._folder(directory)
        meta = layout.read_json(folder / layout.META)
        status = layout.read_json(folder / layout.STATUS)
        marker = layout.read_json(folder / layout.DELETED)
        project, name = layout.place_of_run(directory, meta, marker)
        annotations = annotations_of(self.root, directory, meta)
        created = notes_of.time_of(meta.get("created_at")) or _mtime(folder)
        ended = notes_of.time_of(status.get("ended_at"))
        return StoredRun(
            directory=directory,
            run_id=folder.name,
            project=project,
            name=name,
            status=notes_of.text(status.get("status")) or "finished",
            annotations=annotations,
            created_at=created,
            changed_at=annotations.updated_at
            or ended
            or max(created, _mtime(folder / layout.EVENTS)),
            is_deleted=self.is_deleted(directory),
        )

    def runs(self, *, absent: bool = False) -> Iterator[StoredRun]:
        """Every run of the root, those in the recycle bin and copies included.

        *absent*: also those of which 0.4's file has a record, and that have no folder.
        """
        run_ids = set()
        for directory, _ in layout.iter_run_dirs(self.root):
            try:
                run = self.run(directory)
            except (RunNotFound, OSError):
                continue  # gone meanwhile
            run_ids.add(run.run_id)
            yield run
        for run_id, record in self.experiments_file.records().items() if absent else ():
            if run_id not in run_ids:
                yield _absent_run(run_id, record)

    def search(
        self,
        project: str | None = None,
        tags: Iterable[str] = (),
        text: str = "",
        archived: bool = False,
        pinned: bool | None = None,
        *,
        absent: bool = False,
    ) -> list[StoredRun]:
        """Runs with all of *tags* and *text* in name, project, notes, display name or a tag.

        Case does not matter; the last changed come first. Runs in the recycle bin are left out,
        archived ones unless *archived* asks for them as well. *absent*: see :meth:`runs`.
        """
        wanted, text = set(tags), text.casefold()
        hits = [
            run
            for run in self.runs(absent=absent)
            if not run.is_deleted
            and (archived or not run.annotations.archived)
            and project in (None, run.project)
            and pinned in (None, run.annotations.pinned)
            and wanted <= set(run.annotations.tags)
            and text in "\n".join(_searchable(run)).casefold()
        ]
        return sorted(hits, key=lambda run: (-run.changed_at, run.run_id, run.directory))

    def is_deleted(self, directory: str) -> bool:
        marker = self.root / directory / layout.DELETED
        return layout.is_recycled(directory) or os.path.lexists(marker)

    # -- annotations -----------------------------------------------------------------------------

    def annotations(self, directory: str) -> Annotations:
        """What people keep about the run. Raises RunNotFound."""
        meta = layout.read_json(self._folder(directory) / layout.META)
        return annotations_of(self.root, directory, meta)

    def annotate(
        self,
        directory: str,
        change: Callable[[Annotations], object],
        *,
        experiments_file: bool = False,
    ) -> Annotations:
        """Apply *change* to what people keep about the run, in one step; return what holds now.

        0.4's file follows where it exists, and is made if *experiments_file* asks for it.
        """
        with self._locked():
            folder = self._folder(directory)
            path = folder / layout.ANNOTATIONS
            meta = layout.read_json(folder / layout.META)
            stored = layout.load_for_change(path)
            record = self.experiments_file.record(folder.name)
            annotations = notes_of.merged(stored, record, meta)
            change(annotations)
            annotations.tags = notes_of.unique(annotations.tags)
            # Later than what it was made from, whatever the clock says.
            annotations.updated_at = max(time.time(), annotations.updated_at + 1e-3)
            notes_of.write(path, annotations, stored)
            # Under the lock, so that the last change is also the last to be written there.
            self._tell_experiments_file(directory, meta, annotations, experiments_file)
        return annotations

    def tag(
        self, directory: str, tags: Iterable[str], *, append: bool = True, **options: Any
    ) -> Annotations:
        """Give the run *tags*, beside those it has or, without *append*, instead of them."""
        added = [tag for tag in tags if tag]

        def change(annotations: Annotations) -> None:
            annotations.tags = [*(annotations.tags if append else []), *added]

        return self.annotate(directory, change, **options)

    def set_notes(self, directory: str, notes: str, **options: Any) -> Annotations:
        return self.annotate(directory, lambda a: setattr(a, "notes", notes), **options)

    def set_display_name(self, directory: str, name: str, **options: Any) -> Annotations:
        return self.annotate(directory, lambda a: setattr(a, "display_name", name), **options)

    def pin(self, directory: str, pinned: bool = True, **options: Any) -> Annotations:
        return self.annotate(directory, lambda a: setattr(a, "pinned", pinned), **options)

    def archive(self, directory: str, archived: bool = True, **options: Any) -> Annotations:
        return self.annotate(directory, lambda a: setattr(a, "archived", archived), **options)

    # -- recycle bin -----------------------------------------------------------------------------

    def delete(
        self, directory: str, *, by: str | None = None, reason: str = "user_deleted"
    ) -> dict[str, Any]:
        """Move the run to the recycle bin; return the marker, which names who did it.

        The folder stays where it is. Raises RunNotFound, and RunConflict if it is there already.
        """
        with self._locked():
            folder = self._folder(directory)
            if self.is_deleted(directory):
                raise RunConflict(f"Run {folder.name} is in the recycle bin already.")
            return layout.write_deleted_marker(folder, reason=reason, at=time.time(), by=by)

    def restore(self, directory: str) -> str:
        """Bring the run back from the recycle bin; return its folder.

        That is another one for a run that Runicorn 0.7 has put into ``runs/.recycle``. Raises
        RunNotFound, and RunConflict if it is not in the bin or its place is taken.
        """
        with self._locked():
            folder = self._folder(directory)
            if not self.is_deleted(directory):
                raise RunConflict(f"Run {folder.name} is not in the recycle bin.")
            if layout.is_recycled(directory):
                directory = self._leave_recycle_bin(directory)
            layout.remove_deleted_marker(self.root / directory)
        return directory

    def _leave_recycle_bin(self, directory: str) -> str:
        folder = self.root / directory
        meta = layout.read_json(folder / layout.META)
        project, name = layout.place_of_run(
            directory, meta, layout.read_json(folder / layout.DELETED)
        )
        is_v07 = isinstance(meta.get("path"), str) or not (project and name)
        target = layout.run_dir(project, name, folder.name, is_v07=is_v07)
        self._check_target(target)
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        folder.rename(self.root / target)
        return target

    def purge(
        self, directories: Iterable[str], *, force: bool = False
    ) -> tuple[int, dict[str, str]]:
        """Remove runs in the recycle bin for good, with their tags and notes.

        Returns the bytes that this freed, and by folder why a run stays: it is not in the bin,
        holds other runs, or still lives and *force* is not given. A folder is first moved aside
        as a whole, so that a crash leaves a run either there or gone.
        """
        freed, refusals, gone = 0, {}, []
        for directory in directories:
            try:
                with self._locked():
                    self._check_purge(directory, force)
                    size = size_of(self.root / directory)
                    aside = self._move_aside(self.root / directory)
                _remove_tree(aside)
                if aside == self.root / directory and aside.exists():
                    raise RunConflict(f"Not all of {directory} could be removed.")
            except (RunRefused, OSError) as error:
                refusals[directory] = str(error)
                continue
            freed += size
            gone.append(directory.rpartition("/")[2])
        if gone and self.experiments_file.exists():
            copies = self.directories()
            self.experiments_file.forget(run_id for run_id in gone if run_id not in copies)
        return freed, refusals

    def _check_purge(self, directory: str, force: bool) -> None:
        folder = self._folder(directory)
        if not self.is_deleted(directory):
            raise RunConflict(f"Run {folder.name} is not in the recycle bin.")
        if layout.holds_runs(folder):
            raise RunConflict(
                f"Run {folder.name} holds other runs in its folder: remove them first."
            )
        is_needed = is_living(folder) and not is_mirrored(self.root, directory)
        if is_needed and not force:
            raise RunConflict(f"Run {folder.name} is still running: stop it first.")

    def _move_aside(self, folder: Path) -> Path:
        aside = self.root / layout.SERVER_DIR / _TRASH / uuid.uuid4().hex
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(aside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return folder  # another file system: it is removed where it lies
        return aside

    # -- moving ----------------------------------------------------------------------------------

    def move(self, directory: str, project: str, name: str) -> str:
        """Give the run to another project and experiment; return its new folder.

        Folder and ``meta.json`` change in one step; id, tags and usages stay. Raises RunNotFound,
        ValueError for names that cannot be, and RunConflict if the run lives, holds other runs,
        or its new place is taken.
        """
        layout.check_name("project", project)
        layout.check_name("name", name)
        with self._locked():
            folder = self._folder(directory)
            if layout.is_recycled(directory):
                raise RunConflict(f"Run {folder.name} is in the recycle bin: restore it first.")
            move = moves.planned(self.root, directory, project, name)
            self._check_moves([move])
            moves.carry_out(self.root, [move])
        return move.target

    def rename_experiment(self, project: str, name: str, new_name: str) -> dict[str, str]:
        """Rename an experiment, runs in the recycle bin included; old folders to new ones."""
        layout.check_name("name", new_name)

        def place(run_project: str | None, run_name: str | None) -> tuple[str, str | None] | None:
            return (project, new_name) if (run_project, run_name) == (project, name) else None

        return self._rename(place, (project, new_name), f"an experiment {name} in {project}")

    def rename_project(self, project: str, new_project: str) -> dict[str, str]:
        """Rename a project with all its experiments; old folders to new ones."""
        layout.check_name("project", new_project)

        def place(run_project: str | None, run_name: str | None) -> tuple[str, str | None] | None:
            return (new_project, run_name) if run_project == project else None

        return self._rename(place, (new_project, None), f"a project {project}")

    def _rename(
        self,
        place: Callable[[str | None, str | None], tuple[str, str | None] | None],
        target: tuple[str, str | None],
        what: str,
    ) -> dict[str, str]:
        """Move every run for which *place* has a new one, all of them or none."""
        with self._locked():
            planned = []
            for directory, entry in layout.iter_run_dirs(self.root):
                meta = layout.read_json(Path(entry.path, layout.META))
                marker = layout.read_json(Path(entry.path, layout.DELETED))
                project, name = layout.place_of_run(directory, meta, marker)
                if target in ((project, name), (project, None)):
                    raise RunConflict(f"{' / '.join(filter(None, target))} exists already.")
                if new_place := place(project, name):
                    planned.append(moves.planned(self.root, directory, *new_place))
            if not planned:
                raise RunNotFound(f"There is no {what.removeprefix('an ').removeprefix('a ')}.")
            self._check_moves(planned)
            moves.carry_out(self.root, planned)
        return {move.source: move.target for move in planned}

    def _check_moves(self, planned: list[moves.Move]) -> None:
        for move in planned:
            folder = self.root / move.source
            if is_living(folder):
                raise RunConflict(f"Run {folder.name} is still running: stop it first.")
            if layout.holds_runs(folder):
                raise RunConflict(f"Run {folder.name} holds other runs in its folder.")
            try:
                layout.load_json(folder / layout.META)
            except layout.DamagedDocument as error:
                raise RunConflict(str(error)) from error
            if move.target != move.source:
                self._check_target(move.target)

    def _check_target(self, target: str) -> None:
        if os.path.lexists(self.root / target):
            raise RunConflict(f"Its place is taken: {target} exists.")
        inside = layout.run_dir_of(self.root, target)
        if inside is not None:
            raise RunConflict(f"Its place would be inside another run: {inside}.")

    # -- housekeeping ----------------------------------------------------------------------------

    def finish_interrupted(self) -> None:
        """Finish moves and removals that a crash has interrupted: to be called at start."""
        if (self.root / layout.SERVER_DIR / moves.JOURNALS).is_dir():
            with self._locked():
                moves.finish(self.root)
        shutil.rmtree(self.root / layout.SERVER_DIR / _TRASH, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The store's lock: between the threads and the processes that change runs here."""
        folder = self.root / layout.SERVER_DIR
        folder.mkdir(parents=True, exist_ok=True)
        with layout.locked(folder / _LOCK):
            yield

    def _folder(self, directory: str) -> Path:
        """The run's folder. Raises RunNotFound if no run lies there."""
        folder = self.root / directory
        if layout.split_run_dir(directory) is None or not layout.is_run_dir(folder):
            raise RunNotFound(f"There is no run in {directory}.")
        return folder

    def _tell_experiments_file(
        self, directory: str, meta: dict[str, Any], annotations: Annotations, create: bool
    ) -> None:
        project, name = layout.place_of_run(directory, meta)
        record = {
            "id": directory.rpartition("/")[2],
            "project": project or "",
            "name": name or "",
            "tags": annotations.tags,
            "description": annotations.notes or None,
            "created_at": notes_of.time_of(meta.get("created_at")) or annotations.updated_at,
            "updated_at": annotations.updated_at,
            "archived": annotations.archived,
            "pinned": annotations.pinned,
        }
        self.experiments_file.put(record, create=create)


def annotations_of(root: Path, directory: str, meta: dict[str, Any]) -> Annotations:
    """What people keep about the run in *directory*, whose ``meta.json`` holds *meta*."""
    stored, record = _noted(root, directory)
    return notes_of.merged(stored, record, meta)


def annotations_document(root: Path, directory: str) -> dict[str, Any] | None:
    """The ``annotations.json`` that the run should have, if 0.4's file knows more than it says."""
    stored, record = _noted(root, directory)
    is_damaged = stored is None and os.path.lexists(root / directory / layout.ANNOTATIONS)
    if record is None or is_damaged:
        return None
    annotations = notes_of.merged(stored, record, layout.read_json(root / directory / layout.META))
    if stored is not None and annotations.updated_at == notes_of.parse(stored).updated_at:
        return None
    return {**(stored or {}), **notes_of.as_document(annotations)}


def _noted(root: Path, directory: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The run's own annotations, and its record in 0.4's file; None for what is not there."""
    path = root / directory / layout.ANNOTATIONS
    try:
        # A link of the run's folder may lead anywhere, and this is shown and exported.
        stored = load_json_inside(path.parents[1], f"{path.parent.name}/{path.name}")
    except (layout.DamagedDocument, OSError) as error:
        logger.warning("%s", error)
        stored = None
    return stored, experiments_file(root).record(path.parent.name)


def size_of(path: Path) -> int:
    """Bytes on disk below *path*."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                pass
    return total


def _remove_tree(path: Path) -> None:
    """Remove a folder, never what a link in it points to; its run files last.

    So a removal that is interrupted leaves a run in the recycle bin, not a folder without a name.
    """
    last = (layout.META, layout.DELETED)
    try:
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name not in last:
                Path(entry.path).unlink()
        shutil.rmtree(path)
    except OSError as error:
        logger.error("Could not remove all of %s: %s", path, error)


def _absent_run(run_id: str, record: dict[str, Any]) -> StoredRun:
    annotations = notes_of.of_record(record)
    return StoredRun(
        directory="",
        run_id=run_id,
        project=notes_of.text(record.get("project")) or None,
        name=notes_of.text(record.get("name")) or None,
        status="",
        annotations=annotations,
        created_at=notes_of.time_of(record.get("created_at")),
        changed_at=annotations.updated_at,
        is_deleted=False,
    )


def _searchable(run: StoredRun) -> list[str]:
    noted = run.annotations
    return [run.name or "", run.project or "", noted.notes, noted.display_name, *noted.tags]


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
