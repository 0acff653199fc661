"""``runicorn import``: runs from an archive."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from .. import layout
from ._common import (
    Commands,
    add_command,
    add_json,
    add_server,
    add_storage,
    client,
    fail,
    paint,
    print_json,
)


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "import",
        run,
        help="take runs in from an archive",
        description="Take in the runs of a .tar.gz, .zip or other tar archive. What is already "
        "there stays as it is; an interrupted import goes on where it stopped.",
        examples=[
            "runicorn import --archive vision.tar.gz --dry-run",
            "runicorn import --archive vision.tar.gz",
            "runicorn import --archive vision.tar.gz --server http://127.0.0.1:23300",
        ],
    )
    add_storage(parser)
    parser.add_argument("--archive", required=True, metavar="FILE")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would come in; change nothing"
    )
    parser.add_argument(
        "--replace", action="store_true", help="put the archive's runs in place of other versions"
    )
    add_json(parser)
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    archive = Path(args.archive)
    if not archive.is_file():
        return fail(f"Archive not found: {archive}")
    if args.server:
        return _to_server(args, archive)
    return _here(args, archive)


def _here(args: argparse.Namespace, file: Path) -> int:
    from .. import archive
    from .._progress import Bar

    root = layout.storage_root(args.storage)
    size = file.stat().st_size
    passes = 1 if args.dry_run else 2
    try:
        root.mkdir(parents=True, exist_ok=True)
        with Bar("Importing") as bar:
            report = archive.import_archive(
                file,
                root,
                replace=args.replace,
                dry_run=args.dry_run,
                progress=lambda done: bar(done // passes, size),
            )
    except (archive.ArchiveError, OSError) as error:
        return fail(f"Import failed: {error}")
    if args.json:
        print_json({**asdict(report), "storage": str(root), "dry_run": args.dry_run})
        return 0
    verb = "Would import" if args.dry_run else "Imported"
    print(f"{verb} {report.files} files into {root}")
    for label, found in [
        ("new", report.new),
        ("replaced", report.replaced),
        ("already there", report.unchanged),
        ("kept, although the archive has another version (see --replace)", report.kept),
    ]:
        if found:
            print(f"  {len(found)} {label}")
    if report.refused_count:
        print(paint(f"  {report.refused_count} refused:", "yellow"))
        for name, reason in report.refused[:10]:
            print(f"    {name}: {reason}")
    return 0


def _to_server(args: argparse.Namespace, file: Path) -> int:
    from .._progress import Bar
    from ..api import RunicornAPIError

    with client(args) as server, Bar("Sending") as bar:
        try:
            answer = server.import_archive(file, bar, dry_run=args.dry_run, replace=args.replace)
        except RunicornAPIError as error:
            return fail(f"Import failed: {error.detail or error}")
    if args.json:
        print_json(answer)
    else:
        verb = "Would import" if args.dry_run else "Imported"
        print(f"{verb} {answer['imported_files']} files into {answer['storage']}")
    return 0
