"""Upload a version over HTTP: announce its contents, send the missing ones, commit.

An upload is a folder of its own below ``.runicorn/uploads``. Contents of versions that the client
may see are linked into it at once, so that they cannot disappear before the commit. The client has
to send all others, even those in the pool: to know a digest does not prove to have the content.
A content in transfer is ``<digest>.part``: its size is the offset to continue from, after any
interruption on either side.

A commit happens once, however often it is requested and whatever is killed meanwhile: the same
rename that makes the version visible records the upload's id with it. The upload, reduced to
``done.json``, answers for a week with the version that it became.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from core.access import name_of, record
from runicorn import layout
from runicorn.artifacts import ReferenceEntry
from runicorn.artifacts.artifact import note_created
from runicorn.artifacts.blobs import Stored, hash_file
from runicorn.artifacts.chunking import Chunk
from runicorn.artifacts.folders import CHANGES, Location
from runicorn.artifacts.names import parse_digest
from runicorn.artifacts.storage import Draft
from runs.models import Run

from . import chunks, index
from .exceptions import ContentsMissing, NameTaken, UploadMismatch, UploadNotFound, WrongOffset
from .models import Artifact, Blob, Version

UNNAMED_USER = "user"
"""The author that v0.4 writes to the folder if no user has signed in."""

LARGEST_PART = 64 * 2**20
_STALE_SECONDS = 7 * 86400
_PLAN = "plan.json"
_DONE = "done.json"
READ_BYTES = 1 << 20
_UPLOAD_ID = "upload_id"

Read = Callable[[int], bytes]


@dataclass
class Upload:
    id: str
    folder: Path
    plan: dict[str, Any]

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each content in bytes, by its digest."""
        return {file["digest"]: file["size"] for file in self.plan["files"]}

    def missing(self) -> list[dict[str, Any]]:
        """Return the contents that are still to be sent, and the offsets to continue from."""
        if (self.folder / _DONE).exists():
            return []
        return [
            {"digest": f"sha256:{digest}", "size": size, "offset": _size(self._part(digest))}
            for digest, size in self.sizes.items()
            if not self._content(digest).exists()
        ]

    def _content(self, digest: str) -> Path:
        return self.folder / digest

    def _part(self, digest: str) -> Path:
        return self.folder / f"{digest}.part"

    def _chunk(self, digest: str) -> Path:
        return self.folder / f"{digest}.chunk"


def start(plan: dict[str, Any], *, by: Any) -> Upload:
    """Begin an upload of *plan*, whose names, paths and digests were checked.

    An unfinished upload with the same ``key`` is continued. One of the same ``attempt`` is returned
    even if it is finished, so that a client that missed the answer to its commit can repeat it.
    Raises NameTaken.
    """
    _check_name(plan, by)
    plan = {**plan, "created_by_user": name_of(by) or UNNAMED_USER, "owner": _owner(by)}
    if plan["key"] and (begun := _begun(plan)):
        return begun
    upload_id = uuid.uuid4().hex
    folder = _home() / upload_id
    folder.mkdir(parents=True)
    upload = Upload(upload_id, folder, {**plan, "after": _newest(plan)})
    index.refresh_all()
    for digest in Blob.objects.known_to(by, upload.sizes):
        index.storage().blobs.link(digest, upload.sizes[digest], str(folder / digest))
    layout.write_json(folder / _PLAN, upload.plan)
    record(by, "upload.start", _title(upload))
    return upload


def _check_name(plan: dict[str, Any], by: Any) -> None:
    """Raise NameTaken if an artifact has the name and type that *by* may not change."""
    named = Artifact.objects.filter(name=plan["name"], type=plan["type"])
    if named.exists() and not named.changeable_by(by).exists():
        raise NameTaken(f"The name {plan['name']} is taken: choose another one.")


def _title(upload: Upload) -> str:
    return f"{upload.plan['name']} ({upload.plan['type']}), {upload.id}"


def _begun(plan: dict[str, Any]) -> Upload | None:
    """Return an earlier upload of the same plan, to continue."""
    for file in _home().glob(f"*/{_PLAN}"):
        saved = layout.read_json(file)
        if _identity(saved) == _identity(plan):
            is_done = (file.parent / _DONE).exists()
            if not is_done and saved["attempt"] != plan["attempt"]:
                saved["attempt"] = plan["attempt"]
                layout.write_json(file, saved)
            if not is_done or (plan["attempt"] and saved["attempt"] == plan["attempt"]):
                return Upload(file.parent.name, file.parent, saved)
    return None


def _identity(plan: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plan.items() if key not in ("after", "attempt")}


def _newest(plan: dict[str, Any]) -> int:
    try:
        numbers = index.storage().find(plan["name"], plan["type"]).numbers()
    except FileNotFoundError:
        return 0
    return max(numbers, default=0)


def get(upload_id: str, *, by: Any) -> Upload:
    """Return an open upload of *by*. Raises UploadNotFound, also if another user began it."""
    upload = _find(upload_id, by)
    if (upload.folder / _DONE).exists():
        raise UploadNotFound(upload_id)
    return upload


def _find(upload_id: str, by: Any) -> Upload:
    folder = _home() / upload_id
    if len(upload_id) != 32 or not upload_id.isalnum() or not (folder / _PLAN).is_file():
        raise UploadNotFound(upload_id)
    upload = Upload(upload_id, folder, layout.read_json(folder / _PLAN))
    if upload.plan.get("owner", "") != _owner(by):
        raise UploadNotFound(upload_id)
    return upload


def _owner(by: Any) -> str:
    """Return the key of the only user who may continue an upload; names can change hands."""
    return str(by.pk) if getattr(by, "is_authenticated", False) else ""


def write_part(upload: Upload, digest: str, offset: int, read: Read) -> int:
    """Append the bytes that *read* returns at *offset*; return the new offset.

    Raises WrongOffset, and UploadMismatch if the whole content is not what was announced: it must
    be sent again from the beginning.
    """
    size = upload.sizes[digest]
    part = upload._part(digest)
    with layout.locked(part):
        if upload._content(digest).exists():
            return size
        with part.open("ab") as file:
            if offset != (reached := file.tell()):
                raise WrongOffset(reached)
            while block := read(READ_BYTES):
                if reached + len(block) > size:
                    file.truncate(offset)
                    raise UploadMismatch(f"More than the {size} bytes announced were sent.")
                file.write(block)
                reached += len(block)
        if reached == size:
            with part.open("rb") as file:
                actual, _ = hash_file(file.fileno())
            if actual != digest:
                part.unlink()
                raise UploadMismatch(
                    f"The bytes sent have the digest sha256:{actual}, not sha256:{digest}."
                )
            part.rename(upload._content(digest))
    return reached


class _Readable:
    """The part of a stream's interface that ``tarfile`` uses."""

    def __init__(self, read: Read) -> None:
        self.read = read


def write_pack(upload: Upload, read: Read) -> int:
    """Receive whole contents and chunks in a tar, each a file named by its digest.

    Return their number. They are kept even if the tar ends early. Raises UploadMismatch.
    """
    sizes = {**upload.sizes, **chunks.announced(upload.folder)}
    received = 0
    try:
        with tarfile.open(fileobj=_Readable(read), mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                try:
                    digest = parse_digest(member.name)
                except ValueError as error:
                    raise UploadMismatch(str(error)) from None
                is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)  # no holes to fill
                if not is_plain or sizes.get(digest) != member.size:
                    raise UploadMismatch(f"sha256:{digest} was not announced so.")
                content = tar.extractfile(member)
                assert content is not None
                _receive(upload, digest, content.read)
                received += 1
    except tarfile.TarError as error:
        raise UploadMismatch(f"Not a tar archive: {error}") from None
    return received


def _receive(upload: Upload, digest: str, read: Read) -> None:
    target = upload._content(digest) if digest in upload.sizes else upload._chunk(digest)
    temporary = upload.folder / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            while block := read(READ_BYTES):
                file.write(block)
        with temporary.open("rb") as file:
            actual, _ = hash_file(file.fileno())
        if actual != digest:
            raise UploadMismatch(f"The bytes sent as sha256:{digest} are sha256:{actual}.")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def build(upload: Upload, digest: str, recipe: list[Chunk], *, by: Any) -> list[Chunk]:
    """Build the content from received chunks and those of the newest version's files.

    Return the chunks that are missing; none if the content is complete. Raises UploadMismatch.
    """
    size = upload.sizes[digest]
    if sum(chunk.length for chunk in recipe) != size:
        raise UploadMismatch(f"The chunks are not the {size} bytes announced.")
    part = upload._part(digest)
    with layout.locked(part):
        if upload._content(digest).exists():
            return []
        chunks.announce(upload.folder, recipe)
        base = chunks.BaseChunks(upload.folder, upload.plan, digest, by)
        missing_chunks = {c.digest: c for c in recipe if not base.has(c) and not _has(upload, c)}
        if missing_chunks:
            return list(missing_chunks.values())
        with part.open("wb") as file:
            for chunk in recipe:
                sent = upload._chunk(chunk.digest)
                file.write(sent.read_bytes() if sent.exists() else base.read(chunk))
        with part.open("rb") as file:
            actual, _ = hash_file(file.fileno())
        if actual != digest:
            part.unlink()
            raise UploadMismatch(f"The chunks make sha256:{actual}, not sha256:{digest}.")
        part.rename(upload._content(digest))
        chunks.remember(digest, recipe)
    return []


def _has(upload: Upload, chunk: Chunk) -> bool:
    return _size(upload._chunk(chunk.digest)) == chunk.length


def commit(upload_id: str, *, by: Any) -> Version:
    """Make the upload a version, once; return the same version if called again.

    Raises UploadNotFound, ContentsMissing, NameTaken, and the ValueError of saving.
    """
    upload = _find(upload_id, by)
    with layout.locked(upload.folder / _PLAN):
        done = layout.read_json(upload.folder / _DONE)
        is_new = not done
        if is_new:
            done = _saved_before(upload)
        if not done:
            _check_name(upload.plan, by)
            done = _save(upload)
        layout.write_json(upload.folder / _DONE, done)
        _empty(upload.folder)
    try:
        location = index.storage().find(done["name"], done["type"])
    except FileNotFoundError:
        raise UploadNotFound(upload_id) from None
    artifact = index.index_artifact(location)
    version = artifact.versions.filter(number=done["version"]).first() if artifact else None
    if version is None:  # purged since
        raise UploadNotFound(upload_id)
    _note(upload, version, by)
    if is_new:
        record(by, "version.create", version)
    return version


def _saved_before(upload: Upload) -> dict[str, Any]:
    """Return the version that a killed process made of the upload; empty if none."""
    plan = upload.plan
    try:
        location = index.storage().find(plan["name"], plan["type"])
    except FileNotFoundError:
        return {}
    for number in location.numbers():
        if number > plan.get("after", 0):
            changes = layout.read_json(location.folder / f"v{number}" / CHANGES)
            if changes.get(_UPLOAD_ID) == upload.id:
                return _done(location, number)
    return {}


def _done(location: Location, number: int) -> dict[str, Any]:
    return {"name": location.name, "type": location.type, "version": number}


def _save(upload: Upload) -> dict[str, Any]:
    if missing := upload.missing():
        raise ContentsMissing(f"{len(missing)} contents have not arrived yet.")
    plan, store = upload.plan, index.storage()

    def place(source: str | os.PathLike[str], target: str) -> Stored:
        digest, size = Path(source).name, _size(Path(source))
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
        store.blobs.enter(digest, size, target)
        return Stored(digest, size, None)

    draft = Draft(
        plan["name"],
        plan["type"],
        [(upload._content(file["digest"]), file["path"]) for file in plan["files"]],
        [ReferenceEntry(**reference) for reference in plan["references"]],
        plan["description"],
        plan["metadata"],
        plan["tags"],
    )
    metadata, _ = store.save(
        draft,
        created_by_run=plan["created_by_run"],
        created_by_user=plan["created_by_user"],
        store=place,
        modified_at={file["path"]: file.get("modified_at") for file in plan["files"]},
        changes={_UPLOAD_ID: upload.id},
    )
    return _done(store.find(metadata.name, metadata.type), metadata.version)


def _note(upload: Upload, version: Version, by: Any) -> None:
    """Add the version to the record of the run that made it, if the run is here."""
    made_by = version.created_by_run
    run = Run.objects.visible_to(by).by_id(made_by) if made_by else None
    if run is not None and run.path is not None and run.path.is_dir():
        metadata = version.metadata()
        size = sum(file["size"] for file in upload.plan["files"])
        note_created(run.path, metadata, size, once=True)


def discard(upload: Upload, *, by: Any) -> None:
    """Discard *upload* and all that it has received."""
    shutil.rmtree(upload.folder, ignore_errors=True)
    record(by, "upload.discard", _title(upload))


def _empty(folder: Path) -> None:
    """Remove everything but the two documents that a repeated commit needs."""
    for path in folder.iterdir():
        if path.name not in (_PLAN, _DONE, f"{_PLAN}.lock"):
            path.unlink(missing_ok=True)


def collect_stale() -> None:
    """Discard uploads that have received nothing for a week."""
    for folder in _home().glob("*"):
        try:
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            elif (folder / _DONE).exists():
                _empty(folder)
        except FileNotFoundError:
            continue
    chunks.forget_missing()


def _home() -> Path:
    return Path(settings.RUNICORN_STORAGE_ROOT) / layout.SERVER_DIR / "uploads"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
