"""Which folders are runs, in every layout that a Runicorn has written, and which never are."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from runicorn import archive, layout
from runicorn.run_store import RunNotFound, RunStore

FOREIGN = [
    "runs/exp1/events.out.tfevents.1.host.1.0",
    "runs/detect/train/weights/best.pt",
    "runs/detect/train/args.yaml",
    "runs/empty/deep/",
    "runs/meta.json",  # in runs itself, which is no run
    "p/e/meta.json",
    "p/meta.json",
    "meta.json",
    "p/runs/x/meta.json",
    "p/e/runs/nothing/",
    "p/e/runs/only-logs/logs.txt",
    "runs/only-media/media/a.png",
    "artifacts/model/runs/v1/meta.json",
    "archive/a/runs/x/meta.json",
    ".runicorn/a/runs/x/meta.json",
    "runs/.hidden/x/meta.json",
    "runs/a/.hidden/meta.json",
    "a/b/.hidden/e/runs/x/meta.json",
    "p/e/node_modules/q/e/runs/x/meta.json",
]


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text("{}")


def directories(root: Path) -> list[str]:
    return sorted(directory for directory, _ in layout.iter_run_dirs(root))


def test_the_runs_of_04_06_and_07_side_by_side(recorded_07, catalog_07) -> None:
    assert directories(recorded_07) == sorted(run["dir"] for run in catalog_07.values())
    store = RunStore(recorded_07)
    runs = {run.directory: run for run in store.runs()}
    for key, told in catalog_07.items():
        run = runs[told["dir"]]
        assert run.run_id == told["id"], key
        assert run.is_deleted == ("deleted" in told), key
        path = told["path"] if told["path"] is not None else f"{told['project']}/{told['name']}"
        parts = [part for part in path.split("/") if part]
        expected = (parts[0] if parts else None, "/".join(parts[1:]) or None)
        assert (run.project, run.name) == expected, key
    named = runs[catalog_07["resnet_a"]["dir"]].annotations
    meta = layout.read_json(recorded_07 / catalog_07["resnet_a"]["dir"] / "meta.json")
    assert meta["alias"] and meta["tags"]
    assert (named.display_name, named.tags) == (meta["alias"], list(dict.fromkeys(meta["tags"])))


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_run_is_neither_listed_nor_touched(root, store, make_run, name) -> None:
    good = make_run()
    put(root, name)
    assert directories(root) == [good]
    folder = name.rstrip("/").rpartition("/")[0]
    packed = b"".join(archive.export_runs(root, directories(root)))
    assert archive.import_archive(io.BytesIO(packed), root, dry_run=True).unchanged == [good]
    if folder not in ("", good):
        store.purge([folder], force=True)
        with pytest.raises(RunNotFound):
            store.delete(folder)
    assert (root / name).exists()
    assert layout.run_dir_of(root, name) is None


@pytest.mark.parametrize("run_file", layout.RUN_FILES)
@pytest.mark.parametrize(
    ("directory", "place"),
    [
        ("p/e/runs/x", ("p", "e")),
        ("p/runs/runs/x", ("p", "runs")),
        ("a/b/e/runs/x", ("a/b", "e")),
        ("a/b/c/d/e/runs/x", ("a/b/c/d", "e")),
        ("runs/x", (None, None)),
        ("runs/p/x", ("p", None)),
        ("runs/p/e/x", ("p", "e")),
        ("runs/p/e/f/g/x", ("p", "e/f/g")),
        ("runs/runs/media/x", ("runs", "media")),
        ("runs/a/b/runs/x", ("a", "b/runs")),
        ("runs/.recycle/x", (None, None)),
        ("图像/分类 é/runs/实验", ("图像", "分类 é")),
        ("/".join(["runs", *("abcdefghijklmnopqrstuvwxyzABCD"), "x"]), None),
    ],
)
def test_one_file_of_its_own_makes_a_folder_a_run(root, directory, place, run_file) -> None:
    put(root, f"{directory}/{run_file}", f"{directory}/media/x.png", f"{directory}/ckpt/meta.json")
    assert directories(root) == [directory]
    if place is not None:
        assert layout.split_run_dir(directory) == (*place, directory.rpartition("/")[2])
    for inner in ("", "/events.jsonl", "/media/x.png", "/ckpt/meta.json"):
        assert layout.run_dir_of(root, directory + inner) == directory
    assert layout.run_dir_of(root, directory.rpartition("/")[0]) is None


def test_runs_that_lie_too_deep_are_not_looked_for(root) -> None:
    put(root, "/".join(["runs", *("d" * 40), "x", "meta.json"]))
    put(root, "/".join([*("d" * 40), "e", "runs", "x", "meta.json"]))
    assert directories(root) == []


def test_links_lead_to_what_04_would_find_and_nowhere_else(root, tmp_path) -> None:
    elsewhere = tmp_path / "disk"
    put(elsewhere, "e/runs/x/meta.json", "deep/e/runs/y/meta.json")
    put(root, "q/f/runs/z/meta.json", "runs/7/z/meta.json")
    (root / "linked").symlink_to(elsewhere)
    (root / "q/linked").symlink_to(elsewhere / "e")
    (root / "q/round").symlink_to(root)
    (root / "round").symlink_to(root)
    (root / "runs/linked").symlink_to(elsewhere / "e/runs")
    (root / "q/f/runs/link").symlink_to(elsewhere / "e/runs/x")
    assert directories(root) == [
        "linked/e/runs/x",
        "q/f/runs/z",
        "q/linked/runs/x",
        "runs/7/z",
    ]


def test_a_name_that_is_no_utf8_hides_no_other(root) -> None:
    put(root, "p/e/runs/x/meta.json", "runs/p/y/meta.json")
    for parent in (b"p/e/runs", b"runs/p", b"p", b""):
        folder = os.path.join(os.fsencode(root), parent, b"\xff\xfe")
        Path(os.fsdecode(folder)).mkdir(parents=True)
        with open(os.path.join(folder, b"meta.json"), "w") as file:
            file.write("{}")
    assert directories(root) == ["p/e/runs/x", "runs/p/y"]


def test_a_run_in_a_runs_folder_is_one_and_keeps_the_outer_from_removal(root, store, make_run):
    outer = make_run("runs/p/e/outer", path="p/e")
    inner = make_run("runs/p/e/outer/inner", path="p/e/outer")
    put(root, f"{outer}/ckpt/meta.json")  # says no name, so it is no run
    assert directories(root) == [outer, inner]
    assert layout.run_dir_of(root, f"{inner}/events.jsonl") == inner
    store.delete(outer)
    _, refusals = store.purge([outer], force=True)
    assert "holds other runs" in refusals[outer]
    with pytest.raises(Exception, match="holds other runs"):
        store.move(outer, "q", "e")
    store.delete(inner)
    assert store.purge([inner, outer])[1] == {}
    assert not (root / outer).exists()
    assert (root / "runs/p/e").exists()


def test_every_layout_comes_back_from_an_archive_file_by_file(recorded_07, tmp_path) -> None:
    put(recorded_07, "a/b/e/runs/slash/meta.json", "runs/legacy/meta.json", "runs/legacy/.deleted")
    target = tmp_path / "target"
    target.mkdir()
    names = directories(recorded_07)
    packed = b"".join(archive.export_runs(recorded_07, names, artifacts=True))
    report = archive.import_archive(io.BytesIO(packed), target)
    assert report.refused == []
    assert directories(target) == names
    for name in names:
        for folder, _, files in os.walk(recorded_07 / name):
            for file in files:
                there = Path(folder, file)
                came = target / there.relative_to(recorded_07)
                assert came.read_bytes() == there.read_bytes()
                assert came.stat().st_mtime_ns == there.stat().st_mtime_ns
    assert (target / "runs/legacy/.deleted").exists()
    assert b"".join(archive.export_runs(target, names, artifacts=True)) == packed
    again = archive.import_archive(io.BytesIO(packed), target)
    assert (again.new, again.replaced, again.kept, again.refused) == ([], [], [], [])


def test_annotations_travel_from_wherever_they_lie(root, store, make_run, tmp_path) -> None:
    ours = make_run("p/e/runs/ours")
    theirs = make_run("runs/p/e/theirs", path="p/e")
    store.tag(ours, ["new"])
    (root / layout.EXPERIMENTS_METADATA).write_text(
        '{"theirs": {"id": "theirs", "tags": ["old"], "description": "n", "updated_at": 5}}'
    )
    target = tmp_path / "target"
    target.mkdir()
    packed = b"".join(archive.export_runs(root, [ours, theirs]))
    archive.import_archive(io.BytesIO(packed), target)
    there = RunStore(target)
    assert there.annotations(ours).tags == ["new"]
    assert (there.annotations(theirs).tags, there.annotations(theirs).notes) == (["old"], "n")
    assert b"".join(archive.export_runs(target, [ours, theirs])) == packed


def test_listing_looks_once_at_each_folder(root, monkeypatch) -> None:
    for number in range(50):
        put(root, f"p/e/runs/{number}/meta.json", f"runs/p/e/{number}/meta.json")
    scanned = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    assert len(directories(root)) == 100
    # The root, p, p/e, p/e/runs, runs, runs/p, runs/p/e; and the runs of 0.7, which may hold runs.
    assert len(scanned) == len(set(map(str, scanned))) == 57


@pytest.mark.slow
def test_ten_thousand_runs_are_listed_in_a_moment(root) -> None:
    for number in range(10_000):
        put(root, f"p/e{number % 50}/runs/{number}/meta.json")
    started = time.process_time()
    assert len(directories(root)) == 10_000
    assert time.process_time() - started < 2  # 0.05 s on an idle machine
