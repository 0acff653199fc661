"""List many folders of a host with one run of its ``find``, instead of four requests for each.

Where there is no shell with GNU's ``find`` and ``xargs``, folders are asked for over SFTP
(``listing``). Names go to ``find`` by its input, not by a command line, and what it prints is
judged like a listing: nothing counts that did not come below a folder, in the order of ``find``.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import asyncssh

from runicorn import layout

from .host_tree import FORMAT, Tree
from .source import Source

MANY = 8
"""From so many folders on: a shell may read a person's profile each time that it starts."""

RUN_DEPTH = 4
"""Levels from the root to a run: project, experiment, ``runs``, itself."""

ARTIFACT_DEPTH = 4
"""From the artifacts to the documents of a version: type, name, version, document."""

FIND = [
    *("-name", ".?*", "-not", "-name", layout.DELETED, "-prune", "-o"),
    # Of an experiment its runs, whatever else may lie beside them.
    *("-path", "./*/*/*", "-not", "-path", "./*/*/runs", "-not", "-path", "./*/*/runs/*"),
    *("-not", "-path", "./runs/*", "-not", "-path", "./artifacts/*", "-prune", "-o"),
    *("-printf", FORMAT),
]
NO_ARTIFACTS = ["-path", "./artifacts", "-prune", "-o"]

CLEAN, SOME_FAILED = 0, 123
"""What ``xargs`` ends with: the second where folders could not be read, or went while they were."""


async def look(source: Source, depth: int, folders: Sequence[str] = ()) -> Tree | None:
    """Return what lies below *folders*, or the root without its artifacts, *depth* levels down:
    folders of the last level seem empty. None where ``find`` cannot be asked."""
    if not source.has_find:
        return None
    tree = Tree([b"./" + folder.encode() for folder in folders] or [b"."])
    tests = shlex.join(FIND if folders else NO_ARTIFACTS + FIND)
    try:
        find = f'exec find "$@" -maxdepth {depth} {tests}'
        names = b"".join(start + b"\0" for start in tree.starts)
        status = await source.run(f"xargs -0 sh -c {shlex.quote(find)} find", names, tree.feed)
        tree.end()
    except asyncssh.ChannelOpenError:
        return None  # too many at once; the next look may have one
    except (asyncssh.Error, OSError, ValueError):
        source.has_find = False
        return None
    if status not in (CLEAN, SOME_FAILED) or not (folders or tree.folders):
        source.has_find = False
        return None
    if status == SOME_FAILED:
        tree.distrust_empty()
    return tree
