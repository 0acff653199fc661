"""Tags, notes and marks: where they lie, who may write them at once, and damage of every kind."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runicorn import layout
from runicorn.run_store import RunStore, experiments_file

DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "garbled": lambda content: b"\x00\xff" * (len(content) // 2),
    "a quote lost": lambda content: content.replace(b'"', b"", 1),
    "no object": lambda content: b"[" + content + b"]",
    "not UTF-8": lambda content: content.replace(b"keep", b"ke\xff\xfep"),
}


def read_metadata(root: Path) -> dict[str, Any]:
    experiments_file(root).flush()
    return json.loads((root / layout.EXPERIMENTS_METADATA).read_text())


def write_metadata(root: Path, **records: dict[str, Any]) -> None:
    (root / layout.EXPERIMENTS_METADATA).write_text(json.dumps(records))


def make_old(path: Path) -> None:
    """As if nobody were still writing the file."""
    os.utime(path, (1e9, 1e9))


def test_annotations_lie_in_the_run_and_go_with_it(root, store, make_run) -> None:
    run = make_run()
    before = (root / run).stat().st_mtime_ns
    store.tag(run, ["a", "b", "a"])
    store.tag(run, ["c"])
    store.set_notes(run, "论文")
    store.set_display_name(run, "the one")
    store.pin(run)
    store.archive(run)
    document = json.loads((root / run / "annotations.json").read_text())
    assert document.pop("updated_at") == pytest.approx(time.time(), abs=60)
    assert document == {
        "tags": ["a", "b", "c"],
        "notes": "论文",
        "pinned": True,
        "archived": True,
        "display_name": "the one",
    }
    assert (root / run).stat().st_mtime_ns == before  # 0.4 lists by it
    assert not (root / layout.EXPERIMENTS_METADATA).exists()
    assert [path.name for path in (root / run).glob("*.lock")] == []
    store.delete(run)
    store.purge([run])
    make_run()
    assert store.annotations(run) == RunStore(root).annotations(run)
    assert store.annotations(run).notes == ""


def test_members_of_other_versions_stay(root, store, make_run) -> None:
    run = make_run()
    (root / run / "annotations.json").write_text('{"later": 1, "tags": ["a"], "pinned": "x"}')
    store.tag(run, ["b"])
    document = json.loads((root / run / "annotations.json").read_text())
    assert (document["later"], document["tags"], document["pinned"]) == (1, ["a", "b"], False)


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_annotations_are_set_aside_and_never_written_over(
    root, store, make_run, how, caplog
) -> None:
    run = make_run()
    path = root / run / "annotations.json"
    store.tag(run, ["keep"])
    damaged = DAMAGE[how](path.read_bytes())
    path.write_bytes(damaged)
    make_old(path)
    assert store.annotations(run).tags == []
    assert "damaged" in caplog.text
    assert path.read_bytes() == damaged  # reading changes nothing
    store.tag(run, ["new"])
    [aside] = path.parent.glob("annotations.json.damaged-*")
    assert aside.read_bytes() == damaged
    assert store.annotations(run).tags == ["new"]
    assert f"was set aside as {aside.name}" in caplog.text


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_of_04_is_set_aside_and_takes_nobodys_tags(root, store, make_run, how):
    one, two = make_run("p/e/runs/one"), make_run("p/e/runs/two")
    write_metadata(root)
    for run in (one, two):
        store.tag(run, ["keep"])
    path = root / layout.EXPERIMENTS_METADATA
    read_metadata(root)
    damaged = DAMAGE[how](path.read_bytes())
    path.write_bytes(damaged)
    make_old(path)
    store.tag(one, ["new"])
    assert read_metadata(root)["one"]["tags"] == ["keep", "new"]
    [aside] = root.glob(f"{layout.EXPERIMENTS_METADATA}.damaged-*")
    assert aside.read_bytes() == damaged
    assert store.annotations(two).tags == ["keep"]


@pytest.mark.parametrize("name", ["summary.json", "config.json"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_document_of_a_run_is_set_aside(root, make_run, name, how) -> None:
    path = root / make_run() / name
    layout.update_json(path, {"keep": 1})
    damaged = DAMAGE[how](path.read_bytes())
    path.write_bytes(damaged)
    make_old(path)
    assert layout.update_json(path, {"new": 2}) == {"new": 2}
    [aside] = path.parent.glob(f"{name}.damaged-*")
    assert aside.read_bytes() == damaged


def test_a_file_that_is_being_written_in_place_is_waited_for(root, store, make_run) -> None:
    run = make_run()
    path = root / layout.EXPERIMENTS_METADATA
    path.write_text('{"other": {"id": "oth')  # as 0.4 does, without a lock

    def finish() -> None:
        time.sleep(0.3)
        path.write_text('{"other": {"id": "other", "tags": ["theirs"]}}')

    thread = threading.Thread(target=finish)
    thread.start()
    store.tag(run, ["ours"])
    records = read_metadata(root)
    thread.join()
    assert (records["other"]["tags"], records["one"]["tags"]) == (["theirs"], ["ours"])
    assert list(root.glob("*.damaged-*")) == []


# -- 0.4's file ----------------------------------------------------------------------------------


def test_a_run_without_annotations_has_those_of_04s_file(root, store, make_run) -> None:
    run = make_run()
    write_metadata(root, one={"tags": ["old"], "description": "n", "pinned": True, "updated_at": 5})
    noted = store.annotations(run)
    assert (noted.tags, noted.notes, noted.pinned, noted.archived) == (["old"], "n", True, False)
    store.tag(run, ["new"])
    assert store.annotations(run).tags == ["old", "new"]
    assert read_metadata(root)["one"]["tags"] == ["old", "new"]
    (root / layout.EXPERIMENTS_METADATA).unlink()
    assert store.annotations(run).tags == ["old", "new"]


def test_what_was_written_later_holds(root, store, make_run) -> None:
    run = make_run()
    write_metadata(root)
    store.set_display_name(run, "shown")
    store.tag(run, ["ours"])
    records = read_metadata(root)
    assert set(records["one"]) == {  # no key more: 0.7 reads no record that has one
        *("id", "project", "name", "tags", "description"),
        *("created_at", "updated_at", "archived", "pinned"),
    }
    now = records["one"]["updated_at"]
    for later, tags in ((now - 1, ["ours"]), (now, ["ours"]), (now + 1, ["theirs"])):
        write_metadata(root, one={**records["one"], "tags": ["theirs"], "updated_at": later})
        assert store.annotations(run).tags == tags
    assert store.annotations(run).display_name == "shown"
    store.tag(run, ["both"])
    assert store.annotations(run).tags == ["theirs", "both"]
    assert read_metadata(root)["one"]["tags"] == ["theirs", "both"]


def test_a_later_record_is_not_written_over_by_what_was_waiting(root, store, make_run) -> None:
    run = make_run()
    write_metadata(root)
    updated_at = store.tag(run, ["ours"]).updated_at
    write_metadata(root, one={"id": "one", "tags": ["theirs"], "updated_at": updated_at + 1})
    assert read_metadata(root)["one"]["tags"] == ["theirs"]
    assert store.annotations(run).tags == ["theirs"]


def test_records_of_others_stay_whatever_they_hold(root, store, make_run) -> None:
    run = make_run()
    write_metadata(root, two=5, one={"tags": "abc", "later": 1}, three={"x": [1]})
    store.tag(run, ["a"])
    records = read_metadata(root)
    assert (records["two"], records["three"], records["one"]["later"]) == (5, {"x": [1]}, 1)
    assert records["one"]["tags"] == ["a"]


def test_the_file_is_written_behind_and_seldom(root, store, make_run, monkeypatch) -> None:
    run = make_run()
    write_metadata(root)
    written = []
    write_bytes = layout.write_bytes
    monkeypatch.setattr(
        layout, "write_bytes", lambda path, data: written.append(path) or write_bytes(path, data)
    )
    for number in range(100):
        store.tag(run, [f"t{number}"])
    deadline = time.monotonic() + 20
    path = root / layout.EXPERIMENTS_METADATA
    while len(json.loads(path.read_text()).get("one", {"tags": []})["tags"]) < 100:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    count = sum(Path(name).name == layout.EXPERIMENTS_METADATA for name in written)
    assert 1 <= count < 50


def test_purging_takes_the_record_along_but_not_that_of_a_copy(root, store, make_run) -> None:
    one, copy = make_run("p/e/runs/one"), make_run("q/e/runs/one")
    write_metadata(root, one={"id": "one", "tags": ["t"], "updated_at": 1}, two={"id": "two"})
    for run, left in ((copy, ["one", "two"]), (one, ["two"])):
        store.delete(run)
        assert store.purge([run])[1] == {}
        assert sorted(read_metadata(root)) == left


# -- many hands ----------------------------------------------------------------------------------


def _tag_many(root: str, run: str, writer: int) -> None:
    store = RunStore(root)
    for number in range(20):
        store.tag(run, [f"{writer}-{number}"])
        store.set_notes(f"{run}-{writer}", f"{number}")
    store.experiments_file.flush()


@pytest.mark.slow
@pytest.mark.parametrize("writers", [2, 8])
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_many_writers_lose_nothing(root, store, make_run, writers, kind) -> None:
    run = make_run()
    for writer in range(writers):
        make_run(f"{run}-{writer}")
    write_metadata(root, other={"id": "other", "tags": ["kept"], "updated_at": 1})
    context = multiprocessing.get_context("spawn")
    start = threading.Thread if kind == "threads" else context.Process
    workers = [start(target=_tag_many, args=(str(root), run, n)) for n in range(writers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = {f"{writer}-{number}" for writer in range(writers) for number in range(20)}
    assert set(store.annotations(run).tags) == expected
    records = read_metadata(root)
    assert set(records["one"]["tags"]) == expected
    assert records["other"]["tags"] == ["kept"]
    for writer in range(writers):
        assert store.annotations(f"{run}-{writer}").notes == "19"
        assert records[f"one-{writer}"]["description"] == "19"


@pytest.mark.slow
def test_a_tag_takes_as_long_with_a_hundred_thousand_noted_runs(root, store, make_run) -> None:
    run = make_run()
    write_metadata(root, **{f"r{n}": {"id": f"r{n}", "tags": ["t"]} for n in range(100_000)})
    store.tag(run, ["first"])  # reads the file once
    started = time.process_time()
    for number in range(100):
        store.tag(run, [f"t{number}"])
    assert (time.process_time() - started) / 100 < 0.05  # 0.001 s on an idle machine
    assert len(read_metadata(root)) == 100_001
