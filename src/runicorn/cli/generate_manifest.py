"""``runicorn generate-manifest``: the catalogue that makes syncing from another machine quick."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from pathlib import Path

from ._common import Commands, add_command, add_no_server, fail

WIDTH = 60


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "generate-manifest",
        run,
        help="write the catalogue of run files for remote sync",
        description=(
            "Write a catalogue of all run files, so that clients which sync over SSH fetch only "
            "what differs. Run it from a timer: every 5 minutes up to 100 experiments, every 10 "
            "up to 500, every 15 beyond; the active one every 1 or 2."
        ),
        examples=[
            "runicorn generate-manifest --root ~/experiments",
            "runicorn generate-manifest --root ~/experiments --active --active-window 7200",
        ],
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="PATH", help="storage folder (%(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write it (<root>/.runicorn/<type>_manifest.json)",
    )
    parser.add_argument("--full", action="store_true", help="all runs (the default)")
    parser.add_argument("--active", action="store_true", help="only runs that changed lately")
    parser.add_argument(
        "--active-window",
        type=int,
        default=3600,
        metavar="SECONDS",
        help="how lately, for --active (%(default)s)",
    )
    parser.add_argument(
        "--no-incremental",
        action="store_true",
        help="hash the ends of all logs again, those that did not change too",
    )
    parser.add_argument(
        "--verbose", "-v", action="store_true", help="say more, and show the place of an error"
    )
    add_no_server(parser, "a catalogue is written beside the runs, on the machine that has them")


def run(args: argparse.Namespace) -> int:
    from ..manifest import ManifestGenerator, ManifestType

    root = args.root.expanduser()
    if not root.exists():
        return fail(f"Error: Root directory does not exist: {root}")
    if not root.is_dir():
        return fail(f"Error: Root path is not a directory: {root}")
    if args.verbose:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    kind = ManifestType.ACTIVE if args.active else ManifestType.FULL
    print(f"Generating {kind.value} manifest...", flush=True)
    try:
        generator = ManifestGenerator(
            root,
            active_window_seconds=args.active_window,
            incremental=not args.no_incremental,
        )
        manifest, path = generator.generate(kind, args.output)
    except KeyboardInterrupt:
        print("\nInterrupted by user")
        return 130
    except Exception as error:  # of any kind: a timer's mail says it in one line
        if args.verbose:
            traceback.print_exc()
        return fail(f"Error: Manifest generation failed: {error}")
    facts = {
        "Type": manifest.manifest_type.value,
        "Output": path,
        "Compressed": f"{path}.gz",
        "Revision": manifest.revision,
        "Snapshot ID": manifest.snapshot_id,
        "Experiments": manifest.total_experiments,
        "Files": manifest.total_files,
        "Total Size": f"{manifest.total_bytes / 2**20:.2f} MB",
    }
    print("=" * WIDTH, "Manifest Generation Complete", "=" * WIDTH, sep="\n")
    for name, value in facts.items():
        print(f"{name + ':':<15}{value}")
    print("=" * WIDTH)
    return 0
