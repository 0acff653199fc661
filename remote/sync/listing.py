"""What lies below a root on a host, folder by folder: as its ``find`` told, or over SFTP.

Of a run only files and folders are taken. A project or an experiment may be a link, as in v0.4, if
it leads to somewhere in the root.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import cast

import asyncssh

from runicorn import layout

from . import host_tree
from .host_tree import RUN_FILES, Entry, Tree, entry_of, plain_name
from .source import LOST, Source, gather, patient

DEPTH = 6
AT_ONCE = 32

Report = Callable[[str], None]


class Listing:
    """The folders of *source*: those that *tree* has as they are there, others as they are now."""

    def __init__(self, source: Source, report: Report, tree: Tree | None = None) -> None:
        self.source, self._report, self.tree = source, report, tree

    async def find_runs(self) -> list[str]:
        """Return every run folder below the root, relative to it: of the current layout and of the
        legacy one."""
        projects = await self._folders("", links=True)
        kept = [project for project in projects if layout.is_project_name(project)]
        names = await self._below(kept, links=True)
        parents = [f"{name}/{layout.RUNS}" for name in names]
        if layout.RUNS in projects:
            parents.append(layout.RUNS)
        return await self._below(parents, links=False)

    async def _below(self, parents: list[str], links: bool) -> list[str]:
        """Return the folders in each of *parents*, asking for many at once, in order."""
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

    async def run(self, run: str, depth: int = DEPTH) -> list[Entry]:
        """Return the files of a run, by their paths in it; *depth* 1 leaves its folders out."""
        files: list[Entry] = []

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

    async def folder(self, path: str) -> list[Entry]:
        """Return the files, folders and links in a folder whose names can be theirs here."""
        key = path.encode()
        if self.tree and (found := self.tree.folders.get(key)) is not None:
            if key in self.tree.crowds:
                self._report_crowd(path)
            return found
        return await self._scan(path)

    def _report_crowd(self, path: str) -> None:
        text = self.source.path(path).decode()
        self._report(f"{text}: only the first {host_tree.MOST_ENTRIES} entries are looked at")

    async def _scan(self, path: str) -> list[Entry]:
        folder = self.source.path(path) if path else self.source.root
        found: list[Entry] = []
        scan = cast(AsyncGenerator[asyncssh.SFTPName, None], self.source.sftp.scandir(folder))
        async with aclosing(scan) as entries:
            while (entry := await patient(anext(entries, None))) is not None:
                if len(found) >= host_tree.MOST_ENTRIES:
                    self._report_crowd(path)
                    names = {one.name for one in found}
                    found += await self._look_up(folder, set(RUN_FILES) - names)
                    break
                name = plain_name(cast(bytes, entry.filename))
                if name is not None and (one := entry_of(name, entry.attrs)):
                    found.append(one)
        return found

    async def _look_up(self, folder: bytes, names: Iterable[str]) -> list[Entry]:
        """Return a run's own files of a folder that is too full for a listing."""

        async def one(name: str) -> Entry | None:
            try:
                path = folder + b"/" + name.encode()
                return entry_of(name, await patient(self.source.sftp.lstat(path)))
            except LOST:
                raise
            except asyncssh.SFTPError:
                return None

        return [found for found in await gather(one(name) for name in names) if found]
