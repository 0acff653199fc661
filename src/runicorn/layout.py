"""What a storage root looks like on disk, and the few safe ways to read and write it.

The one description of the layouts of Runicorn 0.4, 0.6 and 0.7 that the SDK, the CLI and the
server share. Imports the standard library only at module level, so that ``import runicorn`` stays
light.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger("runicorn")

META = "meta.json"
STATUS = "status.json"
SUMMARY = "summary.json"
CONFIG = "config.json"
ENVIRONMENT = "environment.json"
ARTIFACTS_CREATED = "artifacts_created.json"
ARTIFACTS_USED = "artifacts_used.json"
DELETED = ".deleted"
ANNOTATIONS = "annotations.json"
"""What people keep about a run: tags, notes, pin, archive mark and display name."""
EVENTS = "events.jsonl"
LOGS = "logs.txt"
SYSTEM = "system.jsonl"
MEDIA = "media"
HEARTBEAT = "heartbeat."
"""``heartbeat.<process>``: one for each process that writes the run, touched every 10 seconds
while it lives. It holds ``hostname``, ``pid`` and ``process``, as ``meta.json`` does."""

DOCUMENTS = (
    META,
    STATUS,
    SUMMARY,
    CONFIG,
    ENVIRONMENT,
    ARTIFACTS_CREATED,
    ARTIFACTS_USED,
    DELETED,
    ANNOTATIONS,
)
"""The small files of a run that are replaced as a whole."""

LARGEST_STEP = 2**63 - 2
"""The largest step that counting goes on from: the next fits 64 bits, too, as every index needs."""

STREAMS = (EVENTS, LOGS, SYSTEM)
"""The files of a run that only grow.

A second machine that logs to the same run is another *writer*: its lines lie in files of their own,
``events.<writer>.jsonl`` beside ``events.jsonl``, and are read as one with them.
"""

_PART = re.compile(r"(events|logs|system)(?:\.[A-Za-z0-9_-]{1,64})?\.(jsonl|txt)")

_USUAL = frozenset(DOCUMENTS + STREAMS)

_HEARTBEAT = re.compile(re.escape(HEARTBEAT) + r"[0-9]+-[0-9a-f]{12}")

RUN_FILES = (META, STATUS, EVENTS)
"""A folder that holds one of these is a run; any other is a folder to look into."""

RUNS = "runs"
RECYCLE_BIN = ".recycle"
"""Below ``runs``: where Runicorn 0.7 moves deleted runs."""
DEEPEST = 32
"""Runs that lie deeper below the storage root are not looked for."""

SERVER_DIR = ".runicorn"
MIRRORS = "mirrors.json"
"""In the server's folder: which run folders are copies of another host's, by folder."""
EXPERIMENTS_METADATA = ".experiments_metadata.json"

NOT_PROJECTS = frozenset(
    [
        "runs",
        "webui",
        "artifacts",
        "sweeps",
        "archive",
        "index",
        "evaluations",
        "node_modules",
        "__pycache__",
    ]
)
"""Folders of a storage root that never hold runs, beside every name that starts with a dot."""

_NEVER = ("node_modules", "__pycache__")
"""Folders in which no project with slashes is looked for."""

RUN_ID = re.compile(r"[0-9]{8}_[0-9]{6}_[a-f0-9]{6}")
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]|\.\.")


def stream_of(name: str) -> str | None:
    """Return the stream that the file *name* is, or is a part of; None for any other file."""
    match = _PART.fullmatch(name)
    stream = f"{match[1]}.{match[2]}" if match else ""
    return stream if stream in STREAMS else None


def is_run_file(name: str) -> bool:
    """Whether the server reads files of this *name* in a run's folder."""
    return name in _USUAL or stream_of(name) is not None


def is_heartbeat(name: str) -> bool:
    """Whether the file means something only in its folder: it travels in no archive or copy."""
    return _HEARTBEAT.fullmatch(name) is not None


def new_run_id() -> str:
    """``YYYYMMDD_HHMMSS_XXXXXX``: local time and six hexadecimal digits."""
    return time.strftime("%Y%m%d_%H%M%S") + "_" + uuid.uuid4().hex[:6]


def is_run_id(text: object) -> bool:
    return isinstance(text, str) and RUN_ID.fullmatch(text) is not None


def check_name(kind: str, name: str) -> str:
    """Return *name* if it may become one folder below the storage root.

    Raises ValueError for separators, ``..``, control characters, a leading dot, more than 100
    characters, and the names that a storage root keeps for itself.
    """
    reason = None
    if _FORBIDDEN.search(name):
        reason = "it must not contain '/', '\\', '..' or control characters"
    elif name.startswith(".") or name != name.strip():
        reason = "it must not start with a dot, nor begin or end with white space"
    elif len(name) > 100 or len(name.encode("utf-8", "replace")) > 255:
        reason = "it must have at most 100 characters"
    elif not name:
        reason = "it must not be empty"
    elif kind == "project" and name in NOT_PROJECTS:
        reason = "the storage root keeps this folder for itself"
    if reason:
        raise ValueError(f"Invalid {kind} {name[:120]!r}: {reason}.")
    return name


def is_project_name(name: str) -> bool:
    return not name.startswith(".") and name not in NOT_PROJECTS


def is_plain_name(name: str) -> bool:
    """Whether *name*, which another machine told, can be one component of a path here."""
    is_odd = name in ("", ".", "..") or any(c in "/\\\x7f" or c < " " for c in name)
    try:
        is_odd = is_odd or len(name.encode()) > 200
    except UnicodeEncodeError:
        return False
    return not is_odd and not (sys.platform == "win32" and ":" in name)


def iter_run_dirs(
    root: Path, run_ids: Collection[str] | None = None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every run folder below *root*, as (path relative to the root with ``/``, directory entry).

    With *run_ids* only those with one of these names, and what else lies below ``runs``: the many
    other folders of 0.4's layout are not looked into.

    Those of 0.4 come first, then what lies below ``runs``. A folder that cannot be read is passed
    over; it never hides the others. A project or experiment of 0.4 may be a link to a folder
    elsewhere (a larger disk, say), as in v0.4; no other link is followed, and below such a link a
    run lies where 0.4 puts it or nowhere.
    """
    for project in _scan(root):
        if is_project_name(project.name) and _is_dir(project, links=True):
            yield from _walk_v04(project.name, project.path, 1, project.is_symlink(), run_ids)
    yield from _walk_v07(RUNS, os.path.join(root, RUNS), 1, run_ids)


def _walk_v04(
    directory: str, path: str, depth: int, is_strict: bool, run_ids: Collection[str] | None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The runs of the 0.4 layout below *directory*, which lies *depth* folders below the root.

    *is_strict*: only as ``<project>/<name>/runs/<id>``, not under a project with slashes.
    """
    is_runs = depth >= 3 and directory.endswith(f"/{RUNS}")
    for entry in _scan(path):
        may_be_link = depth == 1 or (depth == 2 and entry.name == RUNS)
        if is_runs and run_ids is not None and entry.name not in run_ids:
            continue
        if not _is_dir(entry, may_be_link) or entry.name in _NEVER:
            continue
        child = f"{directory}/{entry.name}"
        if is_runs and split_run_dir(child) and _has_run_file(entry.path):
            yield child, entry
            continue
        is_hidden = entry.name.startswith(".")
        if is_hidden and depth > 1:
            continue
        # A hidden experiment is one of 0.4 alone.
        strict = is_strict or is_hidden or (may_be_link and entry.is_symlink())
        if depth < DEEPEST - 1 and not (
            strict and depth >= 2 and (depth > 2 or entry.name != RUNS)
        ):
            yield from _walk_v04(child, entry.path, depth + 1, strict, run_ids)


def _walk_v07(
    directory: str, path: str, depth: int, run_ids: Collection[str] | None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The runs below *directory*, which is ``runs`` or lies in it."""
    for entry in _scan(path):
        is_hidden = entry.name.startswith(".") and (directory, entry.name) != (RUNS, RECYCLE_BIN)
        if is_hidden or not _is_dir(entry, links=False):
            continue
        child = f"{directory}/{entry.name}"
        if split_run_dir(child) and _has_run_file(entry.path):
            yield child, entry
            inner = (os.path.join(entry.path, run_id) for run_id in run_ids or ())
            if run_ids is None or any(map(os.path.exists, inner)):
                yield from _nested(child, entry.path)
        elif depth < DEEPEST - 1:
            yield from _walk_v07(child, entry.path, depth + 1, run_ids)


def _nested(directory: str, path: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The runs in a run's folder: 0.7 puts one there if its path names another run."""
    for entry in _scan(path):
        if entry.name == MEDIA or entry.name.startswith(".") or not _is_dir(entry, links=False):
            continue
        child = f"{directory}/{entry.name}"
        if split_run_dir(child) and _says_its_name(entry.path):
            yield child, entry


def _has_run_file(path: str) -> bool:
    # A third of the time that stat takes.
    return any(os.access(f"{path}{os.sep}{name}", os.F_OK) for name in RUN_FILES)


def _says_its_name(folder: str) -> bool:
    return read_json(os.path.join(folder, META)).get("id") == Path(folder).name


def _scan(path: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def _is_dir(entry: os.DirEntry[str], links: bool) -> bool:
    try:
        entry.name.encode()  # a name that is not UTF-8 cannot be told to any client
        return entry.is_dir(follow_symlinks=links)
    except (OSError, UnicodeEncodeError):
        return False


def is_run_dir(path: str | os.PathLike[str]) -> bool:
    """Whether the folder is a run's: it holds a run's file itself. A link is none."""
    return not Path(path).is_symlink() and _has_run_file(os.fspath(path))


def holds_runs(path: str | os.PathLike[str]) -> bool:
    """Whether another run lies somewhere in a run's folder."""
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(folder, name)
            if not Path(inner).is_symlink() and (
                _says_its_name(inner)
                or all(os.path.lexists(os.path.join(inner, file)) for file in (STATUS, EVENTS))
            ):
                return True
    return False


def run_dir_of(root: Path, path: str) -> str | None:
    """The run folder that *path* (relative to *root*, with ``/``) is or lies in; None: in none."""
    parts = path.split("/")
    for depth in range(2, len(parts) + 1):
        directory = "/".join(parts[:depth])
        if split_run_dir(directory) and is_run_dir(root / directory):
            inner = "/".join(parts[: depth + 1])
            is_nested = depth < len(parts) and parts[0] == RUNS and split_run_dir(inner)
            return inner if is_nested and _says_its_name(os.fspath(root / inner)) else directory
    return None


def split_run_dir(relative: str) -> tuple[str | None, str | None, str] | None:
    """Return (project, name, run id) of a path relative to the root; None: no run can lie there.

    ``<project>/<name>/runs/<id>``, where the project may hold slashes (0.4), ``runs/<id>``, and
    ``runs/<project>/<name…>/<id>`` with a name of any depth or none (0.6, 0.7). A run in the
    recycle bin of 0.7 says only in its files where it came from: see :func:`place_of_run`.
    """
    parts = relative.split("/")
    if len(parts) < 2 or len(parts) > DEEPEST or "" in parts or parts[-1].startswith("."):
        return None
    if parts[0] == RUNS:
        if parts[1] == RECYCLE_BIN:
            return (None, None, parts[2]) if len(parts) == 3 else None
        if any(part.startswith(".") for part in parts):
            return None
        return *_split_path(parts[1:-1]), parts[-1]
    if len(parts) < 4 or parts[-2] != RUNS or not is_project_name(parts[0]):
        return None
    if len(parts) > 4 and any(part.startswith(".") or part in _NEVER for part in parts):
        return None
    return "/".join(parts[:-3]), parts[-3], parts[-1]


def _split_path(parts: list[str]) -> tuple[str | None, str | None]:
    """Project and experiment of a path of 0.7: its first part, and the others."""
    return (parts[0] if parts else None), ("/".join(parts[1:]) or None)


def is_v07_dir(directory: str) -> bool:
    """Whether a run folder's own path, and not ``meta.json``, says where the run belongs."""
    return directory.startswith(f"{RUNS}/") and directory.count("/") > 1


def is_recycled(directory: str) -> bool:
    """Whether a run folder lies in the recycle bin of 0.7: it is deleted, marked or not."""
    return directory.startswith(f"{RUNS}/{RECYCLE_BIN}/")


def place_of_run(
    directory: str, meta: dict[str, Any], marker: dict[str, Any] | None = None
) -> tuple[str | None, str | None]:
    """Return project and experiment of the run in *directory*, with what its files say.

    What ``meta.json`` names goes before the folder in the layout of 0.4, and the folder before
    ``meta.json`` in that of 0.7, as in these versions. *marker*: what ``.deleted`` holds.
    """
    project, name, _ = split_run_dir(directory) or (None, None, "")
    if is_recycled(directory):
        for path in ((marker or {}).get("original_path"), meta.get("path")):
            if isinstance(path, str):
                return _split_path([part for part in path.split("/") if part])
    elif is_v07_dir(directory):
        return project, name
    named = [meta.get(key) for key in ("project", "name")]
    project, name = (
        text if isinstance(text, str) and text else place
        for text, place in zip(named, (project, name), strict=True)
    )
    return project, name


def is_at_home(directory: str, meta: dict[str, Any]) -> bool:
    """Whether a run's ``meta.json`` says that it lies where it does: a copy elsewhere does not."""
    project, name, run_id = split_run_dir(directory) or (None, None, "")
    if meta.get("id") != run_id:
        return False
    if is_v07_dir(directory):
        path = meta.get("path")
        return isinstance(path, str) and _split_path([p for p in path.split("/") if p]) == (
            project,
            name,
        )
    return project is None or (meta.get("project"), meta.get("name")) == (project, name)


def run_dir(project: str | None, name: str | None, run_id: str, *, is_v07: bool) -> str:
    """Where a run lies, relative to the root, in the layout of 0.7 or of 0.4."""
    if is_v07:
        return "/".join([RUNS, *filter(None, (project, name)), run_id])
    return f"{project}/{name}/{RUNS}/{run_id}"


# -- JSON documents ----------------------------------------------------------------------------


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"opt": {"lr": 1}}`` as ``{"opt.lr": 1}``; lists and empty objects are leaves."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value and prefix.count(".") < 20:
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def parse_json(content: bytes) -> dict[str, Any] | None:
    """The object in *content*, or None. Accepts NaN, Infinity and bytes that are no UTF-8."""
    try:
        value = json.loads(content.decode("utf-8", "ignore"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class DamagedDocument(ValueError):
    """A document is there and cannot be read: it is not empty, and must not be written over."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(f"{os.fspath(path)} is damaged: it is no JSON object.")
        self.path = Path(path)


def load_json(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The object in the file, None if there is no file. Raises DamagedDocument, and OSError."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    return object_in(content, path)


def object_in(content: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the object in *content*, that of the file *path*. Raises DamagedDocument."""
    try:
        value = json.loads(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DamagedDocument(path)
    return value


def load_for_change(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The object in the file, for a caller who holds its lock and will write it anew.

    A damaged file is set aside under another name, and said; the caller starts from None.
    Programs that take no lock and write in place leave a file half written for a moment: one that
    was changed just now is read again before it counts as damaged.
    """
    deadline = time.monotonic() + _HALF_WRITTEN_S
    while True:
        try:
            return load_json(path)
        except DamagedDocument:
            if time.monotonic() > deadline or _age(path) > _HALF_WRITTEN_S:
                break
        time.sleep(0.05)
    aside = set_aside(path)
    logger.warning("%s is damaged and was set aside as %s.", os.fspath(path), aside.name)
    return None


_HALF_WRITTEN_S = 1.0


def _age(path: str | os.PathLike[str]) -> float:
    try:
        return abs(time.time() - Path(path).stat().st_mtime)
    except OSError:
        return 0.0


def set_aside(path: str | os.PathLike[str]) -> Path:
    """Give a damaged file a name of its own beside where it was, and return that."""
    path = Path(path)
    stamp = f"{path.name}.damaged-{time.strftime('%Y%m%d_%H%M%S')}"
    for number in range(1000):
        aside = path.with_name(f"{stamp}-{number}" if number else stamp)
        if not os.path.lexists(aside):
            path.rename(aside)
            return aside
    raise FileExistsError(f"There are too many damaged copies of {path}.")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in the file, or an empty one if it is missing, unreadable or no object."""
    try:
        return parse_json(Path(path).read_bytes()) or {}
    except OSError:
        return {}


def dump_json(data: Any) -> bytes:
    """As Runicorn 0.4 writes its documents: two spaces, non-ASCII raw, NaN as ``NaN``."""
    return json.dumps(data, ensure_ascii=False, indent=2).encode("utf-8", "surrogatepass")


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Replace the file in one step: a reader sees the old content or the new, never a part."""
    write_bytes(path, dump_json(data))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write beside the file and rename; on failure (a full disk) the old content stays."""
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(new_file_mode())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def set_mtime(path: str | os.PathLike[str], mtime_ns: int) -> None:
    try:
        os.utime(path, ns=(mtime_ns, mtime_ns))
    except (OSError, OverflowError):
        pass  # a date that this file system does not know, or another user's file


def new_file_mode() -> int:
    global _mode
    if _mode is None:
        mask = os.umask(0)
        os.umask(mask)
        _mode = 0o666 & ~mask
    return _mode


_mode: int | None = None


@contextmanager
def locked(path: str | os.PathLike[str], timeout: float = 30) -> Iterator[None]:
    """Hold the advisory lock of *path*: ``<path>.lock``, the one that Runicorn 0.4 takes too."""
    from filelock import FileLock

    lock = FileLock(f"{os.fspath(path)}.lock", timeout=timeout, mode=new_file_mode())
    with lock.acquire(poll_interval=0.01):
        yield


@contextmanager
def locked_in_run(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of a run's document. Raises FileNotFoundError if the run's folder is gone: the
    lock alone would make it again, and a run that was purged would come back empty."""
    Path(path).parent.stat()
    with locked(path):
        yield


def update_json(path: str | os.PathLike[str], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge *changes* into the document under its lock; return what it holds now.

    A damaged document is set aside first: see :func:`load_for_change`.
    """
    with locked(path):
        data = {**(load_for_change(path) or {}), **changes}
        write_json(path, data)
    return data


# -- soft delete -------------------------------------------------------------------------------


def write_deleted_marker(
    run_dir: Path, *, reason: str, at: float, by: str | None = None
) -> dict[str, Any]:
    """Mark the run as deleted; *by* names who did it, where there are several people."""
    status = read_json(run_dir / STATUS).get("status")
    marker: dict[str, Any] = {
        "deleted_at": at,
        "reason": reason,
        "original_status": status if isinstance(status, str) and status else "unknown",
    }
    if by is not None:
        marker["deleted_by"] = by
    write_json(run_dir / DELETED, marker)
    return marker


def remove_deleted_marker(run_dir: Path) -> None:
    (run_dir / DELETED).unlink(missing_ok=True)


# -- where things are --------------------------------------------------------------------------


def user_config_dir() -> Path:
    """The folder of ``config.json`` and ``rate_limits.json``; not created here."""
    try:
        if sys.platform == "win32":
            return (
                Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "Runicorn"
            )
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "Runicorn"
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "runicorn"
    except RuntimeError:  # no home directory
        return Path("~/.runicorn_config").expanduser()


def storage_root(explicit: str | os.PathLike[str] | None = None) -> Path:
    """The storage root: *explicit*, ``RUNICORN_DIR``, ``user_root_dir`` of the user's
    ``config.json``, then ``./.runicorn``; absolute, not created here."""
    chosen = explicit or os.environ.get("RUNICORN_DIR")
    if not chosen:
        configured = read_json(user_config_dir() / "config.json").get("user_root_dir")
        chosen = configured if isinstance(configured, str) else ""
    return Path(os.path.abspath(os.path.expanduser(chosen or ".runicorn")))


def is_regular_file(info: os.stat_result) -> bool:
    return stat.S_ISREG(info.st_mode)
