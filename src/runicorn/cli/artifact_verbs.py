"""``runicorn artifacts alias set …`` and its like, beyond v0.4: on a folder or on a server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from ._common import client, fail

if TYPE_CHECKING:
    from ..api import RunicornClient
    from ..artifacts import Artifact

MEBIBYTE = 2**20


class _Store(Protocol):
    """Where artifacts are kept. Raises OSError, ValueError or an error of ``runicorn.api``."""

    def set_alias(self, name: str, alias: str, version: str) -> int: ...
    def remove_alias(self, name: str, alias: str) -> bool: ...
    def tag(self, name: str, version: str, tags: list[str]) -> int: ...
    def restore(self, name: str, version: str) -> int: ...
    def versions(self, name: str | None, version: str | None) -> list[tuple[str, str, int]]: ...
    def verify(self, name: str, kind: str, number: int) -> list[tuple[str, str]]: ...
    def collect_garbage(self) -> tuple[int, int]: ...
    def download(self, name: str, version: str, folder: str) -> str: ...


class _Folder:
    def __init__(self, root: str | None, kind: str | None) -> None:
        from ..artifacts import ArtifactStorage

        self._storage, self._kind = ArtifactStorage(root), kind

    def _find(self, name: str, version: str) -> tuple[Any, int]:
        location = self._storage.find(name, self._kind)
        reference = f"v{version}" if version.isdecimal() else version
        return location, self._storage.resolve(location, reference)

    def set_alias(self, name: str, alias: str, version: str) -> int:
        location, number = self._find(name, version)
        self._storage.set_alias(location, alias, number)
        return number

    def remove_alias(self, name: str, alias: str) -> bool:
        return self._storage.remove_alias(self._storage.find(name, self._kind), alias)

    def tag(self, name: str, version: str, tags: list[str]) -> int:
        from ..artifacts.names import check_tags

        location, number = self._find(name, version)
        self._storage.edit(location, number, {"tags": check_tags(tags)}, by="user")
        return number

    def restore(self, name: str, version: str) -> int:
        location, number = self._find(name, version)
        self._storage.restore(location, number)
        return number

    def versions(self, name: str | None, version: str | None) -> list[tuple[str, str, int]]:
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


class _Server:
    def __init__(self, client: RunicornClient, kind: str | None) -> None:
        self._client, self._kind = client, kind

    def _address(self, *parts: str, kind: str | None = None) -> str:
        path = "/".join(quote(part, safe="") for part in ("artifacts", *parts))
        kind = kind or self._kind
        return f"/api/{path}" + (f"?{urlencode({'type': kind})}" if kind else "")

    def _number(self, name: str, version: str) -> int:
        return int(self._client.artifacts.get_artifact(f"{name}:{version}")["version"])

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

    def versions(self, name: str | None, version: str | None) -> list[tuple[str, str, int]]:
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


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs below ``runicorn artifacts``."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for option, what in (
        ("--storage", "storage folder"),
        ("--server", "act on this running server"),
        ("--token", "access token for --server"),
        ("--type", "model, dataset, config, code, custom or another"),
    ):
        common.add_argument(option, help=what)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    def verb(
        parent: Any,
        name: str,
        act: Callable[[_Store, argparse.Namespace], int],
        help: str,
        *args: str,
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = parent.add_parser(
            name, help=help, description=help, parents=[common]
        )
        for argument in args:
            made.add_argument(argument.lower(), metavar=argument)
        made.set_defaults(run=run, act=act)
        return made

    alias = verbs.add_parser("alias", help="set or remove an alias")
    aliases = alias.add_subparsers(metavar="set|remove", required=True)
    verb(aliases, "set", _set_alias, "let ALIAS name VERSION alone", "NAME", "ALIAS", "VERSION")
    verb(aliases, "remove", _remove_alias, "remove ALIAS; the version stays", "NAME", "ALIAS")
    tag = verb(verbs, "tag", _tag, "set all tags of a version", "NAME", "VERSION")
    tag.add_argument("tags", metavar="TAG", nargs="*", help="none: remove them all")
    verb(verbs, "restore", _restore, "bring a deleted version back", "NAME", "VERSION")
    verify = verb(verbs, "verify", _verify, "compare files with their digests; all by default")
    verify.add_argument("name", metavar="NAME", nargs="?")
    verify.add_argument("version", metavar="VERSION", nargs="?")
    verb(verbs, "gc", _gc, "remove contents that no version needs")
    upload = verb(verbs, "upload", _upload, "save files as the next version on --server", "NAME")
    upload.add_argument("paths", metavar="PATH", nargs="+", help="files and folders")
    upload.add_argument("--chunked", action="store_true", help="send only what differs in them")
    verb(verbs, "download", _download, "copy the files, verified", "NAME", "VERSION", "FOLDER")


def run(args: argparse.Namespace) -> int:
    try:
        if not args.server:
            return int(args.act(_Folder(args.storage, args.type), args))
        with client(args) as connected:
            return int(args.act(_Server(connected, args.type), args))
    except (OSError, ValueError, TimeoutError) as error:
        return fail(f"Error: {error}")


def _set_alias(store: _Store, args: argparse.Namespace) -> int:
    number = store.set_alias(args.name, args.alias, args.version)
    print(f"✅ {args.name}:{args.alias} is v{number}")
    return 0


def _remove_alias(store: _Store, args: argparse.Namespace) -> int:
    if not store.remove_alias(args.name, args.alias):
        return fail(f"Error: Alias not found: {args.alias}")
    print(f"✅ Removed alias {args.name}:{args.alias}")
    return 0


def _tag(store: _Store, args: argparse.Namespace) -> int:
    tags = [tag for words in args.tags for tag in words.split(",") if tag.strip()]
    number = store.tag(args.name, args.version, tags)
    print(f"✅ Tags of {args.name}:v{number}: {', '.join(tags) or 'none'}")
    return 0


def _restore(store: _Store, args: argparse.Namespace) -> int:
    print(f"✅ Restored {args.name}:v{store.restore(args.name, args.version)}")
    return 0


def _verify(store: _Store, args: argparse.Namespace) -> int:
    checked = damaged = 0
    for name, kind, number in store.versions(args.name, args.version):
        problems = store.verify(name, kind, number)
        checked += 1
        damaged += bool(problems)
        for path, problem in problems:
            print(f"✗ {name}:v{number}: {path}: {problem}")
    if damaged:
        return fail(f"{damaged} of {checked} version(s) are not as they were saved")
    print(f"✅ {checked} version(s) verified")
    return 0


def _gc(store: _Store, args: argparse.Namespace) -> int:
    count, freed = store.collect_garbage()
    print(f"✅ Removed {count} content(s), {freed / MEBIBYTE:.2f} MB freed")
    return 0


def _download(store: _Store, args: argparse.Namespace) -> int:
    folder = store.download(args.name, args.version, args.folder)
    print(f"✅ {args.name}:{args.version} is in {folder}")
    return 0


def _upload(store: _Store, args: argparse.Namespace) -> int:
    if not isinstance(store, _Server):
        return fail("Error: --server is required for 'upload'")
    print(f"✅ Uploaded {args.name}:v{store.upload(_artifact(args), args.chunked)}")
    return 0


def _artifact(args: argparse.Namespace) -> Artifact:
    from pathlib import Path

    from ..artifacts import Artifact

    artifact = Artifact(args.name, args.type or "model")
    for path in args.paths:
        (artifact.add_dir if Path(path).is_dir() else artifact.add_file)(path)
    return artifact
