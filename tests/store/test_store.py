"""Recycle bin and moves, in every layout; and what happens when they are interrupted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runicorn import layout
from runicorn.run_store import AmbiguousRun, RunConflict, RunNotFound, RunStore, moves
from runicorn.run_store import store as store_module

PLACES = ["p/e/runs/one", "runs/one", "runs/p/one", "runs/p/e/f/one", "a/b/e/runs/one"]


def meta_of(root: Path, directory: str) -> dict[str, Any]:
    return json.loads((root / directory / "meta.json").read_text())


@pytest.mark.parametrize("directory", PLACES)
def test_a_run_goes_to_the_bin_and_back_and_out_of_it(root, store, make_run, directory) -> None:
    run = make_run(directory)
    other = make_run(f"{run}-2")
    assert store.purge([run])[1] == {run: "Run one is not in the recycle bin."}
    marker = store.delete(run, by="ada", reason="a reason")
    assert marker == json.loads((root / run / ".deleted").read_text())
    assert (marker["deleted_by"], marker["original_status"]) == ("ada", "finished")
    assert store.run(run).is_deleted
    with pytest.raises(RunConflict, match="already"):
        store.delete(run)
    assert store.restore(run) == run
    with pytest.raises(RunConflict, match="not in the recycle bin"):
        store.restore(run)
    assert "deleted_by" not in store.delete(run)
    freed, refusals = store.purge([run, "runs/nothing"])
    assert (freed > 0, list(refusals)) == (True, ["runs/nothing"])
    assert not (root / run).exists()
    assert (root / other / "meta.json").exists()
    for verb in (store.delete, store.restore, store.annotations, store.run):
        with pytest.raises(RunNotFound):
            verb(run)


def test_runs_in_the_bin_of_07_go_back_where_they_were(recorded_07, catalog_07) -> None:
    store = RunStore(recorded_07)
    for key in ("deleted", "path_deleted", "six_deleted"):
        told = catalog_07[key]
        home = f"runs/{told['path']}/{told['id']}"
        assert store.run(told["dir"]).is_deleted
        assert store.restore(told["dir"]) == home
        assert not store.run(home).is_deleted
        assert (recorded_07 / told["dir"]).exists() == (told["dir"] == home)


def test_a_run_of_04_that_07_deleted_goes_back_into_its_layout(root, store, make_run) -> None:
    run = make_run("runs/.recycle/one", project="p", name="e")
    (root / run / ".deleted").write_text('{"original_path": "p/e", "deleted_at": 1}')
    assert store.run(run).project == "p"
    make_run("p/e/runs/one")
    with pytest.raises(RunConflict, match="taken"):
        store.restore(run)
    assert (root / run / ".deleted").exists()
    (root / "p/e/runs/one").rename(root / "p/e/runs/two")
    assert store.restore(run) == "p/e/runs/one"


def test_a_run_without_marker_in_the_bin_of_07_is_deleted(root, store, make_run) -> None:
    run = make_run("runs/.recycle/one", path="")
    assert store.run(run).is_deleted
    assert store.restore(run) == "runs/one"


def running(**meta: Any) -> dict[str, Any]:
    return {"status": "running", "hostname": socket.gethostname(), **meta}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_run_that_lives_is_neither_purged_nor_moved(root, store, make_run, where) -> None:
    host = {"hostname": "another"} if where == "elsewhere" else {}
    run = make_run(**running(pid=os.getpid(), project="p", name="e", **host))
    before = meta_of(root, run)
    for move in (
        lambda: store.move(run, "q", "f"),
        lambda: store.rename_experiment("p", "e", "f"),
        lambda: store.rename_project("p", "q"),
    ):
        with pytest.raises(RunConflict, match="still running"):
            move()
    assert meta_of(root, run) == before
    store.delete(run)
    assert "still running" in store.purge([run])[1][run]
    assert (root / run / "meta.json").exists()
    assert store.purge([run], force=True)[1] == {}


def test_the_copy_of_another_hosts_run_can_be_purged_here(root, store, make_run) -> None:
    run = make_run(**running(pid=1, hostname="another"))
    store.delete(run)
    mirrors = root / layout.SERVER_DIR / layout.MIRRORS
    for claim, is_kept in (({"here": False}, True), ({"here": True}, False)):
        mirrors.write_text(json.dumps({run: {"source": "ada@another", **claim}}))
        assert (run in store.purge([run])[1]) == is_kept


def test_a_run_whose_process_is_gone_does_not_live(root, store, make_run) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    run = make_run(**running(pid=process.pid))
    assert store.move(run, "q", "f") == "q/f/runs/one"


def test_a_folder_that_cannot_be_moved_aside_stays(root, store, make_run, monkeypatch) -> None:
    run = make_run()
    store.delete(run)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    assert "Permission denied" in store.purge([run])[1][run]
    assert (root / run / "meta.json").exists()


def test_a_run_on_another_disk_is_removed_there_with_its_marker_last(
    root, store, make_run, monkeypatch
) -> None:
    run = make_run()
    (root / run / "media").mkdir()
    store.delete(run)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with patch.context() as failing:
            failing.setattr(store_module.shutil, "rmtree", lambda path: refuse(path, path))
            assert "could be removed" in store.purge([run])[1][run]
        assert store.is_deleted(run) and (root / run / "meta.json").exists()
        assert store.purge([run])[1] == {}
    assert not (root / run).exists()


def test_no_link_is_followed_when_a_run_is_removed(root, store, make_run, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/kept").write_text("x")
    run = make_run()
    (root / run / "data").symlink_to(tmp_path / "data")
    (root / "p/e/runs/link").symlink_to(root / run)
    with pytest.raises(RunNotFound):
        store.delete("p/e/runs/link")
    store.delete(run)
    store.purge([run])
    assert (tmp_path / "data/kept").exists()


# -- moves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "meta", "target", "written"),
    [
        ("p/e/runs/one", {"project": "p", "name": "e"}, "q/f/runs/one", ("q", "f", None)),
        ("a/b/e/runs/one", {"project": "a/b", "name": "e"}, "q/f/runs/one", ("q", "f", None)),
        ("runs/one", {"project": "p", "name": "e"}, "q/f/runs/one", ("q", "f", None)),
        ("runs/one", {"path": ""}, "runs/q/f/one", (None, None, "q/f")),
        ("runs/p/one", {"path": "p"}, "runs/q/f/one", (None, None, "q/f")),
        ("runs/p/e/f/one", {"path": "p/e/f"}, "runs/q/f/one", (None, None, "q/f")),
        (
            "runs/p/e/one",
            {"path": "p/e", "project": "old", "name": "o"},
            "runs/q/f/one",
            ("q", "f", "q/f"),
        ),
    ],
)
def test_a_run_is_moved_within_its_layout(
    root, store, make_run, directory, meta, target, written
) -> None:
    run = make_run(directory, **meta)
    (root / run / "artifacts_used.json").write_text('{"artifacts": []}')
    store.tag(run, ["kept"])
    mtime = (root / run).stat().st_mtime_ns
    assert store.move(run, "q", "f") == target
    moved = meta_of(root, target)
    assert tuple(moved.get(key) for key in ("project", "name", "path")) == written
    assert (moved["id"], moved["created_at"]) == ("one", 1e9)
    assert (root / target).stat().st_mtime_ns == mtime
    assert (store.run(target).project, store.run(target).name) == ("q", "f")
    assert store.annotations(target).tags == ["kept"]
    assert (root / target / "artifacts_used.json").exists()
    assert [directory for directory, _ in layout.iter_run_dirs(root)] == [target]
    assert not (root / run).exists()
    assert layout.is_at_home(target, moved)


@pytest.mark.parametrize("name", ["a/b", "..", "", ".x", "x\n", "a" * 101])
def test_a_name_that_cannot_be_is_refused(root, store, make_run, name) -> None:
    run = make_run(project="p", name="e")
    for change in (
        lambda: store.move(run, name, "f"),
        lambda: store.move(run, "q", name),
        lambda: store.rename_experiment("p", "e", name),
        lambda: store.rename_project("p", name),
    ):
        with pytest.raises(ValueError, match="Invalid"):
            change()
    assert (root / run / "meta.json").exists()


def test_a_place_that_is_taken_is_refused(root, store, make_run) -> None:
    run = make_run("p/e/runs/one")
    make_run("q/f/runs/one")
    (root / "r/f/runs/one").mkdir(parents=True)
    for project in ("q", "r"):
        with pytest.raises(RunConflict, match="taken"):
            store.move(run, project, "f")
    assert store.move(run, "p", "e") == run
    deep = make_run("runs/p/two", path="p")
    make_run("runs/q/f", path="q")
    with pytest.raises(RunConflict, match="inside another run"):
        store.move(deep, "q", "f")


def test_a_damaged_meta_is_not_written_over_by_a_move(root, store, make_run) -> None:
    run = make_run()
    (root / run / "meta.json").write_text('{"id": "on')
    with pytest.raises(RunConflict, match="damaged"):
        store.move(run, "q", "f")
    assert (root / run / "meta.json").read_text() == '{"id": "on'


def test_experiments_and_projects_are_renamed_whole(root, store, make_run) -> None:
    make_run("p/e/runs/a", project="p", name="e")
    make_run("p/e/runs/b", project="p", name="e")
    make_run("runs/p/e/c", path="p/e")
    make_run("runs/.recycle/d", path="p/e")
    make_run("p/other/runs/o", project="p", name="other")
    store.delete("p/e/runs/b")
    with pytest.raises(RunConflict, match="exists already"):
        store.rename_experiment("p", "e", "other")
    assert len(store.rename_experiment("p", "e", "f")) == 4
    with pytest.raises(RunNotFound):
        store.rename_experiment("p", "e", "g")
    places = {run.run_id: (run.project, run.name, run.is_deleted) for run in store.runs()}
    assert places == {
        "a": ("p", "f", False),
        "b": ("p", "f", True),
        "c": ("p", "f", False),
        "d": ("p", "f", True),
        "o": ("p", "other", False),
    }
    store.rename_project("p", "q")
    assert {run.project for run in store.runs()} == {"q"}
    assert store.restore("runs/.recycle/d") == "runs/q/f/d"
    assert not (root / "p").exists()


class Crash(BaseException):
    pass


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("directory", ["p/e/runs/one", "runs/p/e/one"])
def test_an_interrupted_move_is_finished_at_start(
    root, store, make_run, monkeypatch, directory, step
) -> None:
    meta = {"path": "p/e"} if directory.startswith("runs") else {"project": "p", "name": "e"}
    make_run(directory, **meta)
    second = make_run(directory.replace("one", "two"), **meta)
    count = 0

    def crashing(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == step + 1:
                raise Crash
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(layout, "write_json", crashing(layout.write_json))
        patch.setattr(Path, "rename", crashing(Path.rename))
        patch.setattr(Path, "unlink", crashing(Path.unlink))
        try:
            store.rename_experiment("p", "e", "f")
        except Crash:
            pass
    for run in store.runs():  # at any moment a run is at one place or the other
        assert (run.project, run.name) in (("p", "e"), ("p", "f"))
    RunStore(root).finish_interrupted()
    names = {run.name for run in store.runs()}
    assert names == ({"e"} if step == 0 else {"f"})
    assert len(list(store.runs())) == 2
    for run in store.runs():
        assert layout.is_at_home(run.directory, meta_of(root, run.directory))
    assert list((root / layout.SERVER_DIR / moves.JOURNALS).glob("*.json")) == []
    assert (root / second).exists() == (step == 0)


def test_a_move_to_another_disk_changes_nothing(root, store, make_run, monkeypatch) -> None:
    run = make_run(project="p", name="e")
    before = meta_of(root, run)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RunConflict, match="another disk"):
        store.move(run, "q", "f")
    assert meta_of(root, run) == before
    store.finish_interrupted()
    assert store.run(run).project == "p"


# -- copies --------------------------------------------------------------------------------------


def test_a_copied_run_is_named_by_its_folder(root, store, make_run) -> None:
    home = make_run("p/e/runs/one", project="p", name="e")
    copies = [
        make_run("copy/e/runs/one", project="p", name="e"),
        make_run("runs/one", project="p", name="e"),
        make_run("runs/p/e/one", project="p", name="e"),
    ]
    with pytest.raises(AmbiguousRun) as raised:
        store.find("one")
    assert raised.value.directories == sorted([home, *copies])
    assert store.find("one", copies[0]) == copies[0]
    with pytest.raises(RunNotFound):
        store.find("one", "elsewhere/e/runs/one")
    os.utime(root / copies[0], (1, 1))
    assert store.original([*copies, home]) == home
    assert store.original(copies[0:1] + copies[2:]) == copies[0]


def test_of_copies_that_are_all_at_home_the_oldest_counts(root, store, make_run) -> None:
    new = make_run("p/e/runs/one", project="p", name="e")
    old = make_run("runs/p/e/one", path="p/e")
    os.utime(root / old, (1, 1))
    assert store.original([new, old]) == old
