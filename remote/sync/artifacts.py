"""Bring the artifacts of a host: their documents always, of their contents those missing here.

What a person did here to an artifact stays, until the same document changes there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from runicorn import layout
from runicorn.artifacts import ArtifactStorage, receiving
from runicorn.artifacts.folders import (
    ARTIFACTS,
    CHANGES,
    FILES,
    MANIFEST,
    METADATA,
    VERSIONS,
    Location,
)
from runicorn.artifacts.names import parse_digest
from runicorn.remote_storage import Download

from .host_tree import Entry
from .ledger import Claims
from .listing import Listing, Report
from .source import LOST

_DOCUMENTS = (METADATA, MANIFEST, CHANGES, layout.DELETED)
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")

Fetch = Callable[[Sequence[Download]], Awaitable[None]]


@dataclass
class ArtifactSync:
    """*fetch* completes downloads and reports those that fail; *whole*: contents too."""

    listing: Listing
    claims: Claims
    report: Report
    fetch: Fetch
    whole: bool

    def __post_init__(self) -> None:
        self.looked_at = 0
        """How many folders were listed."""
        self.store = ArtifactStorage(self.claims.root)
        self.partial = self.claims.root / layout.SERVER_DIR / "sync" / "contents"

    async def sync(self) -> None:
        for kind in await self._folders(ARTIFACTS):
            for name in await self._folders(f"{ARTIFACTS}/{kind}"):
                directory = f"{ARTIFACTS}/{kind}/{name}"
                try:
                    await self._sync_one(receiving.location_of(self.store, kind, name), directory)
                except LOST:
                    raise
                except (asyncssh.SFTPError, OSError, ValueError) as error:
                    self.report(f"{directory}: {error}")
        self.claims.save()

    async def _folders(self, path: str) -> list[str]:
        found = await self._list(path)
        return [one.name for one in found if one.is_dir and not one.name.startswith(".")]

    async def _list(self, path: str) -> list[Entry]:
        self.looked_at += 1
        try:
            return await self.listing.folder(path)
        except asyncssh.SFTPNoSuchFile:
            return []

    async def _sync_one(self, location: Location, directory: str) -> None:
        if not self.claims.owns(directory):
            if location.folder.exists():
                raise ValueError("is here already and did not come from there")
            self.claims.set(directory, here=False)
            self.claims.save()
        seen = self.claims.documents(directory)
        if self.claims.get(directory)["here"] and not location.folder.exists():
            return  # purged here
        entries = {one.name: one for one in await self._list(directory)}
        numbers = sorted(int(m[1]) for name in entries if (m := _VERSION.fullmatch(name)))
        failed = False
        for number in numbers:
            try:
                await self._sync_version(location, directory, number, seen)
            except LOST:
                raise
            except (asyncssh.SFTPError, OSError, ValueError) as error:
                failed = True
                self.report(f"{directory}/v{number}: {error}")
        index = entries.get(VERSIONS)
        if (
            index
            and not failed
            and location.folder.exists()
            and _fingerprint(index) != seen.get(VERSIONS)
        ):
            await asyncio.to_thread(
                receiving.set_index,
                self.store,
                location,
                await self._read(f"{directory}/{VERSIONS}", index),
            )
            seen[VERSIONS] = _fingerprint(index)
        self.claims.set(directory, here=location.folder.exists(), documents=seen)

    async def _sync_version(
        self, location: Location, directory: str, number: int, seen: dict[str, list[int]]
    ) -> None:
        folder = f"{directory}/v{number}"
        known = f"v{number}/{METADATA}" in seen
        is_here = (location.folder / f"v{number}").is_dir()
        if known and not is_here:
            return  # purged here
        listed = {one.name: one for one in await self._list(folder)}
        documents = {name: listed[name] for name in _DOCUMENTS if name in listed}
        if METADATA not in documents or MANIFEST not in documents:
            return  # being written there
        changed = {
            name: await self._read(f"{folder}/{name}", found)
            for name, found in documents.items()
            if seen.get(f"v{number}/{name}") != _fingerprint(found)
        }
        gone = [
            name
            for name in (CHANGES, layout.DELETED)
            if name not in documents and f"v{number}/{name}" in seen
        ]
        if is_here and known:
            if changed or gone:
                await asyncio.to_thread(
                    receiving.set_documents,
                    self.store,
                    location,
                    number,
                    {**changed, **dict.fromkeys(gone)},
                )
            if self.whole and not receiving.is_complete(location, number):
                await self.complete(location, number)
        elif not is_here:
            contents = None
            if self.whole:
                contents = await self._contents(folder, changed[MANIFEST])
            else:
                receiving.read_manifest(changed[MANIFEST])
            await asyncio.to_thread(
                receiving.add_version, self.store, location, number, changed, contents
            )
        seen |= {f"v{number}/{name}": _fingerprint(found) for name, found in documents.items()}
        for name in gone:
            del seen[f"v{number}/{name}"]

    async def complete(self, location: Location, number: int) -> None:
        """Fetch the files of a version whose documents are here."""
        manifest = (location.version(number) / MANIFEST).read_bytes()
        directory = location.folder.relative_to(self.claims.root).as_posix()
        contents = await self._contents(f"{directory}/v{number}", manifest)
        await asyncio.to_thread(
            receiving.add_version, self.store, location, number, {MANIFEST: manifest}, contents
        )

    async def _contents(self, folder: str, manifest: bytes) -> dict[str, Path]:
        """Fetch the contents missing here, verified. Raises OSError if one did not come."""
        files = receiving.missing_contents(self.store, receiving.read_manifest(manifest).files)
        contents = {digest: self.partial / digest for digest in files}
        downloads = [
            Download(
                f"{folder}/{FILES}/{file.path}",
                contents[digest],
                file.size,
                file.modified_at or 0,
                sha256=parse_digest(file.digest),
                is_resumed=True,
            )
            for digest, file in files.items()
        ]
        await self.fetch(downloads)
        for download in downloads:
            if not download.is_done:
                raise OSError(f"{download.source}: its content did not come")
        return contents

    async def _read(self, path: str, found: Entry) -> bytes:
        if found.size > receiving.LARGEST_DOCUMENT:
            raise ValueError(f"{path} is too large")
        return await self.listing.source.read(path, found.size)


def _fingerprint(found: Entry) -> list[int]:
    return [found.size, found.mtime]
