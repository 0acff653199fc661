"""``runicorn artifacts``: look at artifacts, name, check and remove their versions.

``--action`` is v0.4's way; what is new is said with verbs. Both act on the storage folder, where a
server that shows it notices, or on a server.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from . import artifact_verbs
from ._common import (
    Commands,
    add_command,
    add_json,
    add_server,
    add_storage,
    confirm,
    fail,
    print_json,
)
from .artifact_stores import Store, opened


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "artifacts",
        run,
        help="list, check, name and remove artifacts",
        description="List, check, name and remove the artifacts of a storage folder or a server.",
        examples=[
            "runicorn artifacts --action list --type model",
            "runicorn artifacts --action info --name resnet --version 3",
            "runicorn artifacts --action list --server http://127.0.0.1:23300 --json",
            "runicorn artifacts alias set resnet best v3",
            "runicorn artifacts tag resnet v3 paper final",
            "runicorn artifacts verify resnet --server http://127.0.0.1:23300",
            "runicorn artifacts gc",
        ],
    )
    add_storage(parser)
    add_server(parser)
    parser.add_argument("--action", choices=list(ACTIONS), help="as in v0.4")
    parser.add_argument("--name")
    parser.add_argument("--type", help="model, dataset, config, code, custom or another")
    parser.add_argument("--version", type=int)
    parser.add_argument("--permanent", action="store_true", help="delete: remove it for good")
    add_json(parser)
    parser.set_defaults(parser=parser)
    artifact_verbs.add(parser)


def run(args: argparse.Namespace) -> int:
    if args.action is None:
        args.parser.error("say what to do: a verb, or --action")
    needed, action = ACTIONS[args.action]
    if any(getattr(args, name) is None for name in needed):
        *others, last = (f"--{name}" for name in needed)
        flags = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        return fail(f"Error: {flags} required for '{args.action}' action")
    try:
        with opened(args) as store:
            return action(store, args)
    except (OSError, ValueError, TimeoutError) as error:
        return fail(f"Error: {error}")


def _list(store: Store, args: argparse.Namespace) -> int:
    artifacts = store.artifacts()
    if args.json:
        return print_json(artifacts)
    if not artifacts:
        print("No artifacts found.")
        return 0
    print(f"Found {len(artifacts)} artifact(s):\n")
    print(f"{'Name':<30} {'Type':<10} {'Versions':<10} {'Size':<15} {'Latest':<10}")
    print("-" * 85)
    for artifact in artifacts:
        size, latest = _mib(artifact, 10), f"v{artifact['latest_version']}"
        count = artifact["num_versions"]
        print(f"{artifact['name']:<30} {artifact['type']:<10} {count:<10} {size:<15} {latest:<10}")
    return 0


def _versions(store: Store, args: argparse.Namespace) -> int:
    versions = store.versions(args.name)
    if args.json:
        return print_json(versions)
    print(f"Versions for {args.name}:\n")
    print(f"{'Version':<10} {'Created':<25} {'Size':<15} {'Files':<8} Run")
    print("-" * 90)
    for version in versions:
        created, run_id = _moment(version["created_at"]), version["created_by_run"] or ""
        run_id = f"{run_id[:20]}..." if len(run_id) > 20 else run_id
        files = version["num_files"]
        print(f"v{version['version']:<9} {created:<25} {_mib(version, 10):<15} {files:<8} {run_id}")
    return 0


def _info(store: Store, args: argparse.Namespace) -> int:
    version = store.info(args.name, args.version)
    if args.json:
        return print_json(version)
    print(f"\nArtifact: {version['name']}:v{version['version']}")
    print("=" * 60)
    print(f"Type: {version['type']}")
    print(f"Status: {version['status']}")
    print(f"Created: {_moment(version['created_at'])}")
    print(f"Created by: {version['created_by_run']}")
    print(f"Size: {_mib(version)}")
    print(f"Files: {version['num_files']}")
    print(f"References: {version['num_references']}")
    for title, value in (
        ("Description", version["description"]),
        ("Aliases", ", ".join(version["aliases"])),
        ("Tags", ", ".join(version["tags"])),
    ):
        if value:
            print(f"{title}: {value}")
    if version["metadata"]:
        print("\nMetadata:")
        for key, value in version["metadata"].items():
            print(f"  {key}: {value}")
    if files := version["files"]:
        print(f"\nFiles ({len(files)}):")
        for file in files[:10]:
            print(f"  {file['path']} ({file['size'] / 1024:.1f} KB)")
        if len(files) > 10:
            print(f"  ... and {len(files) - 10} more files")
    return 0


def _delete(store: Store, args: argparse.Namespace) -> int:
    what = f"{args.name}:v{args.version}"
    store.info(args.name, args.version)  # which says if there is none
    if not confirm(f"Delete {what}?"):
        print("Cancelled.")
        return 0
    freed = store.delete(args.name, args.version, permanent=args.permanent)
    if freed is None:
        return fail(f"Failed to delete {what}")
    if not args.permanent:
        print(f"✅ Soft deleted {what}")
        return 0
    print(f"✅ Permanently deleted {what}")
    print(f"{freed / 2**20:.2f} MB freed")
    return 0


def _stats(store: Store, args: argparse.Namespace) -> int:
    stats = store.stats()
    if args.json:
        return print_json(stats)
    print("Artifact Storage Statistics")
    print("=" * 60)
    print(f"Total Artifacts: {stats['total_artifacts']}")
    print(f"Total Versions: {stats['total_versions']}")
    print(f"Total Files: {stats['total_files']}")
    print(f"Total Size: {_gib(stats['total_size_bytes'])}")
    print("\nDeduplication Stats:")
    print(f"  Pool Size: {_gib(stats['dedup_pool_size_bytes'])}")
    print(f"  Space Saved: {_gib(stats['space_saved_bytes'])}")
    print(f"  Dedup Ratio: {100 * stats['dedup_ratio']:.1f}%")
    if stats["by_type"]:
        print("\nBy Type:")
        for kind, of in sorted(stats["by_type"].items()):
            size = _gib(of["size_bytes"])
            print(f"  {kind}: {of['count']} artifacts, {of['versions']} versions, {size}")
    return 0


def _mib(item: dict[str, Any], width: int = 0) -> str:
    return f"{item['size_bytes'] / 2**20:{width}.2f} MB"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GB"


def _moment(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


Action = Callable[[Store, argparse.Namespace], int]
ACTIONS: dict[str, tuple[tuple[str, ...], Action]] = {
    "list": ((), _list),
    "versions": (("name",), _versions),
    "info": (("name", "version"), _info),
    "delete": (("name", "version"), _delete),
    "stats": ((), _stats),
}
"""The arguments and the function of each action."""
