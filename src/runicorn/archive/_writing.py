"""Archives as they are written: the same files give the same bytes."""

from __future__ import annotations

import json
import os
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import layout
from ._places import ARTIFACTS, READ_BYTES, RECORD, VERSIONS, Place, place_of
from ._records import cleaned


def default_name() -> str:
    """``runicorn_export_<unix seconds>.tar.gz``."""
    return f"runicorn_export_{int(time.time())}.tar.gz"


def export_runs(root: Path, run_dirs: Iterable[str], *, artifacts: bool = False) -> Iterator[bytes]:
    """The archive of *run_dirs* (relative to *root*, with ``/``), in parts.

    The same files give the same bytes. Links are left out. A file that grows meanwhile is written
    as long as it was when its turn came.
    """
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with a gzip header, without a date
    for data in _tar(root, list(run_dirs), artifacts):
        if packed := compressor.compress(data):
            yield packed
    yield compressor.flush()


def _tar(root: Path, run_dirs: list[str], artifacts: bool) -> Iterator[bytes]:
    written = 0
    for data in _tar_members(root, run_dirs, artifacts):
        written += len(data)
        yield data
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def _tar_members(root: Path, run_dirs: list[str], artifacts: bool) -> Iterator[bytes]:
    records = layout.read_json(root / layout.EXPERIMENTS_METADATA)
    for name in run_dirs:
        yield from _tar_tree(root / name, name)
        record = records.get(name.rpartition("/")[2])
        if isinstance(record, dict):
            yield from _tar_record(f"{name}/{RECORD}", cleaned(name, record))
    for name in _artifacts_of(root, run_dirs) if artifacts else ():
        yield from _tar_tree(root / name, name)


def _tar_record(name: str, record: dict[str, Any]) -> Iterator[bytes]:
    content = json.dumps(record, ensure_ascii=False, indent=2).encode("utf-8", "surrogatepass")
    member = tarfile.TarInfo(name)
    member.size = len(content)
    yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    yield content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _tar_tree(path: Path, name: str) -> Iterator[bytes]:
    """The tar members of *path* and all below it, in the order of their names."""
    info = os.lstat(path)
    if layout.is_regular_file(info):
        yield from _tar_file(path, name)
    elif path.is_dir() and not path.is_symlink():
        yield _tar_header(name, info, tarfile.DIRTYPE)
        for entry in sorted(os.listdir(path)):
            if entry == RECORD:  # of an archive that 0.4 unpacked; the root's records count
                continue
            yield from _tar_tree(path / entry, f"{name}/{entry}")


def _tar_file(path: Path, name: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        info = os.fstat(file.fileno())
        yield _tar_header(name, info, tarfile.REGTYPE)
        left = info.st_size
        while left:
            data = file.read(min(READ_BYTES, left))
            if not data:
                raise OSError(f"{path} became shorter while it was exported")
            left -= len(data)
            yield data
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
        place = place_of(f"{directory}/x")
        if isinstance(place, Place) and (root / directory).is_dir():
            index = f"{place.directory.rpartition('/')[0]}/{VERSIONS}"
            if index not in found and (root / index).is_file():
                found.add(index)
                yield index
            yield directory
