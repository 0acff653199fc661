"""``runicorn manage``: tag, note, search and remove runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

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
        "manage",
        run,
        help="tag, note, search and remove runs",
        description="Tag, note, search and remove runs. delete and cleanup remove them for good, "
        "without asking, past the recycle bin.",
        examples=[
            "runicorn manage --action tag --run-id 20260102_030405_0a1b2c --tags best,paper",
            "runicorn manage --action search --tags paper --json",
            "runicorn manage --action cleanup --days 90 --dry-run",
        ],
    )
    add_storage(parser)
    parser.add_argument("--action", required=True, choices=list(ACTIONS))
    parser.add_argument("--run-id", metavar="ID")
    parser.add_argument("--tags", metavar="A,B", help="separated by commas")
    parser.add_argument("--notes", metavar="TEXT", help="note: what to keep about the run")
    parser.add_argument("--project", help="search: only in this project")
    parser.add_argument("--text", help="search: in name, project, notes and tags")
    parser.add_argument(
        "--days", type=int, default=30, help="cleanup: unchanged for so long (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="cleanup: only say which")
    add_json(parser)
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    try:
        return ACTIONS[args.action](args)
    except Exception as error:  # documented: whatever happens is told in one line
        return fail(f"Management failed: {error}")


def _tag(args: argparse.Namespace) -> int:
    if not args.run_id:
        return fail("--run-id is required for tagging")
    tags = _tags(args)
    if args.server:
        with client(args) as server:
            is_tagged = server.tag_experiment(args.run_id, tags)
    else:
        is_tagged = _manager(args).tag_experiment(args.run_id, tags)
    return _say(args, {args.run_id: is_tagged}, f"Tagged {args.run_id}: {is_tagged}")


def _note(args: argparse.Namespace) -> int:
    if not args.run_id or args.notes is None:
        return fail("--run-id and --notes are required for noting")
    if args.server:
        from ..api import NotFoundError

        with client(args) as server:
            try:
                server.set_notes(args.run_id, args.notes)
                is_noted = True
            except NotFoundError:
                is_noted = False
    else:
        is_noted = _manager(args).describe_experiment(args.run_id, args.notes)
    return _say(args, {args.run_id: is_noted}, f"Noted {args.run_id}: {is_noted}")


def _search(args: argparse.Namespace) -> int:
    filters = {"project": args.project, "tags": _tags(args), "text": args.text}
    found: Sequence[Mapping[str, Any]]
    if args.server:
        with client(args) as server:
            found = server.search_experiments(**filters)
    else:
        found = [asdict(record) for record in _manager(args).search_experiments(**filters)]
    lines = [f"  - {r['id']}: {r['project']}/{r['name']} [{', '.join(r['tags'])}]" for r in found]
    return _say(args, found, "\n".join([f"Found {len(found)} experiments:", *lines]))


def _delete(args: argparse.Namespace) -> int:
    if not args.run_id:
        return fail("--run-id is required for deletion")
    if args.server:
        with client(args) as server:
            results = server.delete_experiments([args.run_id])
    else:
        results = _manager(args).delete_experiments([args.run_id])
    return _say(args, results, f"Deleted: {results}")


def _cleanup(args: argparse.Namespace) -> int:
    if args.server:
        with client(args) as server:
            old = server.cleanup_experiments(args.days, dry_run=args.dry_run)
    else:
        old = _manager(args).cleanup_old_experiments(args.days, dry_run=args.dry_run)
    if args.dry_run:
        lines = [f"Would delete {len(old)} old experiments:", *(f"  - {i}" for i in old)]
        return _say(args, old, "\n".join(lines))
    return _say(args, old, f"Deleted {len(old)} old experiments")


def _reindex(args: argparse.Namespace) -> int:
    if args.storage:
        os.environ["RUNICORN_DIR"] = str(layout.storage_root(args.storage))
    from .. import _django

    _django.reindex()
    return 0


ACTIONS = {
    "tag": _tag,
    "note": _note,
    "search": _search,
    "delete": _delete,
    "cleanup": _cleanup,
    "reindex": _reindex,
}


def _manager(args: argparse.Namespace) -> Any:
    from ..experiments import ExperimentManager

    return ExperimentManager(layout.storage_root(args.storage))


def _tags(args: argparse.Namespace) -> list[str]:
    return [tag.strip() for tag in (args.tags or "").split(",") if tag.strip()]


def _say(args: argparse.Namespace, data: Any, text: str) -> int:
    if args.json:
        print_json(data)
    else:
        print(text)
    return 0
