"""Moves of runs: written down first, so that an interrupted one is finished at the next start.

``meta.json`` is changed before the folder is renamed. In the layout of 0.4 ``meta.json`` says where
a run belongs, in that of 0.7 the folder does, so a reader sees one place or the other at any time.
"""

from __future__ import annotations

import errno
import logging
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import layout
from .errors import RunConflict

logger = logging.getLogger("runicorn")

JOURNALS = "moves"


@dataclass(frozen=True)
class Move:
    source: str
    target: str
    """Equal to *source* for a run in the recycle bin of 0.7, which goes there when restored."""
    project: str
    name: str | None


def planned(root: Path, directory: str, project: str, name: str | None) -> Move:
    """The move of the run in *directory*, which keeps its layout."""
    if layout.is_recycled(directory):
        return Move(directory, directory, project, name)
    meta = layout.read_json(root / directory / layout.META)
    is_v07 = layout.is_v07_dir(directory) or isinstance(meta.get("path"), str) or name is None
    run_id = directory.rpartition("/")[2]
    return Move(directory, layout.run_dir(project, name, run_id, is_v07=is_v07), project, name)


def carry_out(root: Path, moves: Iterable[Move]) -> None:
    """Move runs, for a caller who holds the store's lock and has checked that they may be moved."""
    moves = list(moves)
    journal = root / layout.SERVER_DIR / JOURNALS / f"{uuid.uuid4().hex}.json"
    journal.parent.mkdir(parents=True, exist_ok=True)
    layout.write_json(journal, {"moves": [asdict(move) for move in moves]})
    done: list[Move] = []
    try:
        for move in moves:
            _carry_out(root, move)
            done.append(move)
    except OSError as error:
        journal.unlink()
        if done:  # the rest stay where they are, and are said
            logger.error("Only %d of %d runs were moved.", len(done), len(moves))
        if error.errno == errno.EXDEV:
            raise RunConflict("Its place lies on another disk: move the folder by hand.") from error
        raise
    journal.unlink()
    for move in moves:
        _remove_emptied(root, move)


def finish(root: Path) -> None:
    """Finish the moves that were interrupted; the caller holds the store's lock."""
    for journal in sorted((root / layout.SERVER_DIR / JOURNALS).glob("*.json")):
        for move in _moves_in(journal):
            source, target = root / move.source, root / move.target
            try:
                if source.is_dir() and (move.source == move.target or not target.exists()):
                    _carry_out(root, move)
                elif target.is_dir() and not source.exists():
                    _describe(target, move)
                else:
                    logger.warning("The move of %s to %s was given up.", move.source, move.target)
                    continue
                _remove_emptied(root, move)
                logger.info("The move of %s to %s was finished.", move.source, move.target)
            except OSError as error:
                logger.error("%s could not be moved to %s: %s", move.source, move.target, error)
        journal.unlink(missing_ok=True)


def _moves_in(journal: Path) -> list[Move]:
    entries = layout.read_json(journal).get("moves")
    moves = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            move = Move(**entry)
            if layout.split_run_dir(move.source) and layout.split_run_dir(move.target):
                moves.append(move)
        except (TypeError, AttributeError):
            logger.warning("%s holds what is no move.", journal)
    return moves


def _carry_out(root: Path, move: Move) -> None:
    source, target = root / move.source, root / move.target
    target.parent.mkdir(parents=True, exist_ok=True)
    mtime_ns = source.stat().st_mtime_ns  # of which 0.4 makes an order
    with layout.locked_in_run(source / layout.STATUS):  # under which a process takes a run over
        before = layout.load_json(source / layout.META)
        _describe(source, move)
        try:
            if target != source:
                source.rename(target)
        except OSError:
            if before is not None:
                layout.write_json(source / layout.META, before)
            raise
    layout.set_mtime(target, mtime_ns)


def _describe(folder: Path, move: Move) -> None:
    """Have the run's own files say where it belongs now. Can be repeated."""
    path = "/".join(filter(None, (move.project, move.name)))
    meta = layout.load_json(folder / layout.META)
    if meta is not None:
        changes: dict[str, Any] = {}
        if isinstance(meta.get("path"), str) or "project" not in meta:
            changes["path"] = path
        if "project" in meta or not layout.is_v07_dir(move.target):
            changes |= {"project": move.project, "name": move.name or ""}
        layout.write_json(folder / layout.META, {**meta, **changes})
    if move.source == move.target:
        marker = layout.read_json(folder / layout.DELETED)
        layout.write_json(folder / layout.DELETED, {**marker, "original_path": path})


def _remove_emptied(root: Path, move: Move) -> None:
    """Remove the folders above where the run lay that hold nothing any more."""
    folder = (root / move.source).parent
    while folder not in (root, root / layout.RUNS) and not folder.is_symlink():
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
