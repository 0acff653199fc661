"""A run that is on disk is there, whether the indexer has come to it or not."""

from __future__ import annotations

import json
import shutil

import httpx
import pytest
from websockets.sync.client import connect

from runicorn import layout
from runs.ingest import folder_source
from runs.models import Run
from tests.runs.conftest import Root
from tests.servers import viewer, wait_until

DOORS = [
    "/api/runs/{}",
    "/api/runs/{}/metrics",
    "/api/runs/{}/metrics_step",
    "/api/runs/{}/system",
    "/api/v2/experiments/{}",
    "/api/v2/experiments/{}/metrics/fast",
    "/api/export/{}/csv",
    "/api/export/{}/report",
    "/api/export?run_ids={}",
    "/api/runs/{}/artifacts",
    "/runs/{}",
    "/runs/{}/live",
]


def answer(client, address, run_id):
    response = client.get(address.format(run_id))
    response.getvalue()  # long answers are streamed
    return response.status_code


@pytest.mark.parametrize("door", DOORS)
def test_no_door_says_that_it_is_not_there(root, api, door):
    run, other = root.run(), root.run()
    run.log({"global_step": 1, "loss": 0.5})
    assert answer(api.client, door, run.id) == 200
    assert list(Run.objects.values_list("run_id", flat=True)) == [run.id]  # and no other
    assert answer(api.client, door, other.id + "0") == 404
    shutil.rmtree(run.path)
    assert answer(api.client, "/api/runs/{}", run.id) == 404


@pytest.mark.parametrize(
    "place",
    [
        *("p/e/runs/{}", "a/b/c/e/runs/{}", ".hidden/e/runs/{}"),
        *("runs/{}", "runs/p/{}", "runs/p/e/deep/{}", "runs/.recycle/{}"),
    ],
)
def test_it_is_found_in_every_layout(root, api, place):
    run_id = "20260101_000000_aaaaaa"
    folder = root.path / place.format(run_id)
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"id": run_id, "created_at": 5}))
    places = [directory for directory, _ in layout.iter_run_dirs(root.path)]
    is_deleted = ".recycle" in place
    expected = 404 if is_deleted or not places else 200
    assert answer(api.client, "/api/runs/{}", run_id) == expected
    assert Run.objects.count() == len(places)


def test_it_is_found_in_the_folder_of_another_run(root, api):
    outer, inner = "20260101_000000_aaaaaa", "20260101_000000_bbbbbb"
    for place in (outer, f"{outer}/{inner}"):
        folder = root.path / "runs/p" / place
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"id": folder.name, "created_at": 5}))
    assert answer(api.client, "/api/runs/{}", inner) == 200


def test_of_copies_each_is_found(root, api):
    run = root.run()
    shutil.copytree(run.path, root.path / "p/copy/runs" / run.id)
    assert api.get(f"/runs/{run.id}")["name"] == "e"
    assert api.get(f"/runs/{run.id}?dir=p/copy/runs/{run.id}")["run_dir"].endswith(
        f"/p/copy/runs/{run.id}"
    )


def test_a_verb_on_copies_changes_none(root, api):
    run = root.run()
    shutil.copytree(run.path, root.path / "p/copy/runs" / run.id)
    changes = {"notes": "x"}
    response = api.client.patch(f"/api/runs/{run.id}", changes, content_type="application/json")
    assert response.status_code == 409


@pytest.mark.parametrize("verb", ["soft-delete", "restore"])
def test_verbs_find_it_too(root, api, verb):
    run = root.run()
    if verb == "restore":
        run.write(".deleted", {"deleted_at": 1.0})
    body = {"run_ids": [run.id]}
    path = {"soft-delete": "/runs/soft-delete", "restore": "/recycle-bin/restore"}[verb]
    assert api.post(path, body)["results"] == {run.id: {"success": True}}


def test_a_batch_of_v2_finds_it_too(root, api):
    run = root.run()
    answer = api.post("/v2/experiments/batch-delete", {"exp_ids": [run.id]})
    assert answer["results"] == {run.id: True}


@pytest.mark.parametrize("run_id", ["x" * 300, "%00", ".runicorn", "..", "a%2Fb", "é" * 200])
def test_what_can_be_no_folder_is_not_looked_for(root, api, monkeypatch, run_id):
    monkeypatch.setattr(layout, "iter_run_dirs", None)
    assert api.client.get(f"/api/runs/{run_id}").status_code == 404


def test_a_run_that_has_a_row_is_not_looked_for(root, api, monkeypatch):
    run = root.run()
    run.write(".deleted", {"deleted_at": 1.0})
    root.scan()
    monkeypatch.setattr(layout, "iter_run_dirs", None)
    api.get(f"/runs/{run.id}", 404)


def test_one_that_cannot_be_indexed_is_no_error_of_the_request(root, api, monkeypatch):
    run = root.run()

    def broken(*arguments):
        raise ValueError("this run cannot be indexed")

    monkeypatch.setattr(folder_source, "_new_run", broken)
    api.get(f"/runs/{run.id}", 404)


def test_only_the_folders_of_experiments_are_listed(root):
    wanted = [root.run(name=f"e{number % 3}").id for number in range(30)][7]
    found = list(layout.iter_run_dirs(root.path, {wanted}))
    assert [directory for directory, _ in found] == [f"p/e1/runs/{wanted}"]


def test_a_server_that_has_just_started_knows_every_run(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    run = root.run()
    run.write("logs.txt", b"one\n")
    for _ in range(60):
        root.run().log(*({f"k{key}": step for key in range(20)} for step in range(50)))
    with viewer(root.path) as server:
        wait_until(lambda: server.health()["status"] is not None, "up")
        for number in range(5):
            new = root.run(run_id=f"20270101_000000_{number:06x}")
            new.write("logs.txt", b"one\n")
            for run_id in (run.id, new.id):
                assert httpx.get(f"{server.url}/api/runs/{run_id}").status_code == 200
            late = root.run(run_id=f"20280101_000000_{number:06x}")
            late.write("logs.txt", b"one\n")
            with connect(f"{server.ws_url}/api/runs/{late.id}/logs/ws") as socket:
                assert socket.recv(timeout=5) == "one"
