"""The manifest, format 1.0: its contents, and the rules of a reader.

A manifest comes from another machine. A caller of ``read_manifest`` may join every path
in it to a folder of its own and stays inside it.
"""

from __future__ import annotations

import math
import re
import sys
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from .. import layout

FORMAT_VERSION = "1.0"
GENERATOR_VERSION = "1.0"
LARGEST_MANIFEST = 256 * 2**20
"""Bytes, before compression."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GZIP = b"\x1f\x8b"


class ManifestType(StrEnum):
    FULL = "full"
    ACTIVE = "active"


@dataclass(frozen=True)
class ManifestFormat:
    version: str = FORMAT_VERSION
    supports_incremental: bool = True
    supports_compression: bool = True
    supports_tail_hash: bool = True


@dataclass
class FileEntry:
    """One file. ``path`` is relative to the root; ``priority`` 1 to 4, the lower is fetched first;
    ``tail_hash`` the MD5 of the last 4,096 bytes."""

    path: str
    size: int
    mtime: float
    tail_hash: str | None = None
    priority: int = 0
    is_append_only: bool = False

    def to_dict(self) -> dict[str, Any]:
        optional = {
            "tail_hash": self.tail_hash,
            "priority": self.priority,
            "is_append_only": self.is_append_only,
        }
        return {
            "path": self.path,
            "size": self.size,
            "mtime": self.mtime,
            **{name: value for name, value in optional.items() if value},
        }

    @classmethod
    def from_dict(cls, data: Any) -> FileEntry:
        data = _object(data, "file")
        return cls(
            path=_text(data, "path"),
            size=_count(data, "size"),
            mtime=_number(data, "mtime"),
            tail_hash=_text(data, "tail_hash") if data.get("tail_hash") else None,
            priority=_count(data, "priority", 0),
            is_append_only=data.get("is_append_only") is True,
        )


@dataclass
class ExperimentEntry:
    """One run and its files, sorted by path."""

    run_id: str
    project: str
    name: str
    status: str
    created_at: float
    updated_at: float
    files: list[FileEntry] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "project": self.project,
            "name": self.name,
            "status": self.status,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "files": [file.to_dict() for file in self.files],
            "tags": self.tags or None,
        }

    @classmethod
    def from_dict(cls, data: Any) -> ExperimentEntry:
        data = _object(data, "experiment")
        return cls(
            run_id=_text(data, "run_id"),
            project=_text(data, "project"),
            name=_text(data, "name"),
            status=_text(data, "status"),
            created_at=_number(data, "created_at"),
            updated_at=_number(data, "updated_at"),
            files=[FileEntry.from_dict(file) for file in _list(data, "files")],
            tags=[tag for tag in _list(data, "tags") if isinstance(tag, str)],
        )


@dataclass
class SyncManifest:
    format_version: str
    manifest_type: ManifestType
    revision: int
    snapshot_id: str
    generated_at: float
    server_hostname: str
    remote_root: str
    experiments: list[ExperimentEntry] = field(default_factory=list)
    total_experiments: int = 0
    total_files: int = 0
    total_bytes: int = 0
    generator_version: str = GENERATOR_VERSION

    def compute_statistics(self) -> None:
        """Bring the totals up to date with the experiments."""
        sizes = [file.size for experiment in self.experiments for file in experiment.files]
        self.total_experiments = len(self.experiments)
        self.total_files = len(sizes)
        self.total_bytes = sum(sizes)

    def head(self) -> dict[str, Any]:
        """Return the members before the experiments."""
        return {
            "format_version": self.format_version,
            "manifest_type": self.manifest_type.value,
            "revision": self.revision,
            "snapshot_id": self.snapshot_id,
            "generated_at": self.generated_at,
            "server_hostname": self.server_hostname,
            "remote_root": self.remote_root,
        }

    def tail(self) -> dict[str, Any]:
        """Return the members after the experiments."""
        return {
            "statistics": {
                "total_experiments": self.total_experiments,
                "total_files": self.total_files,
                "total_bytes": self.total_bytes,
            },
            "generator_version": self.generator_version,
        }

    def to_dict(self) -> dict[str, Any]:
        experiments = [experiment.to_dict() for experiment in self.experiments]
        return {**self.head(), "experiments": experiments, **self.tail()}

    @classmethod
    def from_dict(cls, data: Any) -> SyncManifest:
        """Raises ValueError for what is no manifest. The paths in it are not judged."""
        data = _object(data, "manifest")
        statistics = _object(data.get("statistics") or {}, "statistics")
        return cls(
            format_version=_text(data, "format_version"),
            manifest_type=ManifestType(_text(data, "manifest_type")),
            revision=_count(data, "revision"),
            snapshot_id=_text(data, "snapshot_id"),
            generated_at=_number(data, "generated_at", 0.0),
            server_hostname=_text(data, "server_hostname", ""),
            remote_root=_text(data, "remote_root", ""),
            experiments=[ExperimentEntry.from_dict(e) for e in _list(data, "experiments")],
            total_experiments=_count(statistics, "total_experiments", 0),
            total_files=_count(statistics, "total_files", 0),
            total_bytes=_count(statistics, "total_bytes", 0),
            generator_version=_text(data, "generator_version", GENERATOR_VERSION),
        )

    def validate(self) -> None:
        """Raises ValueError unless every path leads to a file of the run that lists it."""
        if self.format_version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
            raise ValueError(f"Unsupported manifest version: {self.format_version}")
        if not self.snapshot_id:
            raise ValueError("Missing snapshot_id")
        if self.revision < 1:
            raise ValueError(f"Invalid revision: {self.revision}")
        for experiment in self.experiments:
            own = (experiment.project, experiment.name, layout.RUNS, experiment.run_id)
            for file in experiment.files:
                if check_path(file.path)[:4] != own:
                    raise ValueError(f"Invalid path structure: {file.path} is of another run")


def read_manifest(content: bytes, largest: int = LARGEST_MANIFEST) -> SyncManifest:
    """The manifest in *content*, plain or gzip. Raises ValueError for anything that is not safe."""
    if content.startswith(_GZIP):
        content = _decompress(content, largest)
    if len(content) > largest:
        raise ValueError(f"Manifest size ({len(content)} bytes) exceeds limit ({largest} bytes)")
    manifest = SyncManifest.from_dict(orjson.loads(content))
    manifest.validate()
    return manifest


def _decompress(content: bytes, largest: int) -> bytes:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(content, largest + 1)
    except zlib.error as error:
        raise ValueError(f"Damaged gzip: {error}") from error
    if len(plain) <= largest and not inflater.eof:
        raise ValueError("Damaged gzip: the end is missing")
    return plain


def check_path(path: str) -> tuple[str, ...]:
    """The components of a path relative to a root: ``project, name, "runs", run id, file…``.

    Raises ValueError if a run's file cannot lie there, or if joining it to a folder would leave it.
    """
    parts = tuple(path.split("/"))
    if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path):
        raise ValueError(f"Absolute path not allowed: {path}")
    if ".." in parts:
        raise ValueError(f"Parent directory reference not allowed: {path}")
    is_odd = any(part in ("", ".") or _CONTROL.search(part) or "\\" in part for part in parts)
    if len(parts) < 5 or is_odd or (sys.platform == "win32" and ":" in path):
        raise ValueError(f"Invalid path structure: {path}")
    if layout.split_run_dir("/".join(parts[:4])) is None:
        raise ValueError(f"Invalid path structure (expected 'runs'): {path}")
    return parts


# -- what lies in a dictionary of unknown origin -------------------------------------------------


def _object(data: Any, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"Invalid {what}: not an object")
    return data


def _text(data: dict[str, Any], name: str, default: str | None = None) -> str:
    value = data.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"Invalid {name}: {value!r:.100}")
    return value


def _number(data: dict[str, Any], name: str, default: float | None = None) -> float:
    value = data.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"Invalid {name}: {value!r:.100}")
    return value


def _count(data: dict[str, Any], name: str, default: int | None = None) -> int:
    value = _number(data, name, default)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"Invalid {name}: {value!r:.100}")
    return value


def _list(data: dict[str, Any], name: str) -> list[Any]:
    value = data.get(name) or []
    if not isinstance(value, list):
        raise ValueError(f"Invalid {name}: not a list")
    return value
