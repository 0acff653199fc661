"""The documents of an artifact: ``versions.json``, ``metadata.json`` and ``manifest.json``.

Read leniently, because other programs wrote them too: unknown members are passed over, missing
ones get their default. Written as v0.4 writes them, member for member.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from .. import layout
from .names import canonical_type, parse_digest, stored_path
from .validation import LARGEST_SIZE, check_metadata, check_size, check_text, check_uri

CORRUPTED = "corrupted"
"""The status shown for a version with an unreadable document; it is never stored."""


class ArtifactStatus(StrEnum):
    PENDING = "pending"
    UPLOADING = "uploading"
    READY = "ready"
    FAILED = "failed"
    DELETED = "deleted"


@dataclass
class FileEntry:
    """One file: its path in the artifact, its size in bytes, ``sha256:<hex>``, its mtime."""

    path: str
    size: int
    digest: str
    modified_at: float | None = None


@dataclass
class ReferenceEntry:
    """Data that stays where it is: only its address is recorded."""

    uri: str
    checksum: str | None = None
    size: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raises ValueError for what may not be kept."""
        check_uri(self.uri)
        check_metadata(self.metadata)
        if self.size is not None:
            check_size(self.size)
        if self.checksum is not None:
            check_text(self.checksum, "checksum")


@dataclass
class ArtifactManifest:
    files: list[FileEntry] = field(default_factory=list)
    references: list[ReferenceEntry] = field(default_factory=list)
    total_size: int = 0
    total_files: int = 0
    total_references: int = 0
    created_at: float = 0

    @classmethod
    def of(
        cls, files: list[FileEntry], references: list[ReferenceEntry], at: float
    ) -> ArtifactManifest:
        size = sum(file.size for file in files) + sum(entry.size or 0 for entry in references)
        return cls(files, references, size, len(files), len(references), at)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArtifactManifest:
        """Entries without a path and a digest are passed over; paths get ``/`` separators."""
        files = [
            FileEntry(
                _path(entry["path"]),
                _size(entry.get("size")) or 0,
                entry["digest"],
                _number(entry.get("modified_at")),
            )
            for entry in _objects(data.get("files"))
            if isinstance(entry.get("path"), str) and _is_digest(entry.get("digest"))
        ]
        references = [
            ReferenceEntry(
                entry["uri"],
                _text(entry.get("checksum")),
                _size(entry.get("size")),
                _object(entry.get("metadata")),
            )
            for entry in _objects(data.get("references"))
            if isinstance(entry.get("uri"), str)
        ]
        made = cls.of(files, references, _number(data.get("created_at")) or 0)
        total = _either(_size(data.get("total_size")), made.total_size)
        made.total_size = min(total, LARGEST_SIZE)
        return made

    def dump(self) -> bytes:
        """The text of ``manifest.json``, whose sha256 is the version's ``manifest_digest``."""
        if self.references:  # their metadata may hold what orjson refuses
            return layout.dump_json(asdict(self))
        return orjson.dumps(self, option=orjson.OPT_INDENT_2)


@dataclass
class ArtifactVersionInfo:
    """A version in the list of ``versions.json``."""

    version: int
    created_at: float = 0
    created_by_run: str = ""
    size_bytes: int = 0
    num_files: int = 0
    status: str = "ready"
    aliases: list[str] = field(default_factory=list)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArtifactVersionInfo:
        return cls(
            data["version"],
            _number(data.get("created_at")) or 0,
            _text(data.get("created_by_run")) or "",
            _size(data.get("size_bytes")) or 0,
            _integer(data.get("num_files")) or 0,
            _text(data.get("status")) or "ready",
            _texts(data.get("aliases")),
        )


@dataclass
class ArtifactIndex:
    """``versions.json``: the versions in the order in which they came, and what aliases name."""

    artifact_name: str
    artifact_type: str
    versions: list[ArtifactVersionInfo] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)
    created_at: float = 0
    updated_at: float = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str, kind: str) -> ArtifactIndex:
        versions = {
            entry["version"]: ArtifactVersionInfo.from_dict(entry)
            for entry in _objects(data.get("versions"))
            if (_integer(entry.get("version")) or 0) > 0
        }
        aliases = {
            alias: version
            for alias, version in _object(data.get("aliases")).items()
            if _integer(version) is not None
        }
        return cls(
            name,
            kind,
            list(versions.values()),
            aliases,
            _number(data.get("created_at")) or 0,
            _number(data.get("updated_at")) or 0,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def find(self, version: int) -> ArtifactVersionInfo | None:
        return next((info for info in self.versions if info.version == version), None)


@dataclass
class ArtifactMetadata:
    """``metadata.json`` of a version."""

    name: str
    type: str
    version: int
    created_at: float = 0
    updated_at: float = 0
    created_by_run: str = ""
    created_by_user: str | None = None
    size_bytes: int = 0
    num_files: int = 0
    num_references: int = 0
    status: str = "ready"
    metadata: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    tags: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    parent_artifacts: list[str] = field(default_factory=list)
    manifest_digest: str | None = None

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], name: str, kind: str, version: int
    ) -> ArtifactMetadata:
        created = _number(data.get("created_at")) or 0
        digest = data.get("manifest_digest")
        return cls(
            name,
            canonical_type(kind),
            version,
            created,
            _either(_number(data.get("updated_at")), created),
            _text(data.get("created_by_run")) or "",
            _text(data.get("created_by_user")),
            _size(data.get("size_bytes")) or 0,
            _integer(data.get("num_files")) or 0,
            _integer(data.get("num_references")) or 0,
            _text(data.get("status")) or "ready",
            _object(data.get("metadata")),
            _text(data.get("description")) or "",
            _texts(data.get("tags")),
            _texts(data.get("aliases")),
            _texts(data.get("parent_artifacts")),
            parse_digest(digest) if _is_digest(digest) else None,
        )

    @classmethod
    def from_index(
        cls,
        listed: ArtifactVersionInfo | None,
        manifest: ArtifactManifest,
        name: str,
        kind: str,
        version: int,
    ) -> ArtifactMetadata:
        """Return what the other documents know of a version whose own one cannot be read.

        *listed* is its entry in ``versions.json``, or None if it has none there.
        """
        info = listed or ArtifactVersionInfo(
            version,
            manifest.created_at,
            size_bytes=manifest.total_size,
            num_files=manifest.total_files,
        )
        return cls(
            name,
            canonical_type(kind),
            version,
            created_at=info.created_at,
            updated_at=info.created_at,
            created_by_run=info.created_by_run,
            size_bytes=info.size_bytes,
            num_files=info.num_files,
            num_references=manifest.total_references,
            status=CORRUPTED,
            aliases=list(info.aliases),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _path(path: str) -> str:
    """With ``/`` separators; one that leads outside stays as it is, and is never opened."""
    return stored_path(path) or path


def _is_digest(digest: object) -> bool:
    try:
        return bool(parse_digest(digest))
    except ValueError:
        return False


def _objects(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) < 2**63 else None


def _size(value: object) -> int | None:
    """Return *value* if it can be a number of bytes, else None."""
    size = _integer(value)
    return size if size is not None and 0 <= size <= LARGEST_SIZE else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e18 and math.isfinite(value) else None


def _either(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
