"""Write the manifest of a storage root: look at every run, and publish in one step."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from math import isfinite
from pathlib import Path
from typing import IO, Any

import orjson

from .. import layout
from ..files import open_inside, read_json_inside, scan_inside
from ..run_store import annotations_of
from . import model
from .model import ExperimentEntry, FileEntry, ManifestType, SyncManifest

logger = logging.getLogger("runicorn.manifest")

STATE = ".manifest_state.json"
TAIL = 4096
LARGEST_MEDIA = 2**20

_PRIORITIES = {
    layout.META: 1,
    layout.STATUS: 1,
    layout.DELETED: 1,
    layout.SUMMARY: 2,
    layout.CONFIG: 2,
    layout.ENVIRONMENT: 2,
    layout.ARTIFACTS_CREATED: 2,
    layout.ARTIFACTS_USED: 2,
    layout.ANNOTATIONS: 2,
    layout.EVENTS: 3,
    layout.LOGS: 3,
    layout.SYSTEM: 3,
}
_MEDIA_PRIORITY = 4

_Known = dict[str, FileEntry]


class ManifestGenerator:
    """Writes the manifests of one storage root.

    A manifest whose experiments are those of the one that is there is not written again, so that a
    client sees from the file's time alone that nothing is new.
    """

    FORMAT_VERSION = model.FORMAT_VERSION
    GENERATOR_VERSION = model.GENERATOR_VERSION
    MAX_MANIFEST_SIZE = model.LARGEST_MANIFEST
    MAX_METADATA_FILE_SIZE = 2**20

    def __init__(
        self,
        remote_root: Path,
        output_dir: Path | None = None,
        active_window_seconds: int = 3600,
        incremental: bool = True,
        *,
        max_manifest_size: int | None = None,
    ) -> None:
        self.remote_root = Path(os.path.abspath(remote_root))
        self.output_dir = Path(output_dir or self.remote_root / layout.SERVER_DIR)
        self.active_window_seconds = active_window_seconds
        self.incremental = incremental
        self.max_manifest_size = max_manifest_size or self.MAX_MANIFEST_SIZE
        self.output_dir.mkdir(parents=True, exist_ok=True)

    def generate(
        self,
        manifest_type: ManifestType = ManifestType.FULL,
        output_path: Path | None = None,
    ) -> tuple[SyncManifest, Path]:
        """The manifest as it is now, and where it lies, beside its twin ``<path>.gz``.

        Raises OSError if the root cannot be read and ValueError if the manifest would be too large;
        what was published before then stays.
        """
        path = Path(output_path or self.output_dir / f"{manifest_type.value}_manifest.json")
        state_path = self.output_dir / STATE
        os.scandir(self.remote_root).close()  # raises: an unreadable root is not an empty one
        with layout.locked(state_path):
            previous = _previous(path)
            experiments = self._experiments(manifest_type, previous)
            if previous and previous.experiments == experiments and _has_twin(path):
                # Clients see from this that it is kept up to date.
                with suppress(FileNotFoundError):
                    os.utime(state_path)
                return previous, path
            manifest = SyncManifest(
                format_version=self.FORMAT_VERSION,
                manifest_type=manifest_type,
                revision=self._last_revision() + 1,
                snapshot_id=str(uuid.uuid4()),
                generated_at=time.time(),
                server_hostname=socket.gethostname(),
                remote_root=str(self.remote_root),
                experiments=experiments,
                generator_version=self.GENERATOR_VERSION,
            )
            manifest.compute_statistics()
            _publish(manifest, path, self.max_manifest_size)
            # After the manifest: a crash in between uses the number again, and skips none.
            state = {"last_revision": manifest.revision, "last_generated": manifest.generated_at}
            layout.write_json(state_path, state)
        return manifest, path

    def _last_revision(self) -> int:
        """The highest revision so far: full and active manifests count together."""
        revision = layout.read_json(self.output_dir / STATE).get("last_revision")
        return revision if isinstance(revision, int) and revision > 0 else 0

    def _experiments(
        self, manifest_type: ManifestType, previous: SyncManifest | None
    ) -> list[ExperimentEntry]:
        known_files: _Known = {}
        if self.incremental and previous:
            known_files = {file.path: file for e in previous.experiments for file in e.files}
        oldest = time.time() - self.active_window_seconds
        experiments = []
        for directory, entry in layout.iter_run_dirs(self.remote_root):
            project, name, run_id = layout.split_run_dir(directory) or (None, None, "")
            if project is None or name is None:
                continue  # the legacy layout has no place in the format
            try:
                files = list(self._files(directory, Path(entry.path), known_files))
                if not files:
                    continue
                updated_at = max(file.mtime for file in files)
                if manifest_type is ManifestType.ACTIVE and updated_at < oldest:
                    continue
                folder = Path(entry.path)
                meta = read_json_inside(folder.parent, f"{folder.name}/{layout.META}")
                tags = annotations_of(self.remote_root, directory, meta).tags
                experiments.append(
                    ExperimentEntry(
                        run_id=run_id,
                        project=project,
                        name=name,
                        status=_status(folder),
                        created_at=_created_at(folder, meta),
                        updated_at=updated_at,
                        files=sorted(files, key=lambda file: file.path),
                        tags=[tag for tag in tags if _is_text(tag)],
                    )
                )
            except (OSError, ValueError) as error:
                logger.warning("Run %s is left out: %s", directory, error)
        return sorted(experiments, key=lambda e: (e.project, e.name, e.run_id))

    def _files(self, directory: str, folder: Path, known_files: _Known) -> Iterator[FileEntry]:
        for name, info in _regular_files(folder):
            is_stream = name in layout.STREAMS
            if not is_stream and info.st_size > self.MAX_METADATA_FILE_SIZE:
                continue
            if name in _PRIORITIES:
                entry = FileEntry(
                    f"{directory}/{name}",
                    info.st_size,
                    info.st_mtime,
                    priority=_PRIORITIES[name],
                    is_append_only=is_stream,
                )
                model.check_path(entry.path)
                if is_stream:
                    _add_tail_hash(entry, folder, name, known_files.get(entry.path))
                yield entry
        for name, info in _regular_files(folder, layout.MEDIA):
            if info.st_size <= LARGEST_MEDIA:
                entry_path = f"{directory}/{layout.MEDIA}/{name}"
                try:
                    model.check_path(entry_path)
                except ValueError as error:
                    logger.warning("A file is left out: %s", error)
                    continue
                yield FileEntry(entry_path, info.st_size, info.st_mtime, priority=_MEDIA_PRIORITY)


def _regular_files(run_dir: Path, inner: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield name and status of the files in the run's folder, or in *inner*; links are left out."""
    try:
        entries = scan_inside(run_dir.parent, f"{run_dir.name}/{inner}".rstrip("/"))
    except (FileNotFoundError, NotADirectoryError):  # also a link in the folder's place
        return
    for name, info in entries:
        if layout.is_regular_file(info) and _is_text(name):
            yield name, info


def _add_tail_hash(entry: FileEntry, run_dir: Path, name: str, known: FileEntry | None) -> None:
    """Set the hash of the last bytes up to the entry's size, without what was appended since."""
    if known and (known.size, known.mtime) == (entry.size, entry.mtime):
        entry.tail_hash = known.tail_hash
    elif entry.size:
        with open_inside(run_dir.parent, f"{run_dir.name}/{name}") as file:
            file.seek(max(0, entry.size - TAIL))
            tail = file.read(min(TAIL, entry.size))
        entry.tail_hash = hashlib.md5(tail, usedforsecurity=False).hexdigest()


def _status(folder: Path) -> str:
    status = read_json_inside(folder.parent, f"{folder.name}/{layout.STATUS}").get("status")
    return status if isinstance(status, str) and _is_text(status) else "unknown"


def _created_at(folder: Path, meta: dict[str, Any]) -> float:
    created = meta.get("created_at")
    if isinstance(created, int | float) and not isinstance(created, bool) and isfinite(created):
        return float(created)
    return folder.stat().st_ctime


def _is_text(text: str) -> bool:
    """JSON may hold half a surrogate pair, which is no text to write again."""
    with suppress(UnicodeEncodeError):
        text.encode()
        return True
    return False


# -- files ---------------------------------------------------------------------------------------


def twin_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _previous(path: Path) -> SyncManifest | None:
    try:
        return model.read_manifest(path.read_bytes())
    except (OSError, ValueError):
        return None


def _has_twin(path: Path) -> bool:
    """Return whether the twin is of the same generation: it is written just before the file."""
    with suppress(OSError, ValueError):
        return twin_of(path).stat().st_mtime_ns <= path.stat().st_mtime_ns
    return False


def _publish(manifest: SyncManifest, path: Path, largest: int) -> None:
    """Write plain and compressed beside their places, then the compressed first into its own:
    clients that see a new plain file may rely on the other."""
    with ExitStack() as stack:
        plain = stack.enter_context(_Replacement(path))
        packed = stack.enter_context(_Replacement(twin_of(path)))
        with gzip.GzipFile(fileobj=packed.file, mode="wb", filename="", compresslevel=6) as zipped:
            size = _write(manifest, lambda data: (plain.file.write(data), zipped.write(data)))
        if size > largest:
            raise ValueError(f"Manifest size ({size} bytes) exceeds limit ({largest} bytes)")
        packed.commit()
        plain.commit()


def _write(manifest: SyncManifest, write: Callable[[bytes], Any]) -> int:
    """JSON with an indent of two, one experiment at a time; returns the number of bytes."""
    size = 0

    def put(data: bytes) -> None:
        nonlocal size
        size += len(data)
        write(data)

    put(_indented(manifest.head()).removesuffix(b"\n}") + b',\n  "experiments": [')
    for number, experiment in enumerate(manifest.experiments):
        lines = _indented(experiment.to_dict()).replace(b"\n", b"\n    ")
        put((b",\n    " if number else b"\n    ") + lines)
    put(b"\n  ],\n" if manifest.experiments else b"],\n")
    put(_indented(manifest.tail()).removeprefix(b"{\n"))
    return size


def _indented(data: dict[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2)


class _Replacement:
    """A new content for *path*, thrown away unless committed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Replacement:
        handle, name = tempfile.mkstemp(
            prefix=f".{self._path.name}.", suffix=".tmp", dir=self._path.parent
        )
        self._temporary = Path(name)
        self.file: IO[bytes] = os.fdopen(handle, "wb")
        return self

    def commit(self) -> None:
        self.file.close()
        # Readable like the runs themselves: by the account that syncs, say.
        self._temporary.chmod(layout.new_file_mode())
        with suppress(FileNotFoundError):
            # Over SFTP times are whole seconds: two of one second and size would look the same.
            before, now = int(self._path.stat().st_mtime), int(self._temporary.stat().st_mtime)
            if now <= before < now + 60:  # beyond that, the clock was set back
                os.utime(self._temporary, (before + 1, before + 1))
        self._temporary.replace(self._path)

    def __exit__(self, *error: object) -> None:
        self.file.close()
        self._temporary.unlink(missing_ok=True)
