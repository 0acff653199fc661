"""``runicorn artifacts alias set …`` and its like, beyond v0.4: on a folder or on a server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._common import add_token, fail
from .artifact_stores import Server, Store, opened

if TYPE_CHECKING:
    from ..artifacts import Artifact

MEBIBYTE = 2**20


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs below ``runicorn artifacts``."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for option, what in (
        ("--storage", "storage folder"),
        ("--server", "act on this running server"),
        ("--type", "model, dataset, config, code, custom or another"),
    ):
        common.add_argument(option, help=what)
    add_token(common)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    def verb(
        parent: Any,
        name: str,
        act: Callable[[Store, argparse.Namespace], int],
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
        with opened(args) as store:
            return int(args.act(store, args))
    except (OSError, ValueError, TimeoutError) as error:
        return fail(f"Error: {error}")


def _set_alias(store: Store, args: argparse.Namespace) -> int:
    number = store.set_alias(args.name, args.alias, args.version)
    print(f"✅ {args.name}:{args.alias} is v{number}")
    return 0


def _remove_alias(store: Store, args: argparse.Namespace) -> int:
    if not store.remove_alias(args.name, args.alias):
        return fail(f"Error: Alias not found: {args.alias}")
    print(f"✅ Removed alias {args.name}:{args.alias}")
    return 0


def _tag(store: Store, args: argparse.Namespace) -> int:
    tags = [tag for words in args.tags for tag in words.split(",") if tag.strip()]
    number = store.tag(args.name, args.version, tags)
    print(f"✅ Tags of {args.name}:v{number}: {', '.join(tags) or 'none'}")
    return 0


def _restore(store: Store, args: argparse.Namespace) -> int:
    print(f"✅ Restored {args.name}:v{store.restore(args.name, args.version)}")
    return 0


def _verify(store: Store, args: argparse.Namespace) -> int:
    checked = damaged = 0
    for name, kind, number in store.numbers(args.name, args.version):
        problems = store.verify(name, kind, number)
        checked += 1
        damaged += bool(problems)
        for path, problem in problems:
            print(f"✗ {name}:v{number}: {path}: {problem}")
    if damaged:
        return fail(f"{damaged} of {checked} version(s) are not as they were saved")
    print(f"✅ {checked} version(s) verified")
    return 0


def _gc(store: Store, args: argparse.Namespace) -> int:
    count, freed = store.collect_garbage()
    print(f"✅ Removed {count} content(s), {freed / MEBIBYTE:.2f} MB freed")
    return 0


def _download(store: Store, args: argparse.Namespace) -> int:
    folder = store.download(args.name, args.version, args.folder)
    print(f"✅ {args.name}:{args.version} is in {folder}")
    return 0


def _upload(store: Store, args: argparse.Namespace) -> int:
    if not isinstance(store, Server):
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
