"""``Artifact``, which a training script puts together, saves, and uses again."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from .. import _encoding, layout
from . import names
from .blobs import copy_and_hash, open_regular
from .documents import ArtifactManifest, ArtifactMetadata, FileEntry, ReferenceEntry
from .folders import FILES, Location
from .names import ArtifactType
from .storage import ArtifactStorage, Draft
from .validation import check_metadata, check_tags

if TYPE_CHECKING:
    from .blobs import Progress

logger = logging.getLogger("runicorn")

LARGE = 64 * 2**20
"""The number of bytes from which on a download shows its progress."""


class DigestMismatch(RuntimeError):
    """A stored file is not the one that was saved."""


class Artifact:
    """A named thing of a type, made of files and of references to data that stays where it is.

    Put it together and give it to ``run.log_artifact``, which makes it a version that never
    changes; or get one from ``run.use_artifact``. Files are read when it is logged.

    Raises ValueError for a name or type that cannot be a folder, and for metadata that JSON cannot
    hold.
    """

    def __init__(
        self,
        name: str,
        type: str | ArtifactType = ArtifactType.MODEL,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = names.check_name(name)
        self.type = names.check_type(type)
        self.description = description
        self.metadata: dict[str, Any] = {}
        self.tags: list[str] = []
        self._files: dict[str, str] = {}
        self._references: list[ReferenceEntry] = []
        self._version: int | None = None
        self._loaded: tuple[ArtifactMetadata, ArtifactManifest] | None = None
        self._folder: Path | None = None
        self._attempt = ""
        self.add_metadata(metadata or {})

    # -- putting together ----------------------------------------------------------------------

    def add_file(self, path: str | os.PathLike[str], name: str | None = None) -> Self:
        """Add one file, as *name* (its own name by default). A name that is taken stays as it is.

        Raises FileNotFoundError, and ValueError for a folder or a path that leads outside.
        """
        source = Path(path)
        if not source.exists():
            raise FileNotFoundError(f"File not found: {path}")
        if not source.is_file():
            raise ValueError(f"Not a file (use add_dir for directories): {path}")
        self._files.setdefault(names.check_path(name or source.name), str(source.resolve()))
        return self

    def add_dir(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        exclude_patterns: Sequence[str] | str | None = None,
    ) -> Self:
        """Add every file below a folder, below *name* if given.

        *exclude_patterns*: globs such as ``*.tmp``, matched from the right. Links to folders are
        not followed. Raises FileNotFoundError, ValueError.
        """
        folder = Path(path)
        if not folder.exists():
            raise FileNotFoundError(f"Directory not found: {path}")
        if not folder.is_dir():
            raise ValueError(f"Not a directory: {path}")
        folder = folder.resolve()
        prefix = f"{names.check_path(name.rstrip('/'))}/" if name else ""
        if isinstance(exclude_patterns, str):
            exclude_patterns = [exclude_patterns]
        patterns = tuple(exclude_patterns or ())
        paths = sorted(_files_below(str(folder)))
        if patterns:
            paths = [file for file in paths if not any(map(Path(file).match, patterns))]
        targets = names.check_paths([prefix + file.replace(os.sep, "/") for file in paths])
        base = f"{folder}{os.sep}"
        for target, relative in zip(targets, paths, strict=True):
            self._files.setdefault(target, base + relative)
        if not paths:
            logger.warning("Nothing to add to artifact %s in %s", self.name, path)
        return self

    def add_reference(
        self,
        uri: str,
        checksum: str | None = None,
        size: int | None = None,
        name: str | None = None,
        **metadata: Any,
    ) -> Self:
        """Add data that stays where it is. *size* in bytes counts towards the version's size.

        Raises ValueError for an empty address or what is no size.
        """
        reference = ReferenceEntry(str(uri), checksum, size, _encoding.metadata(metadata))
        reference.check()
        self._references.append(reference)
        return self

    def add_metadata(self, metadata: Mapping[str, Any]) -> Self:
        """Merge *metadata*. Raises ValueError for what JSON cannot hold."""
        check_metadata(_encoding.metadata(metadata))
        self.metadata.update(_encoding.mapping(metadata))
        return self

    def add_tags(self, *tags: str) -> Self:
        """Raises ValueError for an empty tag, or one of more than 255 characters."""
        self.tags = check_tags([*self.tags, *tags])
        return self

    # -- looking at it -------------------------------------------------------------------------

    @property
    def version(self) -> int | None:
        return self._version

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    @property
    def full_name(self) -> str:
        version = "unstaged" if self._version is None else f"v{self._version}"
        return f"{self.name}:{version}"

    def get_manifest(self) -> ArtifactManifest | None:
        return self._loaded[1] if self._loaded else None

    def get_metadata(self) -> ArtifactMetadata | None:
        return self._loaded[0] if self._loaded else None

    def get_references(self) -> list[ReferenceEntry]:
        return self._loaded[1].references if self._loaded else self._references

    def __str__(self) -> str:
        return self.full_name

    def __repr__(self) -> str:
        return f"<Artifact {self.full_name} type={self.type}>"

    # -- using it ------------------------------------------------------------------------------

    def download(self, target_dir: str | os.PathLike[str] | None = None) -> Path:
        """Copy the files to *target_dir* (a new temporary folder by default) and return it.

        Every file is verified while it is copied, and appears under its name only when it is
        whole and right. Raises DigestMismatch if what is stored is not what was saved.
        """
        manifest, folder = self._content()
        if target_dir is None:
            name = f"runicorn_{self.name}_v{self._version}_"
            target = Path(tempfile.mkdtemp(prefix=name))
        else:
            target = Path(target_dir).absolute()
            target.mkdir(parents=True, exist_ok=True)
        with _progress_line(self.full_name, sum(file.size for file in manifest.files)) as tell:
            for entry in manifest.files:
                self._fetch(entry, folder, target, tell)
        return target

    def _fetch(self, entry: FileEntry, folder: Path, target: Path, tell: Progress | None) -> None:
        source = names.inside(folder, entry.path)
        destination = names.inside(target, entry.path)
        if source is None or destination is None:
            raise ValueError(f"Invalid file path (path traversal detected): {entry.path}")
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".download-", dir=destination.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            file, _ = open_regular(source)
            with open(file, "rb") as original, open(temporary, "wb") as copy:
                digest, _ = copy_and_hash(original.fileno(), copy.fileno(), tell)
            if digest != names.parse_digest(entry.digest):
                raise DigestMismatch(
                    f"{entry.path} of {self.full_name} was changed after it was saved: "
                    f"its digest is sha256:{digest}, not {entry.digest}."
                )
            shutil.copystat(source, temporary)
            if entry.modified_at is not None:  # the stored file may be another version's, too
                os.utime(temporary, (entry.modified_at, entry.modified_at))
            temporary.replace(destination)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def get_file_path(self, file_path: str) -> Path | None:
        """Return the stored file's path, for reading only; None if there is no such file."""
        _, folder = self._content()
        path = names.inside(folder, file_path)
        if path is None:
            raise ValueError(f"Invalid file path (path traversal detected): {file_path}")
        return path if path.is_file() else None

    def _content(self) -> tuple[ArtifactManifest, Path]:
        if self._loaded is None or self._folder is None:
            raise RuntimeError(f"Artifact {self.name} is not loaded. Use run.use_artifact() first.")
        return self._loaded[1], self._folder

    def _load(self, storage: ArtifactStorage, location: Location, number: int) -> None:
        metadata = storage.metadata(location, number)
        self._loaded = (metadata, storage.manifest(location, number))
        self._version = number
        self._folder = location.version(number) / FILES
        self.description, self.metadata = metadata.description, metadata.metadata
        self.tags = metadata.tags

    def _draft(self) -> Draft:
        return Draft(
            self.name,
            self.type,
            [(source, path) for path, source in self._files.items()],
            self._references,
            self.description,
            _encoding.metadata(self.metadata),
            self.tags,
        )


class Run(Protocol):
    """The part of an SDK's run that saving and using artifacts takes."""

    @property
    def id(self) -> str: ...
    @property
    def run_dir(self) -> Path: ...
    @property
    def storage_root(self) -> Path: ...


def log_artifact(run: Run, artifact: Artifact) -> int:
    """Save *artifact* as a version created by *run*; returns its number."""
    storage = ArtifactStorage(run.storage_root)
    metadata, manifest = storage.save(artifact._draft(), created_by_run=run.id)
    artifact._version = metadata.version
    size = sum(file.size for file in manifest.files)
    note_created(run.run_dir, metadata, size)
    return metadata.version


def note_created(
    run_dir: Path, metadata: ArtifactMetadata, size: int, *, once: bool = False
) -> None:
    """Note in the run's folder that it made the version, whose files have *size* bytes."""
    _record(
        run_dir,
        layout.ARTIFACTS_CREATED,
        {
            "name": metadata.name,
            "type": metadata.type,
            "version": metadata.version,
            "created_at": metadata.created_at,
            "size_bytes": size,
            "num_files": metadata.num_files,
            "num_references": metadata.num_references,
        },
        once=once,
    )


def use_artifact(run: Run, spec: str) -> Artifact:
    """The version that ``name:v3`` or ``name:alias`` names; noted as used by *run*."""
    name, reference = names.parse_spec(spec)
    storage = ArtifactStorage(run.storage_root)
    location = storage.find(name)
    artifact = Artifact(name, location.type)
    artifact._load(storage, location, storage.resolve(location, reference))
    metadata = artifact.get_metadata()
    assert metadata is not None
    _record(
        run.run_dir,
        layout.ARTIFACTS_USED,
        {
            "name": name,
            "type": artifact.type,
            "version": artifact.version,
            "used_at": time.time(),
            "size_bytes": metadata.size_bytes,
            "num_files": metadata.num_files,
        },
        once=True,
    )
    return artifact


def _record(run_dir: Path, document: str, entry: dict[str, Any], *, once: bool = False) -> None:
    """Note *entry* in the run's document; *once*: not if the version is noted already."""
    path = run_dir / document
    key = (entry["name"], entry["version"])
    try:
        with layout.locked_in_run(path):
            data = layout.load_for_change(path) or {}
            recorded = data.get("artifacts")
            recorded = recorded if isinstance(recorded, list) else []
            recorded_keys = (
                (e.get("name"), e.get("version")) for e in recorded if isinstance(e, dict)
            )
            if not once or key not in recorded_keys:
                layout.write_json(path, {**data, "artifacts": [*recorded, entry]})
    except (OSError, TimeoutError) as error:
        logger.warning("Run %s could not note %s:v%s: %s", run_dir.name, *key, error)


def _files_below(folder: str) -> Iterator[str]:
    """Their paths relative to *folder*; links to files count as files."""
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(f"{folder}{os.sep}{below}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{below}{entry.name}{os.sep}")
                    elif entry.is_file():
                        yield below + entry.name
        except OSError:  # not for us to read
            continue


@contextmanager
def _progress_line(what: str, total: int) -> Iterator[Progress | None]:
    """Yield a function that draws a copy's progress; None for a small one or no terminal."""
    if total < LARGE or not sys.stderr.isatty():
        yield None
        return
    done, shown_at = 0, 0.0

    def tell(count: int) -> None:
        nonlocal done, shown_at
        done += count
        now = time.monotonic()
        if now - shown_at > 0.1 or done >= total:
            shown_at = now
            bar = ("#" * (30 * done // total)).ljust(30)
            text = f"\r{what} [{bar}] {done / 2**20:,.0f} of {total / 2**20:,.0f} MiB"
            print(text, end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        print(file=sys.stderr)
