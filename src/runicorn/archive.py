"""Archives of runs: written as Runicorn 0.4 writes them, read as if a stranger had sent them.

An archive is a gzip tar of run folders under their paths relative to the storage root; with
``artifacts=True`` (beyond 0.4) the artifact versions that these runs made or used come along.

>>> with open(default_name(), "wb") as file:
...     file.writelines(export_runs(root, run_dirs))
>>> report = import_archive(name, other_root)
"""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
import struct
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from . import layout

PIECE = 2**20
_GZIP = b"\x1f\x8b"
ARTIFACTS = "artifacts"
VERSIONS = "versions.json"
_STAGING = "imports"
_STALE_SECONDS = 24 * 3600
_LARGEST_INDEX = 64 * 2**20
_MOST_REFUSALS_TOLD = 100
_LONGEST_PATH = 2000
_DEEPEST_PATH = 40


def default_name() -> str:
    """``runicorn_export_<unix seconds>.tar.gz``."""
    return f"runicorn_export_{int(time.time())}.tar.gz"


# -- writing -----------------------------------------------------------------------------------


def export_runs(root: Path, run_dirs: Iterable[str], *, artifacts: bool = False) -> Iterator[bytes]:
    """The archive of *run_dirs* (relative to *root*, with ``/``), piece by piece.

    The same files give the same bytes. Links are left out. A file that grows meanwhile is written
    as long as it was when its turn came.
    """
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with a gzip header, without a date
    for piece in _tar(root, list(run_dirs), artifacts):
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()


def _tar(root: Path, run_dirs: list[str], artifacts: bool) -> Iterator[bytes]:
    written = 0
    names = itertools.chain(run_dirs, _artifacts_of(root, run_dirs) if artifacts else ())
    for name in names:
        for piece in _tar_tree(root / name, name):
            written += len(piece)
            yield piece
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def _tar_tree(path: Path, name: str) -> Iterator[bytes]:
    """The tar members of *path* and all below it, in the order of their names."""
    info = os.lstat(path)
    if layout.is_regular_file(info):
        yield from _tar_file(path, name)
    elif path.is_dir() and not path.is_symlink():
        yield _tar_header(name, info, tarfile.DIRTYPE)
        for entry in sorted(os.listdir(path)):
            yield from _tar_tree(path / entry, f"{name}/{entry}")


def _tar_file(path: Path, name: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        info = os.fstat(file.fileno())
        yield _tar_header(name, info, tarfile.REGTYPE)
        left = info.st_size
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise OSError(f"{path} became shorter while it was exported")
            left -= len(piece)
            yield piece
    yield bytes(-info.st_size % tarfile.BLOCKSIZE)


def _tar_header(name: str, info: os.stat_result, kind: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    member.size = info.st_size if kind == tarfile.REGTYPE else 0
    seconds, nanoseconds = divmod(info.st_mtime_ns, 10**9)
    member.mtime = max(0, seconds)
    member.pax_headers = {"mtime": f"{seconds}.{nanoseconds:09d}"}  # a float would round it
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _artifacts_of(root: Path, run_dirs: list[str]) -> Iterator[str]:
    """The index and the version folder of every artifact version that the runs name."""
    found: set[str] = set()
    for run_dir in run_dirs:
        for document in (layout.ARTIFACTS_CREATED, layout.ARTIFACTS_USED):
            entries = layout.read_json(root / run_dir / document).get("artifacts")
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict):
                    kind, name, version = (entry.get(k) for k in ("type", "name", "version"))
                    found.add(f"{ARTIFACTS}/{kind}/{name}/v{version}")
    for directory in sorted(found):
        place = _place(f"{directory}/x")
        if isinstance(place, Place) and (root / directory).is_dir():
            index = f"{place.directory.rpartition('/')[0]}/{VERSIONS}"
            if index not in found and (root / index).is_file():
                found.add(index)
                yield index
            yield directory


# -- reading -----------------------------------------------------------------------------------


class ArchiveError(ValueError):
    """The archive cannot be read."""


class ArchiveTooLarge(ArchiveError):
    """The archive holds, or unpacks to, more than is allowed."""


@dataclass(frozen=True)
class Limits:
    """What one archive may hold; anything beyond is taken for an attack."""

    members: int = 500_000
    bytes: int = 2**40
    ratio: int = 250
    """Unpacked to packed bytes, once more than ``small`` is unpacked."""
    small: int = 256 * 2**20


@dataclass
class Report:
    """What an import did, or with ``dry_run`` would do. Folders are relative to the root."""

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
        with _named_errors():
            job.survey()
        if not dry_run and (job.wanted or job.indexes):
            with _named_errors():
                job.extract()
        return job.report


@dataclass(frozen=True)
class Place:
    """Where a member belongs: a file or folder *inner* below the run or version *directory*."""

    directory: str
    inner: str

    @property
    def is_index(self) -> bool:
        return self.inner == VERSIONS and self.directory.count("/") == 2


@dataclass
class Member:
    name: str
    is_dir: bool
    mtime_ns: int | None
    open: Callable[[], IO[bytes]]
    refusal: str | None = None


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


def is_run(directory: str) -> bool:
    """Whether a folder of a report is a run's; else it is an artifact version's."""
    return not directory.startswith(f"{ARTIFACTS}/")


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
        self._unpacked = 0
        self._packed = _size(file)
        self._told = 0

    # -- first pass: read everything, write nothing --

    def survey(self) -> None:
        for number, member, place in self._members():
            reason = member.refusal or (place if isinstance(place, str) else None)
            if reason is None and isinstance(place, Place):
                reason = self._survey(number, member, place)
            if reason:
                self._refused.add(number)
                if not (member.is_dir and reason == _FOREIGN):  # such as the project's folder
                    self.report._refuse(member.name, reason)
        self._judge()

    def _survey(self, number: int, member: Member, place: Place) -> str | None:
        if place.is_index:
            if member.is_dir or place.directory in self.indexes:
                return _TWICE
            content = b""
            for piece in self._pieces(member):
                content += piece
                if len(content) > _LARGEST_INDEX:
                    return "it is too large for an index"
            self.indexes[place.directory] = content, member.mtime_ns
            return None
        unit = self.units.setdefault(place.directory, _Unit())
        parents = _parents(place.inner)
        if not parents.isdisjoint(unit.names):
            return "a folder of its path is a file"
        if place.inner in unit.names or (not member.is_dir and place.inner in unit.folders):
            return _TWICE
        unit.folders |= parents
        unit.last = number
        if member.is_dir:
            unit.folders.add(place.inner)
            return None
        unit.names.add(place.inner)
        unit.files += 1
        there = self.root / place.directory / place.inner
        size, same = self._compare(member, there)
        unit.bytes += size
        unit.differs |= not same
        return None

    def _compare(self, member: Member, there: Path) -> tuple[int, bool]:
        """Size of the member, and whether the file that is *there* holds the same."""
        size = 0
        try:
            is_file = layout.is_regular_file(os.lstat(there))
            existing = there.open("rb") if is_file else None
        except OSError:
            existing = None
        if existing is None:
            return sum(map(len, self._pieces(member))), False
        same = True
        with existing:
            for piece in self._pieces(member):
                size += len(piece)
                same = same and existing.read(len(piece)) == piece
            return size, same and not existing.read(1)

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
            for number, member, place in self._members():
                if isinstance(place, Place) and number not in self._refused:
                    self._extract(staging, member, place)
                if number in due:
                    self._put_in_place(staging, due[number])
            for directory, (content, mtime_ns) in sorted(self.indexes.items()):
                if _merge_index(self.root / directory, content):
                    _set_mtime(self.root / directory / VERSIONS, mtime_ns)
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
                for piece in self._pieces(member):
                    file.write(piece)
        self.units[place.directory].times[place.inner] = member.mtime_ns

    def _put_in_place(self, staging: Path, directory: str) -> None:
        made, target = staging / directory, self.root / directory
        if not is_run(directory):
            from .artifacts import ArtifactStorage

            ArtifactStorage(self.root).share(made)
        for inner, mtime_ns in sorted(self.units[directory].times.items(), reverse=True):
            _set_mtime(made / inner, mtime_ns)
        target.parent.mkdir(parents=True, exist_ok=True)
        if directory in self.report.replaced:
            target.rename(Path(tempfile.mkdtemp(dir=staging)) / "replaced")
        made.rename(target)

    # -- both --

    def _members(self) -> Iterator[tuple[int, Member, Place | str]]:
        self.file.seek(0)
        is_gzip = self.file.read(2) == _GZIP
        is_zip = not is_gzip and zipfile.is_zipfile(self.file)
        self.file.seek(0)
        members = _zip_members if is_zip else _tar_members
        for number, member in enumerate(members(self.file, self.limits, self._count)):
            if number >= self.limits.members:
                raise ArchiveTooLarge(f"it has more than {self.limits.members:,} members")
            yield number, member, _place(member.name)

    def _pieces(self, member: Member) -> Iterator[bytes]:
        with closing(member.open()) as file:
            while piece := file.read(PIECE):
                yield piece

    def _count(self, unpacked: int) -> None:
        """Told of every unpacked byte, wanted or not, before it is used."""
        self._unpacked += unpacked
        limit = min(self.limits.bytes, max(self.limits.small, self._packed * self.limits.ratio))
        if self._unpacked > limit:
            raise ArchiveTooLarge("it unpacks to far more than an archive of runs does")
        if self.progress and (read := self.file.tell()) - self._told:
            self.progress(max(0, read - self._told))
            self._told = read


_FOREIGN = "it belongs to no run and no artifact"
_TWICE = "it is in the archive twice"


def _place(name: str) -> Place | str:
    """Where a member called *name* goes, or why it goes nowhere."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if length > _LONGEST_PATH:
        return "its path is too long"
    if "\\" in name or any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "its name has characters that no run uses"
    if name.startswith("/") or (os.name == "nt" and ":" in name):
        return "its path is absolute"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "its path leads out of the storage folder"
    if len(parts) > _DEEPEST_PATH or any(len(part.encode()) > 255 for part in parts):
        return "its path is too long"
    depth = _depth(parts)
    if depth is None:
        return _FOREIGN
    try:
        for kind, part in zip(("project", "name", "", "run"), parts, strict=False):
            if part not in (layout.RUNS, ARTIFACTS):
                layout.check_name(kind, part)
    except ValueError as error:
        return str(error)
    return Place("/".join(parts[:depth]), "/".join(parts[depth:]))


def _depth(parts: list[str]) -> int | None:
    """How many of *parts* name the run, the artifact version, or the artifact of an index."""
    if parts[:1] == [ARTIFACTS]:
        if len(parts) == 4 and parts[3] == VERSIONS:
            return 3
        return 4 if len(parts) >= 4 and _is_version(parts[3]) else None
    for depth in (2, 4):
        if len(parts) >= depth and layout.split_run_dir("/".join(parts[:depth])):
            return depth
    return None


def _is_version(text: str) -> bool:
    return text.startswith("v") and text[1:].isascii() and text[1:].isdigit() and len(text) < 12


def _parents(inner: str) -> set[str]:
    """The folders above *inner*; the first is the run's own, ``""``."""
    parts = inner.split("/") if inner else []
    return {"/".join(parts[:n]) for n in range(len(parts))}


# -- formats -----------------------------------------------------------------------------------


class _Counted:
    """A stream that reports what is read from it and refuses absurdly large reads.

    ``tarfile`` reads an extended header of any size into memory.
    """

    def __init__(self, stream: IO[bytes], count: Callable[[int], None]) -> None:
        self._stream = stream
        self._count = count
        self._furthest = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 4 * PIECE:
            raise ArchiveTooLarge("one of its headers is absurdly large")
        data = self._stream.read(size)
        self._advance()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        # In steps, so that a bomb is noticed while it is passed over.
        while whence == 0 and offset - self._stream.tell() > PIECE:
            if not self._stream.read(PIECE):
                break
            self._advance()
        position = self._stream.seek(offset, whence)
        self._advance()
        return position

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()

    def _advance(self) -> None:
        if (position := self._stream.tell()) > self._furthest:
            self._count(position - self._furthest)
            self._furthest = position


def _tar_members(file: IO[bytes], limits: Limits, count: Callable[[int], None]) -> Iterator[Member]:
    stream = _Counted(_decompressed(file), count)
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or it keeps every one of them
            if info.size < 0:  # it would be led around in a circle
                raise tarfile.ReadError("a member has a negative size")
            refusal = None
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
                refusal = "it is a link or a device"
            elif info.issparse():
                refusal = "it is a sparse file"
            yield Member(info.name, info.isdir(), _tar_mtime(info), _opener(archive, info), refusal)
        stream.seek(archive.offset)  # tarfile takes a damaged header for the end
        if any(stream.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("a header is damaged")
        while stream.read(PIECE):
            pass  # to the checksum at the end


def _opener(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        return cast(IO[bytes], archive.extractfile(info))

    return open_member


def _tar_mtime(info: tarfile.TarInfo) -> int | None:
    text = info.pax_headers.get("mtime", str(info.mtime))
    seconds, _, fraction = text.partition(".")
    try:
        return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    except ValueError:
        return None


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(_GZIP):
        return cast(IO[bytes], gzip.open(file, "rb"))
    if magic.startswith(b"BZh"):
        import bz2

        return bz2.open(file, "rb")
    if magic == b"\xfd7zXZ\x00":
        import lzma

        return cast(IO[bytes], lzma.open(file, "rb"))
    return file


def _zip_members(file: IO[bytes], limits: Limits, count: Callable[[int], None]) -> Iterator[Member]:
    if _zip_directory_size(file) > limits.members * 512:
        raise ArchiveTooLarge(f"it has more than {limits.members:,} members")
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            refusal = None
            kind = info.external_attr >> 16 & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                refusal = "it is a link or a device"
            elif info.flag_bits & 1:
                refusal = "it is encrypted"
            name = info.orig_filename.removesuffix("/")
            opened = _zip_opener(archive, info, count)
            yield Member(name, info.is_dir(), _zip_mtime(info), opened, refusal)


def _zip_directory_size(file: IO[bytes]) -> int:
    """Size of the list of members, which ``zipfile`` reads into memory as a whole."""
    file.seek(max(0, _size(file) - 2**16 - 22))
    tail = file.read()
    file.seek(0)
    at, at64 = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    size = struct.unpack_from("<L", tail, at + 12)[0] if 0 <= at <= len(tail) - 16 else 0
    if size == 0xFFFFFFFF and 0 <= at64 <= len(tail) - 48:
        size = struct.unpack_from("<Q", tail, at64 + 40)[0]
    return int(size)


def _zip_opener(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, count: Callable[[int], None]
) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        return cast(IO[bytes], _Counted(archive.open(info), count))

    return open_member


def _zip_mtime(info: zipfile.ZipInfo) -> int | None:
    try:
        return int(time.mktime((*info.date_time, 0, 0, -1))) * 10**9
    except (ValueError, OverflowError):
        return None


@contextmanager
def _opened(archive: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(archive, str | os.PathLike):
        with open(archive, "rb") as file:
            yield file
    else:
        yield archive


@contextmanager
def _named_errors() -> Iterator[None]:
    """Whatever a reader stumbles over is one error, with the reason."""
    try:
        yield
    except ArchiveError:
        raise
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        struct.error,
        ValueError,
        RecursionError,
    ) as error:
        raise ArchiveError(str(error) or type(error).__name__) from error


def _set_mtime(path: Path, mtime_ns: int | None) -> None:
    if mtime_ns is not None:
        try:
            os.utime(path, ns=(mtime_ns, mtime_ns))
        except (OSError, OverflowError):
            pass  # a date that this file system does not know


def _size(file: IO[bytes]) -> int:
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size


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


# -- the index of an artifact ------------------------------------------------------------------


def _merge_index(artifact: Path, content: bytes) -> bool:
    """Add to ``versions.json`` the entries whose versions are there now; what it says stays.

    Returns whether it is now as in the archive.
    """
    from filelock import FileLock

    if not artifact.is_dir():
        return False
    theirs = layout.parse_json(content) or {}
    with FileLock(str(artifact / ".lock"), timeout=30):
        index = layout.read_json(artifact / VERSIONS)
        known = _entries(index)
        added = {
            number: entry
            for number, entry in _entries(theirs).items()
            if number not in known and (artifact / f"v{number}").is_dir()
        }
        if not added:
            return False
        if not index and len(added) == len(_entries(theirs)):
            layout.write_bytes(artifact / VERSIONS, content)
            return True
        numbers = known | added
        aliases = {**_aliases(theirs), **_aliases(index)}
        layout.write_json(
            artifact / VERSIONS,
            {
                **{key: value for key, value in theirs.items() if not index},
                **index,
                "versions": [numbers[number] for number in sorted(numbers)],
                "aliases": {a: n for a, n in aliases.items() if n in numbers}
                | ({} if index else {"latest": max(numbers)}),
            },
        )
    return False


def _entries(index: dict[str, Any]) -> dict[int, dict[str, Any]]:
    versions = index.get("versions")
    return {
        entry["version"]: entry
        for entry in (versions if isinstance(versions, list) else [])
        if isinstance(entry, dict) and type(entry.get("version")) is int
    }


def _aliases(index: dict[str, Any]) -> dict[str, int]:
    aliases = index.get("aliases")
    return aliases if isinstance(aliases, dict) else {}
