"""``runicorn manage``: tag, note, search, delete, restore, move and purge runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from ..experiments import ExperimentManager
    from ..run_store import RunStore


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "manage",
        run,
        help="tag, note, search, delete, restore and move runs",
        description="Tag, note, search and move runs. delete moves a run to the recycle bin, "
        "restore brings it back, purge removes it from there for good. cleanup removes old runs "
        "for good, past the recycle bin, without asking.",
        examples=[
            "runicorn manage --action tag --run-id 20260102_030405_0a1b2c --tags best,paper",
            "runicorn manage --action search --tags paper --json",
            "runicorn manage --action delete --run-id 20260102_030405_0a1b2c",
            "runicorn manage --action move --run-id 20260102_030405_0a1b2c --project cv --name vit",
            "runicorn manage --action cleanup --days 90 --dry-run",
        ],
    )
    add_storage(parser)
    parser.add_argument("--action", required=True, choices=list(ACTIONS))
    parser.add_argument("--run-id", metavar="ID")
    parser.add_argument("--tags", metavar="A,B", help="separated by commas")
    parser.add_argument("--notes", metavar="TEXT", help="note: what to keep about the run")
    parser.add_argument("--project", help="search: only in this project; move: to this one")
    parser.add_argument("--name", help="move: to this experiment")
    parser.add_argument(
        "--dir",
        metavar="FOLDER",
        help="which one, below the storage root, if copies of a run have its id",
    )
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
        is_tagged = _annotate(args, lambda store, run: store.tag(run, tags, experiments_file=True))
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
        is_noted = _annotate(
            args, lambda store, run: store.set_notes(run, args.notes, experiments_file=True)
        )
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
            is_deleted = _succeeded(args, server.soft_delete([args.run_id]))
    else:
        store = _store(args)
        directory = _find(store, args)
        is_deleted = directory is not None and not store.is_deleted(directory)
        if directory is not None and is_deleted:
            store.delete(directory, by=_user())
    return _say(args, {args.run_id: is_deleted}, f"Deleted: { {args.run_id: is_deleted} }")


def _restore(args: argparse.Namespace) -> int:
    if not args.run_id:
        return fail("--run-id is required to restore a run")
    if args.server:
        with client(args) as server:
            is_restored = _succeeded(args, server.restore([args.run_id]))
    else:
        store = _store(args)
        directory = _find(store, args)
        is_restored = directory is not None and store.is_deleted(directory)
        if directory is not None and is_restored:
            store.restore(directory)
    return _say(args, {args.run_id: is_restored}, f"Restored: { {args.run_id: is_restored} }")


def _purge(args: argparse.Namespace) -> int:
    if not args.run_id:
        return fail("--run-id is required to purge a run")
    if args.server:
        with client(args) as server:
            deleted = {run["id"] for run in server.list_recycle_bin()}
            results = server.delete_experiments({args.run_id} & deleted) if deleted else {}
            is_purged = results.get(args.run_id, False)
    else:
        store = _store(args)
        directory = _find(store, args)
        is_purged = directory is not None and store.is_deleted(directory)
        if directory is not None and is_purged:
            _, refusals = store.purge([directory])
            if refusals:
                return fail(f"Management failed: {refusals[directory]}")
    return _say(args, {args.run_id: is_purged}, f"Purged: { {args.run_id: is_purged} }")


def _move(args: argparse.Namespace) -> int:
    if not (args.run_id and args.project and args.name):
        return fail("--run-id, --project and --name are required to move a run")
    if args.server:
        return fail("move acts on a storage folder only: leave --server out")
    store = _store(args)
    target = store.move(store.find(args.run_id, args.dir), args.project, args.name)
    return _say(args, {args.run_id: target}, f"Moved {args.run_id} to {target}")


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
    "restore": _restore,
    "purge": _purge,
    "move": _move,
    "cleanup": _cleanup,
    "reindex": _reindex,
}


def _store(args: argparse.Namespace) -> RunStore:
    from ..run_store import RunStore

    store = RunStore(layout.storage_root(args.storage))
    store.finish_interrupted()
    return store


def _find(store: RunStore, args: argparse.Namespace) -> str | None:
    """The folder of the run that is meant; None if there is none."""
    from ..run_store import RunNotFound

    try:
        return store.find(args.run_id, args.dir)
    except RunNotFound:
        return None


def _annotate(args: argparse.Namespace, change: Callable[[RunStore, str], object]) -> bool:
    store = _store(args)
    directory = _find(store, args)
    if directory is None:
        return False
    change(store, directory)
    store.experiments_file.flush()
    return True


def _succeeded(args: argparse.Namespace, answer: dict[str, Any]) -> bool:
    return bool(answer.get(args.run_id, {}).get("success"))


def _user() -> str | None:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name
        return None


def _manager(args: argparse.Namespace) -> ExperimentManager:
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
