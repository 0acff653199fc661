"""Archives as they are written: the same files give the same bytes."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import layout
from ..files import is_missing, open_inside, read_json_inside, scan_inside, stat_inside
from ..run_store import annotations_document
from ..tar import Member, tar_stream
from ._places import ARTIFACTS, VERSIONS, Place, place_of


def default_name() -> str:
    """``runicorn_export_<unix seconds>.tar.gz``."""
    return f"runicorn_export_{int(time.time())}.tar.gz"


def export_runs(root: Path, run_dirs: Iterable[str], *, artifacts: bool = False) -> Iterator[bytes]:
    """Yield the archive of *run_dirs* (relative to *root*, with ``/``) in parts.

    The same files give the same bytes. Links are left out. A file that grows meanwhile is written
    as long as it was when its turn came.
    """
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with a gzip header, without a date
    for data in tar_stream(_members(root, list(run_dirs), artifacts)):
        if packed := compressor.compress(data):
            yield packed
    yield compressor.flush()


def _members(root: Path, run_dirs: list[str], artifacts: bool) -> Iterator[Member]:
    for name in _outermost(run_dirs):
        yield from _run(root, name)
    home = root / ARTIFACTS
    for name in _artifacts_of(root, run_dirs) if artifacts else ():
        path = name.removeprefix(f"{ARTIFACTS}/")
        yield from _tree(home, path, name, stat_inside(home, path))


def _home(root: Path, run_dir: str) -> tuple[Path, str]:
    """Return the folder of the run's folder, to which links may lead, and the run's own name."""
    above, _, name = run_dir.rpartition("/")
    return root / above, name


def _outermost(run_dirs: list[str]) -> Iterator[str]:
    """Yield those that do not lie in another one's folder, with which they travel."""
    wanted = set(run_dirs)
    for name in dict.fromkeys(run_dirs):
        parts = name.split("/")
        if not any("/".join(parts[:depth]) in wanted for depth in range(2, len(parts))):
            yield name


def _run(root: Path, name: str) -> Iterator[Member]:
    """Yield a run's folder, without heartbeats.

    What only 0.4's file notes of it travels as ``annotations.json``.
    """
    home, run_id = _home(root, name)
    noted = annotations_document(root, name)
    content = layout.dump_json(noted) if noted else b""
    try:
        info, entries = stat_inside(home, run_id), dict(scan_inside(home, run_id))
    except OSError as error:
        if is_missing(error):
            return
        raise
    yield _member(name, info, tarfile.DIRTYPE), None
    for entry in sorted(entries.keys() | ({layout.ANNOTATIONS} if noted else set())):
        path = f"{name}/{entry}"
        if noted and entry == layout.ANNOTATIONS:
            mtime_ns = int(noted["updated_at"] * 10**9)
            yield _header(path, tarfile.REGTYPE, len(content), mtime_ns), io.BytesIO(content)
        elif not layout.is_heartbeat(entry):
            yield from _tree(home, f"{run_id}/{entry}", path, entries[entry])


def _tree(home: Path, path: str, name: str, info: os.stat_result) -> Iterator[Member]:
    """Yield *path* below *home* and all below it as members, in the order of their names.

    What a live run replaces meanwhile, such as the temporary file of a document, is left out.
    """
    try:
        if layout.is_regular_file(info):
            file = open_inside(home, path)
            yield _member(name, os.fstat(file.fileno()), tarfile.REGTYPE), file
            return
        if not stat.S_ISDIR(info.st_mode):
            return
        entries = sorted(scan_inside(home, path))
    except OSError as error:
        if is_missing(error):
            return
        raise
    yield _member(name, info, tarfile.DIRTYPE), None
    for entry, entry_info in entries:
        yield from _tree(home, f"{path}/{entry}", f"{name}/{entry}", entry_info)


def _member(name: str, info: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    return _header(name, kind, info.st_size if kind == tarfile.REGTYPE else 0, info.st_mtime_ns)


def _header(name: str, kind: bytes, size: int, mtime_ns: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    member.size = size
    seconds, nanoseconds = divmod(mtime_ns, 10**9)
    member.mtime = max(0, seconds)
    member.pax_headers = {"mtime": f"{seconds}.{nanoseconds:09d}"}  # a float would round it
    return member


def _is_there(root: Path, artifact_path: str) -> bool:
    try:
        mode = stat_inside(root / ARTIFACTS, artifact_path.removeprefix(f"{ARTIFACTS}/")).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def _artifacts_of(root: Path, run_dirs: list[str]) -> Iterator[str]:
    """The index and the version folder of every artifact version that the runs name."""
    directories: set[str] = set()
    for run_dir in run_dirs:
        for document in (layout.ARTIFACTS_CREATED, layout.ARTIFACTS_USED):
            home, run_id = _home(root, run_dir)
            entries = read_json_inside(home, f"{run_id}/{document}").get("artifacts")
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict):
                    kind, name, version = (entry.get(k) for k in ("type", "name", "version"))
                    directories.add(f"{ARTIFACTS}/{kind}/{name}/v{version}")
    for directory in sorted(directories):
        place = place_of(f"{directory}/x".split("/"), ())
        if isinstance(place, Place) and _is_there(root, directory):
            index = f"{place.directory.rpartition('/')[0]}/{VERSIONS}"
            if index not in directories and _is_there(root, index):
                directories.add(index)
                yield index
            yield directory
