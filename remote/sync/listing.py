"""What lies below a root on a host, by its folders: as its ``find`` told (``trees``), or over SFTP.

The host is not trusted: names are taken that are one component of a path here, of files, folders
and links only the first two, and no more of a folder than a person could look at. A project or an
experiment may be a link, as in v0.4, if it leads to somewhere in the root.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, cast

import asyncssh

from runicorn import layout

from .transfer import LOST, Source, gather, patient

if TYPE_CHECKING:
    from .find_listing import Tree

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


KNOWN = (*layout.DOCUMENTS, *layout.STREAMS)


class Listing:
    """The folders of *source*: those that *tree* has as they are there, others as they are now."""

    def __init__(self, source: Source, report: Report, tree: Tree | None = None) -> None:
        self.source, self._report, self.tree = source, report, tree

    async def find_runs(self) -> list[str]:
        """Every run folder below the root, relative to it: the current layout and the legacy
        one."""
        projects = await self._folders("", links=True)
        kept = [project for project in projects if layout.is_project_name(project)]
        names = await self._below(kept, links=True)
        parents = [f"{name}/{layout.RUNS}" for name in names]
        if layout.RUNS in projects:
            parents.append(layout.RUNS)
        return await self._below(parents, links=False)

    async def _below(self, parents: list[str], links: bool) -> list[str]:
        """The folders in each of *parents*, many at once, in order."""
        found: dict[str, list[str]] = {}
        waiting = iter(parents)

        async def work() -> None:
            for parent in waiting:
                found[parent] = await self._folders(parent, links)

        await gather(work() for _ in range(min(AT_ONCE, len(parents))))
        return [f"{parent}/{name}" for parent in parents for name in found[parent]]

    async def _folders(self, folder: str, links: bool) -> list[str]:
        try:
            entries = await self.folder(folder)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure):
            return []
        names = []
        for entry in entries:
            if entry.name.startswith(".") or not (entry.is_dir or entry.is_link):
                continue
            if entry.is_link and not (links and await self._is_inside(folder, entry.name)):
                continue
            names.append(entry.name)
        return names

    async def _is_inside(self, folder: str, name: str) -> bool:
        source = self.source
        path = source.path(f"{folder}/{name}" if folder else name)
        try:
            real = await patient(source.sftp.realpath(path))
            if real.startswith(source.root + b"/"):
                attributes = await patient(source.sftp.stat(path))
                return bool(stat.S_ISDIR(attributes.permissions or 0))
        except LOST:
            raise
        except asyncssh.SFTPError:  # it leads nowhere, or in a circle
            pass
        text = path.decode()
        self._report(f"{text}: a link that does not lead to a folder in the root is not followed")
        return False

    async def run(self, run: str, depth: int = DEPTH) -> list[Found]:
        """The files of a run, by their paths in it; *depth* 1 without its folders."""
        files: list[Found] = []

        async def look(prefix: str, depth: int) -> None:
            for entry in await self.folder(f"{run}/{prefix}".rstrip("/")):
                if entry.is_link:
                    continue
                if not entry.is_dir:
                    files.append(entry._replace(name=prefix + entry.name))
                elif depth > 1 and not entry.name.startswith("."):
                    await look(f"{prefix}{entry.name}/", depth - 1)

        await look("", depth)
        return files

    async def folder(self, path: str) -> list[Found]:
        """The files, folders and links in it that have a name that can be theirs here."""
        key = path.encode()
        if self.tree and (found := self.tree.folders.get(key)) is not None:
            if key in self.tree.crowds:
                self._tell_crowd(path)
            return found
        return await self._scan(path)

    def _tell_crowd(self, path: str) -> None:
        text = self.source.path(path).decode()
        self._report(f"{text}: only the first {MOST_ENTRIES} entries are looked at")

    async def _scan(self, path: str) -> list[Found]:
        folder = self.source.path(path) if path else self.source.root
        found: list[Found] = []
        scan = cast(AsyncGenerator[asyncssh.SFTPName, None], self.source.sftp.scandir(folder))
        async with aclosing(scan) as entries:
            while (entry := await patient(anext(entries, None))) is not None:
                if len(found) >= MOST_ENTRIES:
                    self._tell_crowd(path)
                    names = {one.name for one in found}
                    found += await self._look_up(folder, set(KNOWN) - names)
                    break
                name = plain_name(cast(bytes, entry.filename))
                if name is not None and (one := _found(name, entry.attrs)):
                    found.append(one)
        return found

    async def _look_up(self, folder: bytes, names: Iterable[str]) -> list[Found]:
        """What a folder that is too full for a listing has of a run's own files."""

        async def one(name: str) -> Found | None:
            try:
                path = folder + b"/" + name.encode()
                return _found(name, await patient(self.source.sftp.lstat(path)))
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
    return text if layout.is_plain_name(text) else None
