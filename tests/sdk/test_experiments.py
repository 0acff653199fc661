"""Tags, pins and removal of runs, by the storage root's own record of them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

import runicorn as rn
from runicorn import layout


def make_run(root: Path, run_id: str, project: str = "p", ended_at: float = 2e9, **files: object):
    folder = root / project / "e" / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"created_at": 1e9, "project": project}))
    (folder / "status.json").write_text(json.dumps({"status": "finished", "ended_at": ended_at}))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def manager(tmp_path: Path) -> rn.ExperimentManager:
    return rn.ExperimentManager(tmp_path)


def ids(found: list[rn.ExperimentMetadata]) -> list[str]:
    return [record.id for record in found]


def test_runs_on_disk_are_known_without_being_registered(manager, tmp_path: Path) -> None:
    make_run(tmp_path, "one", "vision")
    assert manager.tag_experiment("one", ["b", "a", "b"])
    assert manager.tag_experiment("one", ["c"])
    [record] = manager.search_experiments(tags=["a", "c"])
    assert (record.id, record.project, record.name) == ("one", "vision", "e")
    assert record.tags == ["b", "a", "c"]
    assert not manager.tag_experiment("nobody", ["x"])
    assert manager.tag_experiment("one", ["only"], append=False)
    assert manager.search_experiments()[0].tags == ["only"]
    assert manager.describe_experiment("one", "the one")
    assert manager.search_experiments(text="THE ONE")[0].description == "the one"
    assert not manager.describe_experiment("nobody", "x")


def test_search_looks_at_text_project_and_marks(manager, tmp_path: Path) -> None:
    for run_id in ("one", "two", "gone"):
        make_run(tmp_path, run_id)
    (tmp_path / "p/e/runs/gone/.deleted").write_text("{}")
    manager.add_experiment("two", "p", "e", ["paper"], "The Long one")
    manager.archive_experiment("one")
    assert ids(manager.search_experiments()) == ["two"]
    assert ids(manager.search_experiments(text="long")) == ["two"]
    assert ids(manager.search_experiments(text="PAP")) == ["two"]
    assert sorted(ids(manager.search_experiments(archived=True))) == ["one", "two"]
    assert manager.search_experiments(project="q") == []
    stats = manager.get_experiment_stats()
    assert (stats["total"], stats["archived"], stats["active"]) == (2, 1, 1)
    assert stats["projects"] == {"p": 2}


def test_what_is_pinned_stays_and_the_rest_is_removed_for_good(manager, tmp_path: Path) -> None:
    one, two = make_run(tmp_path, "one"), make_run(tmp_path, "two")
    manager.pin_experiment("one")
    assert manager.delete_experiments(["one", "two", "x"]) == {
        "one": False,
        "two": True,
        "x": False,
    }
    assert one.exists()
    assert not two.exists()
    assert manager.delete_experiments(["one"], force=True) == {"one": True}
    assert "one" not in layout.read_json(manager.metadata_file)


@pytest.mark.parametrize("run_id", ["..", "../..", ".", "", "../../keep", "/", "e"])
def test_nothing_outside_a_runs_own_folder_is_deleted(manager, tmp_path: Path, run_id) -> None:
    folder = make_run(tmp_path, "one")
    (tmp_path / "p" / "keep").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder.parent / "link").symlink_to(outside)
    before = sorted(tmp_path.rglob("*"))
    assert manager.delete_experiments([run_id, "link"]) == {run_id: False, "link": False}
    assert [path for path in sorted(tmp_path.rglob("*")) if path.suffix != ".lock"] == before


def test_cleanup_takes_what_is_old_and_neither_kept_nor_running(manager, tmp_path: Path) -> None:
    for run_id in ("old", "pinned", "running"):
        make_run(tmp_path, run_id, ended_at=1e9)
    make_run(tmp_path, "new", ended_at=4e9)
    (tmp_path / "p/e/runs/running/status.json").write_text('{"status": "running"}')
    manager.pin_experiment("pinned")
    assert manager.cleanup_old_experiments(30) == ["old"]
    assert (tmp_path / "p/e/runs/old").exists()
    assert manager.cleanup_old_experiments(30, dry_run=False) == ["old"]
    assert not (tmp_path / "p/e/runs/old").exists()


def test_many_hands_write_one_record(manager, tmp_path: Path) -> None:
    make_run(tmp_path, "one")
    threads = [
        threading.Thread(target=manager.tag_experiment, args=("one", [f"t{i}"])) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(manager.search_experiments()[0].tags) == 20


def test_a_damaged_record_hides_no_run(manager, tmp_path: Path) -> None:
    make_run(tmp_path, "one")
    make_run(tmp_path, "two")
    damaged = {"one": {"tags": "abc", "updated_at": "x", "pinned": 3, "later": 1}, "two": 5}
    manager.metadata_file.write_text(json.dumps(damaged))
    assert sorted(ids(manager.search_experiments())) == ["one", "two"]
    manager.pin_experiment("one")
    assert layout.read_json(manager.metadata_file)["one"]["later"] == 1
