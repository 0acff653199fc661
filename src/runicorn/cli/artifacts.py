"""``runicorn artifacts``: look at artifacts, name, check and remove their versions.

``--action`` is v0.4's way and works on the storage folder; a server that shows it notices. What is
new is said with verbs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import artifact_verbs
from ._common import Commands, add_command, add_server, add_storage, confirm, fail

if TYPE_CHECKING:
    from ..artifacts import ArtifactStorage
    from ..artifacts.folders import Location


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "artifacts",
        run,
        help="list, check, name and remove artifacts",
        description="List, check, name and remove the artifacts of a storage folder.",
        examples=[
            "runicorn artifacts --action list --type model",
            "runicorn artifacts --action info --name resnet --version 3",
            "runicorn artifacts alias set resnet best v3",
            "runicorn artifacts tag resnet v3 paper final",
            "runicorn artifacts verify resnet --server http://127.0.0.1:23300",
            "runicorn artifacts gc",
        ],
    )
    add_storage(parser)
    add_server(parser)
    parser.add_argument("--action", choices=list(ACTIONS), help="on a storage folder, as in v0.4")
    parser.add_argument("--name")
    parser.add_argument("--type", help="model, dataset, config, code, custom or another")
    parser.add_argument("--version", type=int)
    parser.add_argument("--permanent", action="store_true", help="delete: remove it for good")
    parser.set_defaults(parser=parser)
    artifact_verbs.add(parser)


def run(args: argparse.Namespace) -> int:
    from ..artifacts import ArtifactStorage

    if args.action is None:
        args.parser.error("say what to do: a verb, or --action")
    if args.server:
        return fail("Error: --action acts on a storage folder; with --server use a verb")
    needed, action = ACTIONS[args.action]
    if any(getattr(args, name) is None for name in needed):
        *others, last = (f"--{name}" for name in needed)
        flags = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        return fail(f"Error: {flags} required for '{args.action}' action")
    try:
        return action(ArtifactStorage(args.storage), args)
    except (OSError, ValueError, TimeoutError) as error:
        return fail(f"Error: {error}")


def _list(storage: ArtifactStorage, args: argparse.Namespace) -> int:
    rows = []
    for location in storage.locations(args.type):
        index = storage.index(location)
        if index.versions:
            last = index.versions[-1]
            rows.append((index.updated_at, location, len(index.versions), last))
    if not rows:
        print("No artifacts found.")
        return 0
    print(f"Found {len(rows)} artifact(s):\n")
    print(f"{'Name':<30} {'Type':<10} {'Versions':<10} {'Size':<15} {'Latest':<10}")
    print("-" * 85)
    for _, location, count, last in sorted(rows, key=lambda row: -row[0]):
        size = f"{last.size_bytes / 2**20:10.2f} MB"
        latest = f"v{last.version}"
        print(f"{location.name:<30} {location.type:<10} {count:<10} {size:<15} {latest:<10}")
    return 0


def _versions(storage: ArtifactStorage, args: argparse.Namespace) -> int:
    location = storage.find(args.name, args.type)
    print(f"Versions for {location.name}:\n")
    print(f"{'Version':<10} {'Created':<25} {'Size':<15} {'Files':<8} Run")
    print("-" * 90)
    for info in storage.index(location).versions:
        created, run_id = _moment(info.created_at), info.created_by_run
        run_id = f"{run_id[:20]}..." if len(run_id) > 20 else run_id
        size = f"{info.size_bytes / 2**20:10.2f} MB"
        print(f"v{info.version:<9} {created:<25} {size:<15} {info.num_files:<8} {run_id}")
    return 0


def _info(storage: ArtifactStorage, args: argparse.Namespace) -> int:
    location = storage.find(args.name, args.type)
    metadata = storage.metadata(location, args.version)
    files = storage.manifest(location, args.version).files
    aliases = [a for a, number in storage.aliases(location).items() if number == args.version]
    print(f"\nArtifact: {location.name}:v{args.version}")
    print("=" * 60)
    print(f"Type: {metadata.type}")
    print(f"Status: {_status(location, args.version, metadata.status)}")
    print(f"Created: {_moment(metadata.created_at)}")
    print(f"Created by: {metadata.created_by_run}")
    print(f"Size: {metadata.size_bytes / 2**20:.2f} MB")
    print(f"Files: {metadata.num_files}")
    print(f"References: {metadata.num_references}")
    for title, value in (
        ("Description", metadata.description),
        ("Aliases", ", ".join(sorted(aliases))),
        ("Tags", ", ".join(metadata.tags)),
    ):
        if value:
            print(f"{title}: {value}")
    if metadata.metadata:
        print("\nMetadata:")
        for key, value in metadata.metadata.items():
            print(f"  {key}: {value}")
    if files:
        print(f"\nFiles ({len(files)}):")
        for file in files[:10]:
            print(f"  {file.path} ({file.size / 1024:.1f} KB)")
        if len(files) > 10:
            print(f"  ... and {len(files) - 10} more files")
    return 0


def _delete(storage: ArtifactStorage, args: argparse.Namespace) -> int:
    location = storage.find(args.name, args.type)
    what = f"{location.name}:v{args.version}"
    location.version(args.version)
    if not confirm(f"Delete {what}?"):
        print("Cancelled.")
        return 0
    if not args.permanent:
        storage.soft_delete(location, args.version)
        print(f"✅ Soft deleted {what}")
        return 0
    purged = storage.purge([(location, args.version)])
    if not purged.count:
        return fail(f"Failed to delete {what}")
    print(f"✅ Permanently deleted {what}")
    print(f"{purged.bytes / 2**20:.2f} MB freed")
    return 0


def _stats(storage: ArtifactStorage, args: argparse.Namespace) -> int:
    by_type: dict[str, list[int]] = {}
    files = 0
    for location in storage.locations():
        versions = storage.index(location).versions
        if versions:
            totals = by_type.setdefault(location.type, [0, 0, 0])
            totals[0] += 1
            totals[1] += len(versions)
            totals[2] += sum(info.size_bytes for info in versions)
            files += sum(info.num_files for info in versions)
    artifacts, count, size = (sum(totals[i] for totals in by_type.values()) for i in range(3))
    pool = sum(info.st_size for _, info in storage.pool.contents())
    saved = max(0, size - pool)
    print("Artifact Storage Statistics")
    print("=" * 60)
    print(f"Total Artifacts: {artifacts}")
    print(f"Total Versions: {count}")
    print(f"Total Files: {files}")
    print(f"Total Size: {size / 2**30:.2f} GB")
    print("\nDeduplication Stats:")
    print(f"  Pool Size: {pool / 2**30:.2f} GB")
    print(f"  Space Saved: {saved / 2**30:.2f} GB")
    print(f"  Dedup Ratio: {100 * saved / size if size else 0:.1f}%")
    if by_type:
        print("\nBy Type:")
        for kind, (number, versions_of, bytes_of) in by_type.items():
            print(
                f"  {kind}: {number} artifacts, {versions_of} versions, {bytes_of / 2**30:.2f} GB"
            )
    return 0


def _status(location: Location, number: int, stored: str) -> str:
    from ..layout import DELETED

    return "deleted" if (location.version(number) / DELETED).exists() else stored


def _moment(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


Action = Callable[["ArtifactStorage", argparse.Namespace], int]
ACTIONS: dict[str, tuple[tuple[str, ...], Action]] = {
    "list": ((), _list),
    "versions": (("name",), _versions),
    "info": (("name", "version"), _info),
    "delete": (("name", "version"), _delete),
    "stats": ((), _stats),
}
"""What each action needs, and what it does."""
