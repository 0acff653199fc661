"""Folders of every Runicorn, over HTTP: what is listed, changed, moved and never touched."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from runs.models import Run

DATA = Path(__file__).parents[1] / "data" / "runicorn-0.7.2"


@pytest.fixture
def catalog(root):
    """Unpacks the root that 0.4.0, 0.6.0 and 0.7.2 have written, and tells its runs."""
    with tarfile.open(DATA / "storage.tar.gz") as archive:
        archive.extractall(root.path, filter="data")
    root.scan()
    return json.loads((DATA / "catalog.json").read_text())["runs"]


def files(path: Path) -> set[Path]:
    return {each for each in path.rglob("*") if ".runicorn" not in each.parts}


def test_a_root_of_three_versions_is_listed_whole(root, api, catalog) -> None:
    active = {key: run for key, run in catalog.items() if "deleted" not in run}
    listed = {run["run_dir"]: run for run in api.get("/runs")}
    assert listed.keys() == {str(root.path / run["dir"]) for run in active.values()}
    for told in active.values():
        run = listed[str(root.path / told["dir"])]
        path = told["path"] if told["path"] is not None else f"{told['project']}/{told['name']}"
        parts = [part for part in path.split("/") if part]
        assert run["project"] == (parts[0] if parts else None)
        assert run["name"] == ("/".join(parts[1:]) or None)
    deleted = {run["id"]: run for run in api.get("/recycle-bin")["deleted_runs"]}
    assert deleted.keys() == {run["id"] for run in catalog.values() if "deleted" in run}
    assert deleted[catalog["path_deleted"]["id"]]["project"] == "scratch"
    assert deleted[catalog["path_deleted"]["id"]]["name"] == "tmp"
    assert Run.objects.count() == len(catalog)


@pytest.mark.parametrize("escape", [quote, lambda text: quote(text, safe="")])
def test_experiments_with_slashes_have_addresses(root, api, catalog, escape, client) -> None:
    names = api.get("/projects/cv/names")["names"]
    assert {"resnet", "detection/yolo", "detection/yolo/ablation"} <= set(names)
    for name in names:
        runs = api.get(f"/projects/cv/names/{escape(name)}/runs")
        assert {(run["project"], run["name"]) for run in runs} == {("cv", name)}
    both = api.get(f"/projects/cv/names/{escape('resnet')}/runs")
    assert {run["id"] for run in both} >= {catalog["old_cv"]["id"], catalog["resnet_a"]["id"]}


def test_a_project_with_slashes_has_an_address(root, api) -> None:
    run = root.run(project="a/b", name="e")
    root.scan()
    assert api.get("/projects")["projects"] == ["a/b"]
    for project in ("a/b", "a%2Fb"):
        assert api.get(f"/projects/{project}/names")["names"] == ["e"]
        assert [r["id"] for r in api.get(f"/projects/{project}/names/e/runs")] == [run.id]


def test_emptying_the_bin_touches_nothing_else(root, api, catalog) -> None:
    before = files(root.path)
    assert api.post("/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 4
    gone = [root.path / run["dir"] for run in catalog.values() if "deleted" in run]
    left = {path for path in before if not any(path.is_relative_to(folder) for folder in gone)}
    assert files(root.path) == left
    root.scan()
    assert Run.objects.count() == len(catalog) - 4


def test_every_run_can_be_deleted_and_restored(root, api, catalog, client) -> None:
    """The bin of 0.7 is left by restoring; the rows stay the same."""
    for told in catalog.values():
        run = Run.objects.get(directory=told["dir"])
        from runs import actions

        if "deleted" not in told:
            assert actions.soft_delete_runs([run], by=None) == {run.run_id: None}
            run.refresh_from_db()
        assert actions.restore_runs([run], by=None) == {run.run_id: None}
        run.refresh_from_db()
        assert not run.is_deleted
        assert (root.path / run.directory / "meta.json").exists()
    before = set(Run.objects.values_list("pk", "directory"))
    root.scan()
    assert set(Run.objects.values_list("pk", "directory")) == before
    assert api.get("/recycle-bin")["deleted_runs"] == []
    assert not list((root.path / "runs/.recycle").iterdir())


def test_whatever_is_listed_can_be_deleted_and_restored(root, api) -> None:
    run = root.run(run_id="my run")
    root.scan()
    assert api.post("/runs/soft-delete", {"run_ids": [run.id]})["deleted_count"] == 1
    assert api.post("/recycle-bin/restore", {"run_ids": [run.id]})["restored_count"] == 1
    for odd in ("your run", "x" * 300, "a b/c"):
        assert "Invalid run_id" in api.post("/runs/soft-delete", {"run_ids": [odd]}, 400)["detail"]


def test_a_run_that_holds_runs_stays(root, api, catalog) -> None:
    outer, inner = catalog["resnet_a"], catalog["nested"]
    api.post("/recycle-bin/empty", {"confirm": True})
    api.post("/runs/soft-delete", {"run_ids": [outer["id"]]})
    answer = api.post("/recycle-bin/empty", {"confirm": True})
    assert answer["permanently_deleted"] == 0
    assert "holds other runs" in answer["refused"][outer["id"]]
    assert (root.path / inner["dir"] / "meta.json").exists()
    api.post("/runs/soft-delete", {"run_ids": [inner["id"]]})
    assert api.post("/recycle-bin/empty", {"confirm": True})["permanently_deleted"] >= 1


def test_a_run_that_is_running_is_not_purged(root, api) -> None:
    run = root.run(hostname="elsewhere")
    run.write("status.json", {"status": "running"})
    root.scan()
    api.post("/runs/soft-delete", {"run_ids": [run.id]})
    answer = api.post("/recycle-bin/empty", {"confirm": True})
    assert (answer["permanently_deleted"], list(answer["refused"])) == (0, [run.id])
    assert (run.path / "meta.json").exists()
    response = api.client.delete(
        "/api/experiments/delete", {"run_ids": [run.id]}, content_type="application/json"
    )
    assert response.json() == {"results": {run.id: False}}


# -- moves ---------------------------------------------------------------------------------------


def move(client, run_id: str, status: int = 200, query: str = "", **place):
    response = client.patch(f"/api/runs/{run_id}{query}", place, content_type="application/json")
    assert response.status_code == status, response.content
    return response.json()


def test_a_run_is_moved_and_stays_the_same(root, api, client) -> None:
    run, other = root.run(), root.run()
    run.log({"loss": 0.5, "global_step": 1, "time": 1.0})
    root.scan()
    api.post("/experiments/tag", {"run_id": run.id, "tags": ["kept"]})
    key = Run.objects.get(run_id=run.id).pk
    answer = move(client, run.id, project="q", name="f")
    assert (answer["project"], answer["name"], answer["tags"]) == ("q", "f", ["kept"])
    assert answer["run_dir"] == str(root.path / "q/f/runs" / run.id)
    assert Run.objects.get(run_id=run.id).pk == key
    root.scan()
    assert Run.objects.get(run_id=run.id).pk == key
    assert api.get(f"/runs/{run.id}/metrics_step")["rows"][0]["loss"] == 0.5
    assert [r["id"] for r in api.get("/projects/q/names/f/runs")] == [run.id]
    assert api.ids() == [other.id, run.id]  # in the order of projects
    assert move(client, run.id, name="g")["project"] == "q"


def test_a_move_that_cannot_be_says_why(root, api, client) -> None:
    run, living = root.run(), root.run(hostname="elsewhere")
    living.write("status.json", {"status": "running"})
    shutil.copytree(run.path, root.path / "q/f/runs" / run.id)
    (root.path / "q/f/runs" / run.id / "meta.json").unlink()
    (root.path / "q/f/runs" / run.id / "status.json").unlink()  # so it is no run
    root.scan()
    assert "still running" in move(client, living.id, 409, project="q", name="f")["detail"]
    assert "taken" in move(client, run.id, 409, project="q", name="f")["detail"]
    assert "Invalid name" in move(client, run.id, 400, name="a/b")["detail"]
    move(client, "20260101_000000_ffffff", 404, name="b")
    assert (run.path / "meta.json").exists()


# -- copies --------------------------------------------------------------------------------------


@pytest.fixture
def copied(root):
    run = root.run()
    run.log({"loss": 0.5, "global_step": 1, "time": 1.0})
    copy = root.path / "copy/e/runs" / run.id
    shutil.copytree(run.path, copy)
    (copy / "summary.json").write_text('{"best_metric_value": 7}')
    root.scan()
    return run, f"copy/e/runs/{run.id}"


def test_copies_are_listed_and_the_original_is_shown(root, api, copied, client) -> None:
    run, copy = copied
    assert {r["run_dir"] for r in api.get("/runs")} == {str(run.path), str(root.path / copy)}
    for path in ("", "/metrics_step"):
        assert api.get(f"/runs/{run.id}{path}") is not None
    assert api.get(f"/runs/{run.id}")["run_dir"] == str(run.path)
    assert api.get(f"/runs/{run.id}?dir={copy}")["run_dir"] == str(root.path / copy)
    api.get(f"/runs/{run.id}?dir=elsewhere", 404)
    for query, best in (("", None), (f"?dir={copy}", 7)):
        assert f'"best_metric_value":{json.dumps(best)}' in json.dumps(
            api.get(f"/v2/experiments/{run.id}{query}"), separators=(",", ":")
        )
    page = client.get("/").content.decode()
    assert f"/runs/{run.id}?dir={quote(copy)}" in page
    assert client.get(f"/runs/{run.id}", {"dir": copy}).status_code == 200
    assert client.get(f"/runs/{run.id}/live", {"dir": copy}).status_code == 200


def test_an_ambiguous_id_changes_nothing(root, api, copied, client) -> None:
    run, copy = copied
    before = files(root.path)
    told = [
        api.post("/runs/soft-delete", {"run_ids": [run.id]}, 409),
        api.post("/experiments/tag", {"run_id": run.id, "tags": ["t"]}, 409),
        api.post("/v2/experiments/batch-delete", {"exp_ids": [run.id]}, 409),
        move(client, run.id, 409, notes="n"),
        move(client, run.id, 409, name="f"),
        client.delete(
            "/api/experiments/delete", {"run_ids": [run.id]}, content_type="application/json"
        ).json(),
    ]
    assert all(copy in answer["detail"] for answer in told)
    assert files(root.path) == before
    assert api.post(f"/runs/soft-delete?dir={copy}", {"run_ids": [run.id]})["deleted_count"] == 1
    assert api.get(f"/runs/{run.id}")["run_dir"] == str(run.path)
    assert api.post("/runs/soft-delete", {"run_ids": [run.id]})["deleted_count"] == 1
    api.post("/recycle-bin/restore", {"run_ids": [run.id]}, 409)
    assert api.post(f"/recycle-bin/restore?dir={copy}", {"run_ids": [run.id]})["restored_count"]
    assert move(client, run.id, notes="n")["run_dir"] == str(root.path / copy)
