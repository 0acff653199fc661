"""Read the files below a folder without following links.

Others than the reader may write to a run's folder: a training on a shared disk, an archive, another
host. A link there could lead to every file that the reader may read, and out with the next export.
Here each step of a path is opened from the folder before it, so that a link is refused even if it
takes a folder's place in between. The folder that a reader starts from may be a link: a root or a
project on a larger disk is.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, BinaryIO

from . import layout

_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: int = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_PASSED: int = getattr(os, "O_PATH", 0) | _FOLDER
"""A folder on the way needs to be searched, not to be listed."""

_FILE: int = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_CAN_WALK = bool(_NO_LINK) and os.open in os.supports_dir_fd and os.scandir in os.supports_fd

_Path = str | os.PathLike[str]


def open_inside(root: _Path, relative: str) -> BinaryIO:
    """Open the regular file *relative*, with ``/`` between its parts, below *root* for reading.

    Raises OSError: FileNotFoundError for a missing file, another one for a link on the way, for
    anything that is not a regular file, and for a path that is not one inside *root*.
    """
    descriptor = _open(root, _parts(relative), _FILE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", relative)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_inside(root: _Path, relative: str) -> bytes:
    """Return the content of the file that ``open_inside`` opens."""
    with open_inside(root, relative) as file:
        return file.read()


def read_json_inside(root: _Path, relative: str) -> dict[str, Any]:
    """Return the object in the file, or an empty one where ``layout.read_json`` does, or a link."""
    try:
        return layout.parse_json(read_inside(root, relative)) or {}
    except OSError:
        return {}


def load_json_inside(root: _Path, relative: str) -> dict[str, Any] | None:
    """Return the object in the file, None if there is no file.

    Raises layout.DamagedDocument, and OSError as ``open_inside`` does.
    """
    try:
        content = read_inside(root, relative)
    except FileNotFoundError:
        return None
    return layout.object_in(content, os.path.join(root, relative))


def scan_inside(root: _Path, relative: str = "") -> list[tuple[str, os.stat_result]]:
    """List the folder *relative* below *root*: each name, and the status of itself if it is a link.

    Entries that vanish meanwhile are left out. Raises OSError as ``open_inside`` does.
    """
    parts = _parts(relative) if relative else []
    if not _CAN_WALK:
        return _scan(_checked(root, parts))
    folder = _open(root, parts, _FOLDER)
    try:
        return _scan(folder)
    finally:
        os.close(folder)


def stat_inside(root: _Path, relative: str) -> os.stat_result:
    """Return the status of *relative* below *root*: of itself if it is a link.

    Raises OSError as ``open_inside`` does.
    """
    *above, name = _parts(relative)
    if not _CAN_WALK:
        return os.lstat(os.path.join(_checked(root, above), name))
    folder = _open(root, above, _PASSED)
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(folder)


def is_missing(error: OSError) -> bool:
    """Return whether *error* says that there is no regular file: none at all, or a link."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO)


def _scan(folder: int | str) -> list[tuple[str, os.stat_result]]:
    listed = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                listed.append((entry.name, entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
    return listed


def _parts(relative: str) -> list[str]:
    parts = relative.split("/")
    if "\0" in relative or any(part in ("", ".", "..") for part in parts):
        raise OSError(errno.EINVAL, "Not a path inside the folder", relative)
    if os.name == "nt" and ("\\" in relative or ":" in relative):
        raise OSError(errno.EINVAL, "Not a path inside the folder", relative)
    return parts


def _open(root: _Path, parts: list[str], flags: int) -> int:
    """Open the last of *parts* with *flags*, each one from the folder before it."""
    if not _CAN_WALK:
        return os.open(_checked(root, parts), flags)
    if len(parts) == 1:  # only the last step may not be a link: one call will do
        return os.open(os.path.join(root, parts[0]), flags | _NO_LINK)
    folder = os.open(root, _PASSED if parts else flags)
    for place, part in enumerate(parts, 1):
        above = folder
        try:
            folder = os.open(
                part, (flags if place == len(parts) else _PASSED) | _NO_LINK, dir_fd=above
            )
        finally:
            os.close(above)
    return folder


def _checked(root: _Path, parts: list[str]) -> str:
    """Return the path, where folders cannot be opened; raise OSError if a part is a link by now.

    A link that takes a folder's place between this look and the next step is followed there.
    """
    path = os.fspath(root)
    for part in parts:
        path = os.path.join(path, part)
        info = os.lstat(path)
        is_junction = bool(getattr(info, "st_reparse_tag", 0))  # Windows
        if stat.S_ISLNK(info.st_mode) or is_junction:
            raise OSError(errno.ELOOP, "A link is not followed", path)
    return path
