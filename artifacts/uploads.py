"""Upload a version over HTTP: say what it consists of, send what is missing, commit.

An upload is a folder of its own below ``.runicorn/uploads``. Contents that the pool has are linked
into it at once, so that nothing the client was told not to send can go away before the commit.
A content that is on its way is ``<digest>.part``: its size is the offset to continue from, after
any interruption on either side.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from runicorn import layout
from runicorn.artifacts import FileEntry, ReferenceEntry
from runicorn.artifacts.pool import hash_file
from runicorn.artifacts.storage import Draft

from . import index
from .actions import actor
from .exceptions import ContentsMissing, UploadMismatch, UploadNotFound, WrongOffset
from .models import Version

LARGEST_PART = 64 * 2**20
_STALE_SECONDS = 7 * 86400
_PLAN = "plan.json"
_BLOCK = 1 << 20


@dataclass
class Upload:
    id: str
    folder: Path
    plan: dict[str, Any]

    @property
    def sizes(self) -> dict[str, int]:
        """The contents that it consists of: digest to bytes."""
        return {file["digest"]: file["size"] for file in self.plan["files"]}

    def missing(self) -> list[dict[str, Any]]:
        """Contents still to be sent, and from which offset."""
        return [
            {"digest": f"sha256:{digest}", "size": size, "offset": _size(self._part(digest))}
            for digest, size in self.sizes.items()
            if not self._content(digest).exists()
        ]

    def _content(self, digest: str) -> Path:
        return self.folder / digest

    def _part(self, digest: str) -> Path:
        return self.folder / f"{digest}.part"


def start(plan: dict[str, Any], *, by: Any) -> Upload:
    """Begin an upload of *plan*, whose names, paths and digests were checked."""
    upload_id = uuid.uuid4().hex
    folder = _home() / upload_id
    folder.mkdir(parents=True)
    upload = Upload(upload_id, folder, plan)
    pool = index.storage().pool
    for digest, size in upload.sizes.items():
        pool.link(digest, size, str(folder / digest))
    layout.write_json(folder / _PLAN, {**plan, "created_by_user": actor(by)})
    return upload


def get(upload_id: str) -> Upload:
    """Raises UploadNotFound."""
    folder = _home() / upload_id
    if len(upload_id) != 32 or not upload_id.isalnum() or not (folder / _PLAN).is_file():
        raise UploadNotFound(upload_id)
    return Upload(upload_id, folder, layout.read_json(folder / _PLAN))


def write_part(upload: Upload, digest: str, offset: int, read: Callable[[int], bytes]) -> int:
    """Append what *read* gives from *offset* on; the offset now reached.

    Raises WrongOffset, and UploadMismatch if the whole is not what was announced: it is to be sent
    again from the beginning.
    """
    size = upload.sizes[digest]
    part = upload._part(digest)
    with layout.locked(part):
        if upload._content(digest).exists():
            return size
        with part.open("ab") as file:
            if offset != (reached := file.tell()):
                raise WrongOffset(reached)
            while block := read(_BLOCK):
                if reached + len(block) > size:
                    file.truncate(offset)
                    raise UploadMismatch(f"More than the {size} bytes announced were sent.")
                file.write(block)
                reached += len(block)
        if reached == size:
            with part.open("rb") as file:
                found, _ = hash_file(file.fileno())
            if found != digest:
                part.unlink()
                raise UploadMismatch(
                    f"The bytes sent have the digest sha256:{found}, not sha256:{digest}."
                )
            part.rename(upload._content(digest))
    return reached


def commit(upload: Upload, *, by: Any) -> Version:
    """Make the upload a version. Raises ContentsMissing, and ValueError as saving does."""
    if missing := upload.missing():
        raise ContentsMissing(f"{len(missing)} contents have not arrived yet.")
    plan, store = upload.plan, index.storage()

    def place(source: str | Path, target: str) -> FileEntry:
        digest, size = Path(source).name, _size(Path(source))
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
        store.pool.enter(digest, size, target)
        return FileEntry("", size, f"sha256:{digest}")

    draft = Draft(
        plan["name"],
        plan["type"],
        [(upload._content(file["digest"]), file["path"]) for file in plan["files"]],
        [ReferenceEntry(**reference) for reference in plan["references"]],
        plan["description"],
        plan["metadata"],
        plan["tags"],
    )
    times = {file["path"]: file.get("modified_at") for file in plan["files"]}
    metadata, _ = store.save(
        draft,
        created_by_run=plan["created_by_run"],
        created_by_user=plan["created_by_user"],
        store=place,
        modified_at=times,
    )
    discard(upload)
    location = store.find(metadata.name, metadata.type)
    artifact = index.take_in(location)
    assert artifact is not None
    return artifact.versions.get(number=metadata.version)


def discard(upload: Upload) -> None:
    shutil.rmtree(upload.folder, ignore_errors=True)


def collect_stale() -> None:
    """Give up uploads of which nothing was heard for a week."""
    for folder in _home().glob("*"):
        try:
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue


def _home() -> Path:
    return Path(settings.RUNICORN_STORAGE_ROOT) / layout.SERVER_DIR / "uploads"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
