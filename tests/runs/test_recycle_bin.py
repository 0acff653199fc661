"""Soft-delete, restore and purge through the API, and by others on the same folder."""

from __future__ import annotations

import json

import pytest


def bin_ids(api):
    return [run["id"] for run in api.get("/recycle-bin")["deleted_runs"]]


def test_deleted_restored_and_gone(root, api):
    run, other = root.run(), root.run()
    run.log({"global_step": 1, "loss": 1})
    root.scan()
    answer = api.post("/runs/soft-delete", {"run_ids": [run.id]})
    assert answer == {
        "deleted_count": 1,
        "results": {run.id: {"success": True}},
        "message": "Soft deleted 1 of 1 runs",
    }
    marker = json.loads((run.path / ".deleted").read_text())
    assert (marker["reason"], marker["original_status"]) == ("user_deleted", "finished")
    assert api.ids() == [other.id]
    for route in ("", "/metrics", "/metrics_step", "/artifacts"):
        api.get(f"/runs/{run.id}{route}", status=404)
    [item] = api.get("/recycle-bin")["deleted_runs"]
    assert item["deleted_at"] == pytest.approx(marker["deleted_at"], abs=1e-3)
    assert item["run_dir"] == str(run.path)

    assert api.post("/recycle-bin/restore", {"run_ids": [run.id]})["restored_count"] == 1
    assert not (run.path / ".deleted").exists()
    assert bin_ids(api) == []
    assert len(api.get(f"/runs/{run.id}/metrics_step")["rows"]) == 1

    api.post("/runs/soft-delete", {"run_ids": [run.id]})
    assert api.post("/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 1
    assert not run.path.exists()
    assert other.path.exists()
    assert bin_ids(api) == []
    root.scan()
    assert api.ids() == [other.id]


def test_another_viewer_on_the_same_folder_deletes_and_restores(root, api):
    run = root.run()
    root.scan()
    run.write(".deleted", {"deleted_at": 1.5, "reason": "theirs", "original_status": "running"})
    api.get(f"/runs/{run.id}", status=404)
    assert api.ids() == []
    [item] = api.get("/recycle-bin")["deleted_runs"]
    assert (item["deleted_at"], item["delete_reason"]) == (1.5, "theirs")
    (run.path / ".deleted").unlink()
    root.scan()
    assert api.ids() == [run.id]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"deleted_at": "x"}'])
def test_any_marker_deletes(root, api, content):
    run = root.run()
    run.write(".deleted", content)
    root.scan()
    assert api.ids() == []
    [item] = api.get("/recycle-bin")["deleted_runs"]
    assert (item["delete_reason"], item["original_status"]) == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "run_ids is required and must be a list"),
        ({"run_ids": []}, "run_ids is required and must be a list"),
        ({"run_ids": "20260101_000000_000001"}, "run_ids is required and must be a list"),
        ({"run_ids": ["20260101_000000_000001", 1]}, "Invalid run_id format: 1"),
        ({"run_ids": ["20260101_000000_000001\n"]}, "Invalid run_id format"),
        ({"run_ids": ["../../etc"]}, "Invalid run_id format: ../../etc"),
    ],
)
def test_one_bad_id_changes_nothing(root, api, body, detail):
    run = root.run()
    root.scan()
    for path in ("/runs/soft-delete", "/recycle-bin/restore"):
        answer = api.post(path, body, status=400)
        assert answer["detail"].startswith(detail)
        assert answer["errors"][0]["loc"][:2] == ["body", "run_ids"]
    assert api.ids() == [run.id]


def test_a_hundred_at_once_and_no_more(root, api):
    ids = [f"20260101_000000_{n:06x}" for n in range(101)]
    assert "100 runs at once" in api.post("/runs/soft-delete", {"run_ids": ids}, 400)["detail"]
    answer = api.post("/runs/soft-delete", {"run_ids": ids[:100]})
    assert answer["deleted_count"] == 0
    assert answer["results"][ids[0]] == {"success": False, "error": "run not found"}


@pytest.mark.parametrize("confirm", [None, False, 1, "true", "yes", [True]])
def test_only_true_empties_the_bin(root, api, confirm):
    run = root.run()
    run.write(".deleted", b"{}")
    root.scan()
    api.post("/recycle-bin/empty", {"confirm": confirm}, status=400)
    assert run.path.exists()


def test_purging_follows_no_link(root, api):
    run = root.run()
    treasure = root.path.parent / "treasure"
    treasure.mkdir()
    (treasure / "model.bin").write_bytes(b"x")
    (run.path / "link").symlink_to(treasure)
    run.write(".deleted", b"{}")
    root.scan()
    api.post("/recycle-bin/empty", {"confirm": True})
    assert not run.path.exists()
    assert (treasure / "model.bin").exists()


def test_a_run_deleted_while_it_runs_goes_on_logging(root, api):
    run = root.run()
    run.write("status.json", {"status": "running"})
    root.scan()
    api.post("/runs/soft-delete", {"run_ids": [run.id]})
    run.log({"global_step": 1, "a": 1})
    api.post("/recycle-bin/restore", {"run_ids": [run.id]})
    assert len(api.get(f"/runs/{run.id}/metrics_step")["rows"]) == 1
    assert api.get(f"/runs/{run.id}")["status"] == "running"
