"""The two places on which ``runicorn artifacts`` acts: a storage folder, or a server."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import quote, urlencode

from .. import layout
from ._common import client

if TYPE_CHECKING:
    from ..api import RunicornClient
    from ..artifacts import Artifact

Shown: TypeAlias = dict[str, Any]


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Store]:
    """Open the place that ``--storage`` or ``--server`` names."""
    if not args.server:
        yield Folder(args.storage, args.type)
        return
    with client(args) as connected:
        yield Server(connected, args.type)


class Store(Protocol):
    """A place with artifacts. Raises OSError, ValueError or an error of ``runicorn.api``.

    The answers have the members of the REST API's. ``delete`` returns the bytes that it freed, or
    None if there was nothing to remove.
    """

    def artifacts(self) -> list[Shown]: ...
    def versions(self, name: str) -> list[Shown]: ...
    def info(self, name: str, number: int) -> Shown: ...
    def delete(self, name: str, number: int, *, permanent: bool) -> int | None: ...
    def stats(self) -> Shown: ...
    def set_alias(self, name: str, alias: str, version: str) -> int: ...
    def remove_alias(self, name: str, alias: str) -> bool: ...
    def tag(self, name: str, version: str, tags: list[str]) -> int: ...
    def restore(self, name: str, version: str) -> int: ...
    def numbers(self, name: str | None, version: str | None) -> list[tuple[str, str, int]]: ...
    def verify(self, name: str, kind: str, number: int) -> list[tuple[str, str]]: ...
    def collect_garbage(self) -> tuple[int, int]: ...
    def download(self, name: str, version: str, folder: str) -> str: ...


class Folder:
    def __init__(self, root: str | None, kind: str | None) -> None:
        from ..artifacts import ArtifactStorage

        self._storage, self._kind = ArtifactStorage(root), kind

    def _find(self, name: str, version: str) -> tuple[Any, int]:
        location = self._storage.find(name, self._kind)
        reference = f"v{version}" if version.isdecimal() else version
        return location, self._storage.resolve(location, reference)

    def artifacts(self) -> list[Shown]:
        places = self._storage.locations(self._kind)
        artifacts = [
            {
                "name": place.name,
                "type": place.type,
                "num_versions": len(index.versions),
                "latest_version": index.versions[-1].version,
                "size_bytes": index.versions[-1].size_bytes,
                "updated_at": index.updated_at,
            }
            for place in places
            if (index := self._storage.index(place)).versions
        ]
        return sorted(artifacts, key=lambda artifact: -artifact["updated_at"])

    def versions(self, name: str) -> list[Shown]:
        location = self._storage.find(name, self._kind)
        return [asdict(info) for info in self._storage.index(location).versions]

    def info(self, name: str, number: int) -> Shown:
        location = self._storage.find(name, self._kind)
        metadata = self._storage.describe(location, number)
        aliases = self._storage.aliases(location).items()
        is_deleted = (location.version(number) / layout.DELETED).exists()
        return {
            **asdict(metadata),
            "status": "deleted" if is_deleted else metadata.status,
            "aliases": sorted(alias for alias, named in aliases if named == number),
            "files": [asdict(file) for file in self._storage.manifest(location, number).files],
        }

    def delete(self, name: str, number: int, *, permanent: bool) -> int | None:
        location = self._storage.find(name, self._kind)
        if not permanent:
            self._storage.soft_delete(location, number)
            return 0
        purged = self._storage.purge([(location, number)])
        return purged.bytes if purged.count else None

    def stats(self) -> Shown:
        by_type: dict[str, dict[str, int]] = {}
        files = 0
        for location in self._storage.locations():
            if versions := self._storage.index(location).versions:
                empty = {"count": 0, "versions": 0, "size_bytes": 0}
                totals = by_type.setdefault(location.type, empty)
                totals["count"] += 1
                totals["versions"] += len(versions)
                totals["size_bytes"] += sum(info.size_bytes for info in versions)
                files += sum(info.num_files for info in versions)
        size = sum(totals["size_bytes"] for totals in by_type.values())
        pool = sum(info.st_size for _, info in self._storage.blobs.contents())
        saved = max(0, size - pool)
        return {
            "total_artifacts": sum(totals["count"] for totals in by_type.values()),
            "total_versions": sum(totals["versions"] for totals in by_type.values()),
            "total_size_bytes": size,
            "total_files": files,
            "by_type": by_type,
            "dedup_pool_size_bytes": pool,
            "space_saved_bytes": saved,
            "dedup_ratio": saved / size if size else 0.0,
        }

    def set_alias(self, name: str, alias: str, version: str) -> int:
        location, number = self._find(name, version)
        self._storage.set_alias(location, alias, number)
        return number

    def remove_alias(self, name: str, alias: str) -> bool:
        return self._storage.remove_alias(self._storage.find(name, self._kind), alias)

    def tag(self, name: str, version: str, tags: list[str]) -> int:
        location, number = self._find(name, version)
        self._storage.edit(location, number, {"tags": tags}, by="user")
        return number

    def restore(self, name: str, version: str) -> int:
        location, number = self._find(name, version)
        self._storage.restore(location, number)
        return number

    def numbers(self, name: str | None, version: str | None) -> list[tuple[str, str, int]]:
        if name is None:
            locations = list(self._storage.locations(self._kind))
        else:
            locations = [self._storage.find(name, self._kind)]
        return [
            (location.name, location.type, number)
            for location in locations
            for number in (
                location.numbers() if version is None else [self._find(location.name, version)[1]]
            )
        ]

    def verify(self, name: str, kind: str, number: int) -> list[tuple[str, str]]:
        problems = self._storage.verify(self._storage.find(name, kind), number)
        return [(problem.path, problem.problem) for problem in problems]

    def collect_garbage(self) -> tuple[int, int]:
        collected = self._storage.collect_garbage()
        return collected.count, collected.bytes

    def download(self, name: str, version: str, folder: str) -> str:
        from ..artifacts import Artifact

        location, number = self._find(name, version)
        artifact = Artifact(name, location.type)
        artifact._load(self._storage, location, number)
        return str(artifact.download(folder))


class Server:
    def __init__(self, client: RunicornClient, kind: str | None) -> None:
        self._client, self._kind = client, kind

    def _address(self, *parts: str, kind: str | None = None) -> str:
        path = "/".join(quote(part, safe="") for part in ("artifacts", *parts))
        kind = kind or self._kind
        return f"/api/{path}" + (f"?{urlencode({'type': kind})}" if kind else "")

    def _number(self, name: str, version: str) -> int:
        return int(self._client.artifacts.get_artifact(f"{name}:{version}")["version"])

    def artifacts(self) -> list[Shown]:
        return self._client.artifacts.list_artifacts(type=self._kind)

    def versions(self, name: str) -> list[Shown]:
        found: list[Shown] = self._client.get(self._address(name, "versions"))
        return found

    def info(self, name: str, number: int) -> Shown:
        files = self._client.get(self._address(name, f"v{number}", "files"))["files"]
        return {**self._client.get(self._address(name, f"v{number}")), "files": files}

    def delete(self, name: str, number: int, *, permanent: bool) -> int | None:
        address = self._address(name, f"v{number}")
        if permanent:
            address += f"{'&' if '?' in address else '?'}permanent=true"
        return int(self._client.delete(address).get("freed_bytes", 0))

    def stats(self) -> Shown:
        return self._client.artifacts.get_stats()

    def set_alias(self, name: str, alias: str, version: str) -> int:
        number = self._number(name, version)
        self._client.put(self._address(name, "aliases", alias), {"version": number})
        return number

    def remove_alias(self, name: str, alias: str) -> bool:
        from ..api import NotFoundError

        try:
            self._client.delete(self._address(name, "aliases", alias))
        except NotFoundError as error:
            if "Alias" not in str(error.detail):
                raise
            return False
        return True

    def tag(self, name: str, version: str, tags: list[str]) -> int:
        number = self._number(name, version)
        self._client.artifacts.edit(f"{name}:{number}", tags=tags)
        return number

    def restore(self, name: str, version: str) -> int:
        number = self._number(name, version)
        self._client.post(self._address(name, f"v{number}", "restore"))
        return number

    def numbers(self, name: str | None, version: str | None) -> list[tuple[str, str, int]]:
        found = self._client.artifacts.list_artifacts(type=self._kind)
        if name is not None and not any(item["name"] == name for item in found):
            raise FileNotFoundError(f"Artifact not found: {name}")
        return [
            (item["name"], item["type"], entry["version"])
            for item in found
            if name in (None, item["name"])
            for entry in self._client.get(
                self._address(item["name"], "versions", kind=item["type"])
            )
            if version is None or entry["version"] == self._number(item["name"], version)
        ]

    def verify(self, name: str, kind: str, number: int) -> list[tuple[str, str]]:
        said = self._client.post(self._address(name, f"v{number}", "verify", kind=kind))
        return [(problem["path"], problem["problem"]) for problem in said["problems"]]

    def collect_garbage(self) -> tuple[int, int]:
        said = self._client.post("/api/artifacts/gc")
        return said["contents"], said["freed_bytes"]

    def download(self, name: str, version: str, folder: str) -> str:
        return self._client.artifacts.download_artifact(f"{name}:{version}", folder, progress=True)

    def upload(self, artifact: Artifact, chunked: bool) -> int:
        made = self._client.artifacts.upload(artifact, progress=True, chunked=chunked)
        return int(made["version"])
