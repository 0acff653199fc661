"""``kill -9`` before each single change of the disk, one after the other, of everything that
changes artifacts: what was there stays, nothing half is seen, and doing it again makes it good."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.storage import Draft
from tests.artifacts.test_killing import check
from tests.sdk.conftest import WITH_SDK
from tests.servers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Dying:
    """Does things to roots in processes that die before their n-th change of the disk."""

    def __init__(self, program: str, **env: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=WITH_SDK | env,
            cwd=ROOT,
            text=True,
            bufsize=1,
        )

    def run(self, action: str, target: Path | str, step: int) -> bool:
        """Whether it was killed; without being killed it has to succeed. Step 0: never."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(f"{action} {step} {target}\n")
        status = int(self._server.stdout.readline())
        if status == -signal.SIGKILL and step:
            return True
        assert status == 0, f"{action}, step {step}: ended with {status}"
        return False

    def close(self) -> None:
        self._server.communicate()


@pytest.fixture(scope="module")
def dying() -> Iterator[Dying]:
    started = Dying("dying.py")
    yield started
    started.close()


def prepare(root: Path) -> None:
    """Versions that share a content, one in each state that the actions begin with."""
    sources = root / "sources"
    sources.mkdir(parents=True)
    storage = ArtifactStorage(root)
    for number, name in enumerate(["net", "net", "net", "other"]):
        (sources / "shared").write_bytes(b"shared")
        (sources / "own").write_bytes(b"own %d" % number)
        files: list[tuple[str | Path, str]] = [(p, p.name) for p in sorted(sources.iterdir())]
        storage.save(Draft(name, "model", files))
    net = storage.find("net")
    storage.set_alias(net, "best", 1)
    storage.promote(net, 1, "staging")
    storage.promote(net, 2, "staging")
    storage.promote(net, 2, "production")
    storage.soft_delete(net, 3)
    (sources / "own").write_bytes(b"new")


def copy(source: Path, target: Path) -> None:
    """With its hard links."""
    subprocess.run(["cp", "-a", source, target], check=True)


def facts(storage: ArtifactStorage) -> dict[str, Any]:
    """All that a reader of the folder is told."""
    told: dict[str, Any] = {}
    for location in storage.locations():
        told[location.name] = storage.aliases(location)
        for number in location.numbers():
            changes = storage.changes(location, number)
            metadata = storage.metadata(location, number).to_dict()
            for moment in ("created_at", "updated_at", "manifest_digest"):  # it tells the time
                del metadata[moment]
            told[f"{location.name}:v{number}"] = {
                **metadata,
                "stage": changes.get("lifecycle_stage"),
                "history": [(e["field"], e["to"]) for e in changes.get("history", [])],
                "evaluations": [e["eval_id"] for e in changes.get("evaluations", [])],
                "files": [f.path for f in storage.manifest(location, number).files],
                "deleted": (location.version(number) / ".deleted").exists(),
            }
    return told


ACTIONS = [
    *("save-first", "save-next", "save-many"),
    *("soft-delete", "restore", "purge-newest", "purge-shared", "purge-all"),
    *("set-alias", "move-alias", "remove-alias", "edit"),
    *("promote", "to-production", "from-production", "evaluation", "gc"),
]


@pytest.mark.parametrize("action", ACTIONS)
def test_killed_before_each_change(tmp_path, dying, action, monkeypatch):
    prepare(tmp_path / "before")
    if action == "gc":
        assert not dying.run("litter", tmp_path / "before", 0)
    copy(tmp_path / "before", tmp_path / "whole")
    before = facts(ArtifactStorage(tmp_path / "whole"))
    assert not dying.run(action, tmp_path / "whole", 0)
    after = facts(ArtifactStorage(tmp_path / "whole"))
    assert (before == after) == (action == "gc")
    root, step = tmp_path / "root", 1
    while True:
        copy(tmp_path / "before", root)
        if not dying.run(action, root, step):
            break
        storage = ArtifactStorage(root)
        seen = facts(storage)
        untouched = {key for key in before if before[key] == after.get(key)}
        assert {key: seen[key] for key in untouched} == {key: before[key] for key in untouched}
        assert set(seen) <= set(before) | set(after)
        for key in set(seen) & set(after) - set(before):
            assert ":" not in key or seen[key] == after[key], f"a half version at step {step}"
        for location in storage.locations():
            numbers = location.numbers()
            assert set(storage.aliases(location).values()) <= set(numbers), f"step {step}"
            for number in numbers:
                assert storage.verify(location, number) == [], f"step {step}"
        assert not dying.run(action, root, 0), f"again after step {step}"
        with monkeypatch.context() as an_hour_later:  # before that, somebody might be copying
            now = time.time()
            an_hour_later.setattr(time, "time", lambda now=now: now + 3601)
            storage.collect_garbage()
        again = facts(storage)
        if not action.startswith("save"):  # once more is one version more
            assert again == after, f"step {step}"
        check(storage)
        shutil.rmtree(root)
        step += 1
    assert step > 2, "it never died"


def test_a_server_killed_before_each_change_of_an_upload(tmp_path):
    """Whoever asks again gets the version that it became, once."""
    env = {"DJANGO_SETTINGS_MODULE": "settings.local", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    dying = Dying("dying_server.py", RUNICORN_DIR=str(tmp_path), **env)
    step, names = 1, ["n1"]
    while dying.run("upload", names[-1], step):
        assert not dying.run("upload", names[-1], 0), f"again after step {step}"
        assert not dying.run("look", names[-1], 0), f"after step {step}"
        step += 1
        names.append(f"n{step}")
    assert step > 30
    kept = tmp_path / ".runicorn/uploads"
    assert len(list(kept.iterdir())) >= len(names)  # they answer for a week
    for folder in kept.iterdir():
        os.utime(folder, (0, 0))
    assert not dying.run("gc", "", 0)
    dying.close()
    assert list(kept.iterdir()) == []
    storage = ArtifactStorage(tmp_path)
    assert sorted(location.name for location in storage.locations()) == sorted(names)
    check(storage)
