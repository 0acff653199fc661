"""``runicorn export``: an archive of runs."""

from __future__ import annotations

import argparse
import time
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
    print_json,
)


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
            "runicorn export --project vision --server http://127.0.0.1:23300",
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
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    return _from_server(args) if args.server else _here(args)


def _here(args: argparse.Namespace) -> int:
    from .. import archive
    from .._progress import Bar

    root = layout.storage_root(args.storage)
    runs = [run for run in layout.iter_run_dirs(root) if _is_wanted(args, run[0])]
    out = Path(args.out or archive.default_name()).absolute()
    if not runs:
        return _nothing(args)
    if not args.json:
        print(f"Exporting {len(runs)} run(s) to {out} ...", flush=True)
    directories = sorted(path for path, _ in runs)
    partial = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with Bar("Exporting") as bar, partial.open("wb") as file:
            for data in archive.export_runs(root, directories, artifacts=args.artifacts):
                file.write(data)
                bar(file.tell(), None)
        partial.replace(out)
    except OSError as error:
        return fail(f"Export failed: {error}")
    finally:
        if partial.exists():
            partial.unlink()
    if args.json:
        print_json({"runs": directories, "archive": str(out), "size_bytes": out.stat().st_size})
    else:
        print("Done.")
    return 0


def _from_server(args: argparse.Namespace) -> int:
    from .._progress import Bar
    from ..api import NotFoundError

    out = Path(args.out or f"runicorn_export_{int(time.time())}.tar.gz").absolute()
    if not (args.run_id or args.project):
        return fail("Export failed: say which runs of the server: --run-id or --project")
    try:
        with client(args) as server, Bar("Receiving") as bar:
            server.download_runs(
                out,
                args.run_id or (),
                project=args.project,
                name=args.name,
                artifacts=args.artifacts,
                progress=bar,
            )
    except NotFoundError:
        return _nothing(args)
    except OSError as error:
        return fail(f"Export failed: {error}")
    if args.json:
        print_json({"archive": str(out), "size_bytes": out.stat().st_size})
    else:
        print(f"Exported to {out}")
    return 0


def _nothing(args: argparse.Namespace) -> int:
    if args.json:
        print_json({"runs": [], "archive": None})
    else:
        print("No runs matched the given filters. Nothing to export.")
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
