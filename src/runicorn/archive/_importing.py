"""Archives taken into a storage root: all is judged before anything is written."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from .. import layout
from ..files import open_inside
from ..run_store import experiments_file
from ._formats import (
    GZIP,
    ArchiveError,
    ArchiveTooLarge,
    Limits,
    Member,
    named_errors,
    size_of,
    tar_members,
    zip_members,
)
from ._places import (
    ALIKE,
    FOREIGN,
    READ_BYTES,
    TWICE,
    VERSIONS,
    Place,
    Spellings,
    is_case_blind,
    is_run,
    parents,
    parts_of,
    place_of,
    wrapper_of,
)
from ._versions import merge_index

_STAGING = "imports"
_STALE_SECONDS = 24 * 3600
_LARGEST_INDEX = 64 * 2**20
_LARGEST_META = 2**20
_MOST_REFUSALS_TOLD = 100


@dataclass
class Report:
    """The outcome of an import, or of a dry run. Folders are relative to the root."""

    new: list[str] = field(default_factory=list)
    """Runs and artifact versions that came in."""
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    """Already there, with the same content."""
    kept: list[str] = field(default_factory=list)
    """Already there with other content, which stayed as it was."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(member, why) of the first hundred members that were left out."""
    refused_count: int = 0
    files: int = 0
    bytes: int = 0

    @property
    def new_runs(self) -> list[str]:
        return [directory for directory in self.new if is_run(directory)]

    @property
    def has_any(self) -> bool:
        """True if the archive holds a run or an artifact version that may be here."""
        return bool(self.new or self.replaced or self.unchanged or self.kept)

    def why_nothing(self) -> str:
        """Return a sentence for an archive of which nothing can be taken."""
        reasons = {reason for _, reason in self.refused} - {FOREIGN}
        if reasons:
            name, reason = next(each for each in self.refused if each[1] != FOREIGN)
            return f"nothing in it can be taken; {name}: {reason}"
        return (
            "it holds no run and no artifact; runs lie in <project>/<experiment>/runs/<run id>/ "
            "as 'runicorn export' writes them"
        )

    def _refuse(self, name: str, reason: str) -> None:
        self.refused_count += 1
        if len(self.refused) < _MOST_REFUSALS_TOLD:
            shown = name.encode("utf-8", "backslashreplace").decode()
            self.refused.append((shown[:300], reason))


def import_archive(
    archive: Path | IO[bytes],
    root: Path,
    *,
    replace: bool = False,
    dry_run: bool = False,
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Take the runs and artifact versions of *archive* into the storage root.

    The whole archive is read and judged before the first file is written. Each run appears in
    its place complete, in one step; so after an interruption the same import goes on where it
    stopped. What is already there stays unless *replace*. *progress* is told the number of packed
    bytes read (twice those of the archive in all). Raises ArchiveError or ArchiveTooLarge, both
    with a sentence for the user, having written nothing.
    """
    with _opened(archive) as file:
        job = _Import(file, Path(root), replace, limits or Limits(), progress)
        with named_errors():
            job.survey()
        if not (job.report.has_any or job.indexes):
            raise ArchiveError(job.report.why_nothing())
        if not dry_run and (job.wanted or job.indexes):
            with named_errors():
                job.extract()
        return job.report


@dataclass
class _Unit:
    """A run or an artifact version as the archive has it."""

    names: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    files: int = 0
    bytes: int = 0
    last: int = 0
    """The number of its last member: with that one it is complete."""
    differs: bool = False
    times: dict[str, int | None] = field(default_factory=dict)


class _Found(NamedTuple):
    """A member as the first pass saw it; only when all are known can it be said whose it is."""

    number: int
    name: str
    is_dir: bool
    mtime_ns: int | None
    parts: list[str] | str
    """The parts of its path, or a text that says why it goes nowhere."""
    size: int = 0
    digest: bytes = b""
    content: bytes | None = None
    """The content of a small document about the archive."""


class _Import:
    def __init__(
        self,
        file: IO[bytes],
        root: Path,
        replace: bool,
        limits: Limits,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.file = file
        self.root = root
        self.replace = replace
        self.limits = limits
        self.progress = progress
        self.report = Report()
        self.units: dict[str, _Unit] = {}
        self.wanted: set[str] = set()
        self.indexes: dict[str, tuple[bytes, int | None]] = {}
        self._refused: set[int] = set()
        self._run_folders: set[str] = set()
        self._wrapper: list[str] = []
        """The folders around everything, as "compress folder" makes one."""
        self._spellings = Spellings() if is_case_blind(self.root.absolute()) else None
        self._unpacked = 0
        self._packed = size_of(file)
        self._told = 0

    # -- first pass: read everything, write nothing --

    def survey(self) -> None:
        found = [self._look_at(number, member) for number, member in self._members()]
        self._recognize(found)
        for item in found:
            reason = self._survey(item)
            if reason:
                self._refused.add(item.number)
                if not (item.is_dir and reason == FOREIGN):  # such as the project's folder
                    self.report._refuse(item.name, reason)
        self._judge()

    def _look_at(self, number: int, member: Member) -> _Found:
        parts: list[str] | str = member.refusal or parts_of(member.name)
        found = _Found(number, member.name, member.is_dir, member.mtime_ns, parts)
        if isinstance(parts, str) or member.is_dir:
            return found
        most = 0
        if parts[-1:] == [VERSIONS]:
            most = _LARGEST_INDEX
        elif parts[-1:] == [layout.META]:
            most = _LARGEST_META
        size, digest, kept = 0, hashlib.sha256(), b""
        for data in self._content(member):
            size += len(data)
            digest.update(data)
            if size <= most:
                kept += data
        content = kept if size <= most and most else None
        return found._replace(size=size, digest=digest.digest(), content=content)

    def _recognize(self, found: list[_Found]) -> None:
        """Find the folders around everything, and which folders are runs: by the files in them."""
        files = [
            (item.parts, layout.parse_json(item.content or b"") or {})
            for item in found
            if not item.is_dir and not isinstance(item.parts, str)
        ]
        self._wrapper = wrapper_of(files)
        depth = len(self._wrapper)
        for parts, _ in files:
            if parts[:depth] == self._wrapper and parts[-1:] and parts[-1] in layout.RUN_FILES:
                directory = "/".join(parts[depth:-1])
                if layout.split_run_dir(directory):
                    self._run_folders.add(directory)

    def _place(self, parts: list[str] | str) -> Place | str:
        if isinstance(parts, str):
            return parts
        depth = len(self._wrapper)
        return (
            place_of(parts[depth:], self._run_folders)
            if parts[:depth] == self._wrapper
            else FOREIGN
        )

    def _survey(self, found: _Found) -> str | None:
        """Add the member to what it belongs to, or say why it belongs to nothing."""
        place = self._place(found.parts)
        if isinstance(place, str):
            return place
        if self._spellings and self._spellings.is_taken(str(place)):
            return ALIKE
        if place.is_index:
            if found.is_dir or place.directory in self.indexes:
                return TWICE
            if found.content is None:
                return "it is too large for an index"
            self.indexes[place.directory] = found.content, found.mtime_ns
            return None
        unit = self.units.setdefault(place.directory, _Unit())
        above = parents(place.inner)
        if not above.isdisjoint(unit.names):
            return "a folder of its path is a file"
        if place.inner in unit.names or (not found.is_dir and place.inner in unit.folders):
            return TWICE
        unit.folders |= above
        unit.last = found.number
        if found.is_dir:
            unit.folders.add(place.inner)
            return None
        unit.names.add(place.inner)
        unit.files += 1
        unit.bytes += found.size
        unit.differs = unit.differs or not self._is_there(found, place)
        return None

    def _is_there(self, found: _Found, place: Place) -> bool:
        """Return whether the file in its place holds the same."""
        try:
            with open_inside(self.root, str(place)) as file:
                if os.fstat(file.fileno()).st_size != found.size:
                    return False
                digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
                return digest.digest() == found.digest
        except OSError:
            return False

    def _judge(self) -> None:
        """Sort the units into new, unchanged, kept and replaced."""
        report = self.report
        for directory in sorted(self.units):
            unit = self.units[directory]
            if not unit.files:
                continue
            if reason := self._obstacle(directory):
                report._refuse(directory, reason)
                continue
            if not os.path.lexists(self.root / directory):
                report.new.append(directory)
            elif not unit.differs:
                report.unchanged.append(directory)
                continue
            elif not self.replace:
                report.kept.append(directory)
                continue
            else:
                report.replaced.append(directory)
            self.wanted.add(directory)
            report.files += unit.files
            report.bytes += unit.bytes

    def _obstacle(self, directory: str) -> str | None:
        """Nothing is written through a link, nor where a file is in the way."""
        path = self.root
        for part in directory.split("/"):
            path = path / part
            if path.is_symlink():
                return "a link is in the way"
            if path.exists() and not path.is_dir():
                return "a file is in the way"
        return None

    # -- second pass --

    def extract(self) -> None:
        if self.report.bytes > shutil.disk_usage(self.root).free:
            raise ArchiveTooLarge("there is not enough room on the disk for it")
        self._unpacked = 0
        staging = _new_staging(self.root)
        try:
            due = {self.units[directory].last: directory for directory in self.wanted}
            for number, member in self._members():
                place = self._place(parts_of(member.name))
                if isinstance(place, Place) and number not in self._refused:
                    self._extract(staging, member, place)
                if number in due:
                    self._put_in_place(staging, due[number])
            for directory, (content, mtime_ns) in sorted(self.indexes.items()):
                if merge_index(self.root / directory, content):
                    _set_mtime(self.root / directory / VERSIONS, mtime_ns)
            # What was noted of a run that is replaced goes with it.
            replaced = [directory.rpartition("/")[2] for directory in self.report.replaced]
            experiments_file(self.root).forget(replaced)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _extract(self, staging: Path, member: Member, place: Place) -> None:
        if place.directory not in self.wanted:
            return
        path = staging / place.directory / place.inner
        if member.is_dir:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for data in self._content(member):
                    file.write(data)
        self.units[place.directory].times[place.inner] = member.mtime_ns

    def _put_in_place(self, staging: Path, directory: str) -> None:
        made, target = staging / directory, self.root / directory
        if not is_run(directory):
            from ..artifacts import ArtifactStorage

            ArtifactStorage(self.root).share(made)
        for inner, mtime_ns in sorted(self.units[directory].times.items(), reverse=True):
            _set_mtime(made / inner, mtime_ns)
        target.parent.mkdir(parents=True, exist_ok=True)
        if directory in self.report.replaced:
            target.rename(Path(tempfile.mkdtemp(dir=staging)) / "replaced")
        made.rename(target)

    # -- both --

    def _members(self) -> Iterator[tuple[int, Member]]:
        self.file.seek(0)
        is_gzip = self.file.read(2) == GZIP
        is_zip = not is_gzip and zipfile.is_zipfile(self.file)
        self.file.seek(0)
        members = zip_members if is_zip else tar_members
        for number, member in enumerate(members(self.file, self.limits, self._count)):
            if number >= self.limits.members:
                raise ArchiveTooLarge(f"it has more than {self.limits.members:,} members")
            yield number, member

    def _content(self, member: Member) -> Iterator[bytes]:
        with closing(member.open()) as file:
            while data := file.read(READ_BYTES):
                yield data

    def _count(self, unpacked: int) -> None:
        """Count unpacked bytes, wanted or not, before they are used."""
        self._unpacked += unpacked
        limit = min(self.limits.bytes, max(self.limits.small, self._packed * self.limits.ratio))
        if self._unpacked > limit:
            raise ArchiveTooLarge("it unpacks to far more than an archive of runs does")
        if self.progress and (read := self.file.tell()) - self._told:
            self.progress(max(0, read - self._told))
            self._told = read


@contextmanager
def _opened(archive: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(archive, str | os.PathLike):
        with open(archive, "rb") as file:
            yield file
    else:
        yield archive


def _set_mtime(path: Path, mtime_ns: int | None) -> None:
    if mtime_ns is not None:
        layout.set_mtime(path, mtime_ns)


def _new_staging(root: Path) -> Path:
    """A folder of our own on the root's file system; what crashes left behind goes."""
    parent = root / layout.SERVER_DIR / _STAGING
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.iterdir():
        try:
            if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            pass
    return Path(tempfile.mkdtemp(dir=parent))
