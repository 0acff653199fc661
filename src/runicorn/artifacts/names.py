"""The rules for the names of artifacts, types, aliases and files, and for digests.

They are decided here alone, for the SDK, the command line and the server alike. A path is only ever
built from what has passed here, so nothing that a caller, a manifest or a request says leads out
of the artifacts folder.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path


class ArtifactType(StrEnum):
    """The types that v0.4 knows; others are taken too."""

    MODEL = "model"
    DATASET = "dataset"
    CONFIG = "config"
    CODE = "code"
    CUSTOM = "custom"


TYPES = tuple(kind.value for kind in ArtifactType)
"""In the order in which a name without a type is looked for."""

LONGEST_PATH = 240

_FORBIDDEN_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]')
_PLAIN = r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*"
_PLAIN_PATH = re.compile(_PLAIN, re.ASCII)
"""Most paths match: only their length is left to check."""

_PLAIN_PATHS = re.compile(rf"(?:{_PLAIN})(?:\n{_PLAIN})*", re.ASCII)

_FORBIDDEN_IN_PATHS = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_VERSION = re.compile(r"[vV]([0-9]{1,18})")
_HEX = re.compile(r"[0-9a-f]{64}")


def check_name(name: object) -> str:
    """*name* if it may be an artifact's, one folder below its type's. Raises ValueError."""
    if not isinstance(name, str) or not name:
        raise ValueError("Artifact name must be a non-empty string")
    if _FORBIDDEN_IN_NAMES.search(name) or not _is_folder_name(name):
        raise ValueError(f"Artifact name contains invalid characters: {name}")
    return name


def check_type(kind: object) -> str:
    """The type as text. ``ArtifactType.MODEL`` in text, a slip of v0.4, is ``model``."""
    text = kind.value if isinstance(kind, ArtifactType) else kind
    if not isinstance(text, str) or _FORBIDDEN_IN_NAMES.search(text) or not _is_folder_name(text):
        raise ValueError(f"Invalid artifact type: {kind}")
    return canonical_type(text)


def canonical_type(folder: str) -> str:
    """The type that a folder of this name holds."""
    prefix, dot, member = folder.partition(".")
    is_slip = prefix == "ArtifactType" and dot and member in ArtifactType.__members__
    return member.lower() if is_slip else folder


def _is_folder_name(name: str) -> bool:
    # Names that start with a dot are the store's own.
    return not name.startswith(".") and name == name.strip() != "" and len(name.encode()) <= 200


def check_alias(alias: object) -> str:
    """*alias* if it may name a version: no version number itself. Raises ValueError."""
    if not isinstance(alias, str) or not alias or alias != alias.strip() or len(alias) > 100:
        raise ValueError("An alias must be a text of 1 to 100 characters.")
    if _FORBIDDEN_IN_NAMES.search(alias) or "," in alias or "=" in alias:
        raise ValueError(f"Alias contains invalid characters: {alias}")
    if alias.isdecimal() or parse_version(alias) is not None:
        raise ValueError(f"An alias must not look like a version number: {alias}")
    return alias


def check_path(path: object) -> str:
    """*path* if it may be a file's inside an artifact: relative, ``/`` between its parts."""
    if not isinstance(path, str) or not path or len(path) > LONGEST_PATH:
        raise ValueError(f"An artifact path has 1 to {LONGEST_PATH} characters: {str(path)[:80]!r}")
    if _PLAIN_PATH.fullmatch(path):
        return path
    if _DRIVE.match(path) or any(part in ("", ".", "..") for part in re.split(r"[/\\]", path)):
        raise ValueError(f"Invalid file path (path traversal detected): {path}")
    if _FORBIDDEN_IN_PATHS.search(path):
        raise ValueError(
            f"Invalid file path (a backslash, a control character or bytes that are no UTF-8 "
            f"cannot be stored everywhere; rename the file): {path!r}"
        )
    if any(len(part.encode()) > 255 for part in path.split("/")):
        raise ValueError(f"Invalid file path (a part of it is longer than 255 bytes): {path}")
    return path


def check_paths(paths: list[str]) -> list[str]:
    """Check many paths, most of which are plain."""
    if max(map(len, paths), default=0) > LONGEST_PATH or not _PLAIN_PATHS.fullmatch(
        "\n".join(paths)
    ):
        return [check_path(path) for path in paths]
    return paths


def stored_path(path: object) -> str | None:
    """A path as a manifest names it (``\\`` where Windows wrote it); None if it is not inside."""
    try:
        return check_path(path.replace("\\", "/")) if isinstance(path, str) else None
    except ValueError:
        return None


def inside(folder: Path, path: str) -> Path | None:
    """The file *path* below *folder*; None if it would lie elsewhere, also through a link."""
    if (checked := stored_path(path)) is None:
        return None
    base = os.path.realpath(folder)
    resolved = os.path.realpath(os.path.join(base, checked))
    return Path(resolved) if os.path.commonpath([base, resolved]) == base else None


def parse_digest(digest: object) -> str:
    """The 64 hexadecimal digits of ``sha256:<hex>`` or of the bare form. Raises ValueError."""
    text = digest.removeprefix("sha256:") if isinstance(digest, str) else ""
    if not _HEX.fullmatch(text):
        raise ValueError(f"Not a sha256 digest: {str(digest)[:80]!r}")
    return text


def parse_version(text: str) -> int | None:
    """The number in ``v3``; None if the text is an alias."""
    match = _VERSION.fullmatch(text)
    return int(match[1]) if match else None


def parse_spec(spec: object) -> tuple[str, str]:
    """(name, version or alias) of ``name:v3`` or ``name:alias``. Raises ValueError."""
    name, colon, reference = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if not colon:
        raise ValueError(
            f"Artifact spec must be in format 'name:version' or 'name:alias', got: {spec}"
        )
    return check_name(name), reference
