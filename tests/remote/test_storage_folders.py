"""Storage folders are found by their runs, of every layout, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runicorn import storage_folders
from runicorn.storage_folders import find_storage_folders


def run(path: Path, **meta: str) -> None:
    path.mkdir(parents=True)
    (path / "meta.json").write_text(json.dumps(meta))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    run(tmp_path / "work/data/vision/net/runs/a", project="vision", name="net")
    run(tmp_path / "work/data/vision/net/runs/b", project="vision", name="net")
    run(tmp_path / ".runicorn/runs/vision/resnet/c")
    run(tmp_path / "old/runs/d")
    (tmp_path / "kept/archive").mkdir(parents=True)
    (tmp_path / "kept/index").mkdir()
    for other in ("yolo/runs/detect/train", "tb/runs/Nov29_host", "empty/runs", "node_modules/x"):
        (tmp_path / other).mkdir(parents=True)
    run(tmp_path / ".cache/runs/e")
    run(tmp_path / "node_modules/x/runs/f")
    run(tmp_path / "a/b/c/d/runs/g")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    (tmp_path / "circle").symlink_to(tmp_path)
    return tmp_path


def found(home: Path, depth: int) -> dict[str, int]:
    answer = find_storage_folders(str(home), depth)
    names = {c["path"]: c["run_count"] for c in answer["candidates"]}
    return {str(Path(path).relative_to(home)): count for path, count in names.items()}


def test_every_layout_is_found_and_nothing_else(home):
    here = {"work/data": 2, ".runicorn": 1, "old": 1, "kept": 0}
    assert found(home, 3) == here
    assert found(home, 4) == {**here, "a/b/c/d": 1}
    assert found(home, 1) == {".runicorn": 1, "old": 1, "kept": 0}
    scores = [c["score"] for c in find_storage_folders(str(home), 3)["candidates"]]
    assert scores == sorted(scores, reverse=True)


def test_it_runs_alone_and_says_what_it_cannot_search(home, tmp_path):
    source = Path(storage_folders.__file__).read_text()
    call = f"print(json.dumps(find_storage_folders({str(home)!r}, 3)))"
    command = [sys.executable, "-I", "-S", "-"]
    done = subprocess.run(command, input=f"{source}\n{call}", capture_output=True, text=True)
    assert json.loads(done.stdout) == find_storage_folders(str(home), 3)
    for missing in (tmp_path / "none", tmp_path / "old/runs/d/meta.json"):
        with pytest.raises(OSError):
            find_storage_folders(str(missing), 3)


def test_many_runs_and_folders_are_counted_up_to_a_limit(tmp_path):
    for number in range(100):
        run(tmp_path / f"root/runs/p/{number}")
    for number in range(20):
        run(tmp_path / f"roots/{number}/runs/x")
    (first, *others) = find_storage_folders(str(tmp_path), 3)["candidates"]
    assert first["run_count"] == storage_folders.MOST_RUNS
    assert len(others) == storage_folders.MOST_FOUND - 1
