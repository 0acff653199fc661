"""Artifacts of the remote storage: contents fetched when asked for, names changed on the host."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.folders import FILES, Location
from runicorn.artifacts.names import check_alias
from runicorn.artifacts.validation import check_tags

from ..exceptions import PathNotFound, RemoteError
from ..ssh import environments
from ..sync import registry
from . import on_demand

MOST = 100
"""Ended downloads that are remembered."""

_FOLDER = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*(/[^./\\\x00-\x1f][^/\\\x00-\x1f]*)*")
_RESERVED = ("artifacts", "runs")

_CHANGE = """\
import json, os
asked = json.loads({asked!r})
from runicorn.artifacts import ArtifactStorage
store = ArtifactStorage(os.path.expanduser(asked["root"]))
try:
    location = store.find(asked["name"], asked["type"])
    if "alias" in asked:
        store.set_alias(location, asked["alias"], asked["number"])
    else:
        tags = store.metadata(location, asked["number"]).tags
        more = [tag for tag in asked["tags"] if tag not in tags]
        store.edit(location, asked["number"], {{"tags": tags + more}}, by="user")
    print(json.dumps({{"ok": True}}))
except (OSError, ValueError) as error:
    print(json.dumps({{"error": str(error)}}))
"""
"""For a Python on the host that has our package: under the same locks as everything there."""


class Refused(RemoteError):
    status = 400


@dataclass
class Download:
    """The contents of one version on their way; everything here runs on the loop of ``loop``."""

    one: registry.Sync
    location: Location
    number: int
    target: Path
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "running"
    """Then ``completed``, ``failed`` or ``cancelled``."""
    error: str | None = None

    def __post_init__(self) -> None:
        self._store = ArtifactStorage(self.one.local_root)
        self.entries = self._store.manifest(self.location, self.number).files
        self._task = asyncio.create_task(self._run(), name=f"download {self.id}")

    async def _run(self) -> None:
        try:
            directory = self.location.folder.relative_to(self.one.local_root).as_posix()
            if not self._files.is_dir():
                await self.one.complete(directory, self.number)
            problems = await asyncio.to_thread(self._store.verify, self.location, self.number)
            if problems:
                raise OSError(f"{problems[0].path} is {problems[0].problem}; try again")
            if self.target != self._files:
                await asyncio.to_thread(self._copy)
            self.status = "completed"
        except asyncio.CancelledError:
            self.status = "cancelled"
        except (RemoteError, OSError, ValueError) as error:
            self.status, self.error = "failed", str(error)

    @property
    def _files(self) -> Path:
        return self.location.version(self.number) / FILES

    def _copy(self) -> None:
        for entry in self.entries:
            path = self.target / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.resolve().is_relative_to(self.one.local_root.resolve()):
                raise OSError(f"{path} leads out of the storage folder")
            shutil.copyfile(self._files / entry.path, path, follow_symlinks=False)

    async def cancel(self) -> bool:
        """Cancel the download, and return whether it was running."""
        is_running = self.status == "running"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if is_running and self.status == "running":  # it had not begun
            self.status = "cancelled"
        return is_running

    def describe(self) -> dict[str, Any]:
        total = sum(entry.size for entry in self.entries)
        is_done = self.status == "completed"
        before = self.one.progress.describe()
        bytes_done = total if is_done else min(total, before["received_bytes"])
        return {
            "task_id": self.id,
            "artifact_name": self.location.name,
            "artifact_type": self.location.type,
            "artifact_version": self.number,
            "target_dir": str(self.target),
            "total_files": len(self.entries),
            "downloaded_files": len(self.entries) if is_done else 0,
            "total_bytes": total,
            "downloaded_bytes": bytes_done,
            "progress_percent": 100.0 if is_done or not total else 100 * bytes_done / total,
            "status": self.status,
            "error": self.error,
        }


_downloads: OrderedDict[str, Download] = OrderedDict()


def downloads() -> list[Download]:
    return list(_downloads.values())


def get(identifier: str) -> Download:
    on_demand.needed()
    if identifier not in _downloads:
        raise PathNotFound(f"Download task not found: {identifier}")
    return _downloads[identifier]


async def start(name: str, number: int, kind: str | None, target: str | None) -> Download:
    """Fetch the contents of a version, into *target* (relative to the storage root) too."""
    one = on_demand.needed()
    location = _find(one, name, number, kind)
    folder = location.version(number) / FILES
    if target is not None:
        if not _FOLDER.fullmatch(target) or target.split("/")[0] in _RESERVED:
            raise Refused(
                "Invalid target directory: name a folder of its own below the storage folder"
            )
        folder = one.local_root / target
    download = Download(one, location, number, folder)
    _downloads[download.id] = download
    ended = [key for key, d in _downloads.items() if d.status != "running"]
    for key in ended[:-MOST]:
        del _downloads[key]
    return download


async def cancel(identifier: str) -> None:
    on_demand.needed()
    download = _downloads.get(identifier)
    if download is None or not await download.cancel():
        raise PathNotFound("Task not found or already completed")


def _find(one: registry.Sync, name: str, number: int, kind: str | None) -> Location:
    text = f"Artifact not found in cache: {name}. Please sync metadata first."
    try:
        location = ArtifactStorage(one.local_root).find(name, kind)
        location.version(number)
    except (OSError, ValueError) as error:
        raise PathNotFound(text) from error
    if not one.claims.owns(location.folder.relative_to(one.local_root).as_posix()):
        raise PathNotFound(text)
    return location


# -- changing what is there --------------------------------------------------------------------


async def set_alias(name: str, number: int, kind: str | None, alias: str) -> None:
    """Let *alias* name the version, on the host; the next sync brings it here."""
    try:
        check_alias(alias)
    except ValueError as error:
        raise Refused(str(error)) from error
    await _change(name, number, kind, {"alias": alias})


async def add_tags(name: str, number: int, kind: str | None, tags: list[str]) -> None:
    try:
        check_tags(tags)
    except ValueError as error:
        raise Refused(str(error)) from error
    await _change(name, number, kind, {"tags": tags})


async def _change(name: str, number: int, kind: str | None, what: dict[str, Any]) -> None:
    one = on_demand.needed()
    try:
        location = _find(one, name, number, kind)
    except PathNotFound as error:
        raise Refused(f"Artifact type not found for: {name}") from error
    there = await environments.survey(one.connection)
    known = [env for env in there if env.runicorn_version]
    chosen = environments.find(known or there, None)
    if chosen.runicorn_version is None:
        raise environments.Missing("Changing artifacts there needs runicorn on the host")
    asked = {"root": one.remote_root, "name": location.name, "type": location.type}
    script = _CHANGE.format(asked=json.dumps({**asked, "number": number, **what}))
    answer = environments.answer_in(
        await environments.execute(one.connection, f"cd / && exec '{chosen.path}' -", script)
    )
    if answer.get("ok") is not True:
        raise RemoteError(str(answer.get("error") or "The host did not say what became of it"))
    one.sync_now()
