"""``runicorn export``: an archive of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import layout
from ._common import Commands, add_command, add_json, add_storage, fail, print_json


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        run,
        help="put runs into an archive",
        description="Put the folders of runs, or of all, into one .tar.gz file. "
        "'runicorn import' takes it in elsewhere.",
        examples=[
            "runicorn export --project vision --out vision.tar.gz",
            "runicorn export --run-id 20260102_030405_0a1b2c --run-id 20260102_040506_1b2c3d",
            "runicorn export --artifacts --out everything.tar.gz",
        ],
    )
    add_storage(parser)
    parser.add_argument("--project", help="only runs of this project")
    parser.add_argument("--name", help="only runs of this experiment")
    parser.add_argument(
        "--run-id", action="append", metavar="ID", help="only this run (may be given repeatedly)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="default: runicorn_export_<unix seconds>.tar.gz"
    )
    parser.add_argument(
        "--artifacts", action="store_true", help="with the artifact versions they made or used"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from .. import archive
    from .._progress import Bar

    root = layout.storage_root(args.storage)
    runs = [run for run in layout.iter_run_dirs(root) if _is_wanted(args, run[0])]
    out = Path(args.out or archive.default_name()).absolute()
    if not runs:
        if args.json:
            print_json({"runs": [], "archive": None})
        else:
            print("No runs matched the given filters. Nothing to export.")
        return 0
    if not args.json:
        print(f"Exporting {len(runs)} run(s) to {out} ...", flush=True)
    directories = sorted(path for path, _ in runs)
    partial = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with Bar("Exporting") as bar, partial.open("wb") as file:
            for piece in archive.export_runs(root, directories, artifacts=args.artifacts):
                file.write(piece)
                bar(file.tell(), None)
        partial.replace(out)
    except OSError as error:
        return fail(f"Export failed: {error}")
    finally:
        partial.unlink(missing_ok=True)
    if args.json:
        print_json({"runs": directories, "archive": str(out), "size_bytes": out.stat().st_size})
    else:
        print("Done.")
    return 0


def _is_wanted(args: argparse.Namespace, path: str) -> bool:
    parts = layout.split_run_dir(path)
    assert parts is not None
    project, name, run_id = parts
    return (
        args.project in (None, project)
        and args.name in (None, name)
        and (not args.run_id or run_id in args.run_id)
    )
