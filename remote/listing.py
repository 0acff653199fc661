"""What lies below a root on a host, by listing its folders over SFTP.

The host is not trusted: names are taken that are one component of a path here, of files, folders
and links only the first two, and no more of a folder than a person could look at. A project or an
experiment may be a link, as in v0.4, if it leads to somewhere in the root.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import NamedTuple, cast

import asyncssh

from runicorn import layout

from .fetching import LOST, Source, gather, patient

DEPTH = 6
MOST_ENTRIES = 10_000
"""More in one folder are passed over."""

AT_ONCE = 32

Report = Callable[[str], None]


class Found(NamedTuple):
    name: str
    """In a listing of a whole run: its path in it."""
    is_dir: bool
    size: int
    mtime: int
    is_link: bool = False


async def find_runs(source: Source, report: Report) -> list[str]:
    """Every run folder below the root, relative to it: the current layout and the legacy one."""
    projects = await _folders(source, "", report, links=True)
    kept = [project for project in projects if layout.is_project_name(project)]
    names = await _below(source, kept, report, links=True)
    parents = [f"{name}/{layout.RUNS}" for name in names]
    if layout.RUNS in projects:
        parents.append(layout.RUNS)
    return await _below(source, parents, report, links=False)


async def _below(source: Source, parents: list[str], report: Report, links: bool) -> list[str]:
    """The folders in each of *parents*, many at once, in order."""
    found: dict[str, list[str]] = {}
    waiting = iter(parents)

    async def work() -> None:
        for parent in waiting:
            found[parent] = await _folders(source, parent, report, links)

    await gather(work() for _ in range(min(AT_ONCE, len(parents))))
    return [f"{parent}/{name}" for parent in parents for name in found[parent]]


async def _folders(source: Source, folder: str, report: Report, links: bool) -> list[str]:
    path = source.path(folder) if folder else source.root
    try:
        entries = await list_folder(source, path, report)
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure):
        return []
    names = []
    for entry in entries:
        if entry.name.startswith(".") or not (entry.is_dir or entry.is_link):
            continue
        if entry.is_link and not (links and await _is_inside(source, path, entry.name, report)):
            continue
        names.append(entry.name)
    return names


async def _is_inside(source: Source, folder: bytes, name: str, report: Report) -> bool:
    path = folder + b"/" + name.encode()
    try:
        real = await patient(source.sftp.realpath(path))
        if real.startswith(source.root + b"/"):
            return bool(stat.S_ISDIR((await patient(source.sftp.stat(path))).permissions or 0))
    except LOST:
        raise
    except asyncssh.SFTPError:  # it leads nowhere, or in a circle
        pass
    report(f"{path.decode()}: a link that does not lead to a folder in the root is not followed")
    return False


async def list_run(source: Source, run: str, report: Report, depth: int = DEPTH) -> list[Found]:
    """The files of a run, by their paths in it; *depth* 1 without its folders."""
    files: list[Found] = []

    async def look(prefix: str, depth: int) -> None:
        for entry in await list_folder(source, source.path(f"{run}/{prefix}".rstrip("/")), report):
            if entry.is_link:
                continue
            if not entry.is_dir:
                files.append(entry._replace(name=prefix + entry.name))
            elif depth > 1 and not entry.name.startswith("."):
                await look(f"{prefix}{entry.name}/", depth - 1)

    await look("", depth)
    return files


async def list_folder(source: Source, folder: bytes, report: Report) -> list[Found]:
    """The files, folders and links in *folder* that have a name that can be theirs here."""
    found: list[Found] = []
    scan = cast(AsyncGenerator[asyncssh.SFTPName, None], source.sftp.scandir(folder))
    async with aclosing(scan) as entries:
        while (entry := await patient(anext(entries, None))) is not None:
            if len(found) >= MOST_ENTRIES:
                report(f"{folder.decode()}: only the first {MOST_ENTRIES} entries are looked at")
                names = {one.name for one in found}
                found += await _look_up(source, folder, set(_KNOWN) - names)
                break
            name = plain_name(cast(bytes, entry.filename))
            if name is not None and (one := _found(name, entry.attrs)):
                found.append(one)
    return found


_KNOWN = (*layout.DOCUMENTS, *layout.STREAMS)


async def _look_up(source: Source, folder: bytes, names: Iterable[str]) -> list[Found]:
    """What a folder that is too full for a listing has of a run's own files."""

    async def one(name: str) -> Found | None:
        try:
            path = folder + b"/" + name.encode()
            return _found(name, await patient(source.sftp.lstat(path)))
        except LOST:
            raise
        except asyncssh.SFTPError:
            return None

    return [found for found in await gather(one(name) for name in names) if found]


def _found(name: str, attributes: asyncssh.SFTPAttrs) -> Found | None:
    mode = attributes.permissions or 0
    is_dir, is_link = stat.S_ISDIR(mode), stat.S_ISLNK(mode)
    if not (is_dir or is_link or stat.S_ISREG(mode)):
        return None
    return Found(name, is_dir, attributes.size or 0, int(attributes.mtime or 0), is_link)


def plain_name(name: bytes) -> str | None:
    """*name* as text if it can be one component of a path here, whatever the host meant by it."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    is_odd = (
        text in ("", ".", "..") or len(name) > 200 or any(c in "/\\\x7f" or c < " " for c in text)
    )
    return None if is_odd or (sys.platform == "win32" and ":" in text) else text
