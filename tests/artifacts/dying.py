"""Does what it is told to an artifact storage, each time in a process of its own that is killed
before its n-th change of the disk. Reads ``action step root`` and prints how the process ended.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock  # noqa: F401  (else the first import of each would be among the steps)

from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.storage import Draft

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    *("os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir"),
    *("os.truncate", "os.chmod", "os.utime"),
}


class Steps:
    """Kills this process when it is about to do its n-th change of the disk."""

    def __init__(self, step: int) -> None:
        self._left = step
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITING):
            self.count()

    def count(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def save(storage: ArtifactStorage, name: str, files: int = 0) -> None:
    sources = storage.root / "sources"
    listed: list[tuple[str | Path, str]] = [(p, p.name) for p in sorted(sources.iterdir())]
    listed += [(p, f"{n}/{p.name}") for n in range(files // 2) for p in sorted(sources.iterdir())]
    storage.save(Draft(name, "model", listed))


def purge(storage: ArtifactStorage, *versions: tuple[str, int]) -> None:
    storage.purge([(storage.find(name), number) for name, number in versions])


def litter(storage: ArtifactStorage) -> None:
    """What killed processes may leave."""
    pool, net = storage.blobs, storage.find("net")
    loose = storage.root / "loose"
    for path in sorted((storage.root / "sources").iterdir()):
        pool.store(str(path), str(loose), is_likely=lambda size: False)
        loose.unlink()
    digest, _ = next(iter(pool.contents()))
    pool.path(digest).rename(pool.folder / f".aside-{digest}")
    (net.folder / ".versions.json.x.tmp").write_text("{")
    (net.version(1) / ".metadata.json.x.tmp").write_text("{")
    trash = net.folder / ".trash-x"
    trash.mkdir()
    (trash / "half").touch()


def promote(storage: ArtifactStorage, number: int, stage: str) -> None:
    net = storage.find("net")
    if storage.changes(net, number).get("lifecycle_stage") != stage:
        storage.promote(net, number, stage)


EVALUATION = {"id": "e1", "evaluation_date": 1.0, "status": "ok", "metrics": {"a": 1}}

ACTIONS: dict[str, Callable[[ArtifactStorage], Any]] = {
    "save-first": lambda s: save(s, "first"),
    "save-next": lambda s: save(s, "net"),
    "save-many": lambda s: save(s, "net", 60),
    "soft-delete": lambda s: s.soft_delete(s.find("net"), 1),
    "restore": lambda s: s.restore(s.find("net"), 3),
    "purge-newest": lambda s: purge(s, ("net", 3)),
    "purge-shared": lambda s: purge(s, ("net", 1)),
    "purge-all": lambda s: purge(s, ("net", 1), ("net", 2), ("net", 3), ("other", 1)),
    "set-alias": lambda s: s.set_alias(s.find("net"), "new", 2),
    "move-alias": lambda s: s.set_alias(s.find("net"), "best", 2),
    "remove-alias": lambda s: s.remove_alias(s.find("net"), "best"),
    "edit": lambda s: s.edit(s.find("net"), 1, {"tags": ["t"], "description": "d"}, by="x"),
    "promote": lambda s: promote(s, 3, "staging"),
    "to-production": lambda s: promote(s, 1, "production"),
    "from-production": lambda s: promote(s, 2, "archived"),
    "evaluation": lambda s: s.note_evaluation(s.find("net"), 1, EVALUATION),
    "litter": litter,
    "gc": lambda s: s.collect_garbage(),
}


def serve(act: Callable[[str, str, Steps | None], Any]) -> None:
    """Act as each line of the input says, in a process of its own, and print how that ended."""
    for line in sys.stdin:
        action, step, target = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if not child:
            try:
                act(action, target, Steps(int(step)) if int(step) else None)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve(lambda action, root, _: ACTIONS[action](ArtifactStorage(root)))
