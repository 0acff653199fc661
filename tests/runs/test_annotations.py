"""Tags, notes and marks as the server reads and writes them, whoever else does."""

from __future__ import annotations

import json
import os
import threading
import time

import httpx
import pytest

import runicorn as rn
from runicorn import layout
from runicorn.run_store import RunStore, experiments_file
from runs import actions, annotation
from runs.models import Run
from tests import servers


def tags_of(api, run) -> list[str]:
    return api.get(f"/runs/{run.id}")["tags"]


def noted(**members):
    return {"tags": [], "description": None, "archived": False, "pinned": False, **members}


def test_annotations_are_a_document_of_the_run(root, api) -> None:
    run = root.run()
    root.scan()
    run.write("annotations.json", {"tags": ["b", "a"], "notes": "n", "pinned": True})
    detail = api.get(f"/runs/{run.id}")
    assert (detail["tags"], detail["notes"], detail["pinned"]) == (["b", "a"], "n", True)
    run.write("annotations.json", {"tags": ["a", "b", "c"], "display_name": "Kitten"})
    detail = api.get(f"/runs/{run.id}")
    assert (detail["tags"], detail["notes"], detail["pinned"]) == (["a", "b", "c"], "", False)
    assert detail["display_name"] == "Kitten"
    assert api.get("/v2/experiments?search=kitten")["total"] == 1
    (run.path / "annotations.json").unlink()
    assert tags_of(api, run) == []


def test_what_the_api_writes_lies_in_the_run(root, api, client) -> None:
    run = root.run()
    root.scan()
    changes = {"tags": ["x"], "notes": "n", "display_name": "d", "pinned": True, "archived": True}
    answer = client.patch(f"/api/runs/{run.id}", changes, content_type="application/json").json()
    assert {key: answer[key] for key in changes} == changes
    document = json.loads((run.path / "annotations.json").read_text())
    assert {key: document[key] for key in changes} == changes
    api.post("/experiments/tag", {"run_id": run.id, "tags": ["y", "x"]})
    assert tags_of(api, run) == ["x", "y"]
    assert api.get("/experiments/search")["experiments"] == []
    [found] = api.get("/experiments/search?archived=true&tags=y,x&text=N")["experiments"]
    assert (found["tags"], found["description"], found["pinned"]) == (["x", "y"], "n", True)
    api.post("/experiments/tag", {"run_id": run.id, "tags": ["z"], "append": False})
    assert tags_of(api, run) == ["z"]


def test_an_index_made_again_knows_the_same(root, api) -> None:
    old, new, seven = root.run(), root.run(), root.run()
    records = {old.id: noted(id=old.id, tags=["old"], description="n", updated_at=5)}
    (root.path / layout.EXPERIMENTS_METADATA).write_text(json.dumps(records))
    seven.write("meta.json", {"id": seven.id, "tags": ["t"], "alias": "Alias"})
    root.scan()
    api.post("/experiments/tag", {"run_id": new.id, "tags": ["new"]})
    actions.soft_delete_runs([Run.objects.get(run_id=new.id)], by=None)

    def known():
        rows = Run.objects.order_by("run_id").prefetch_related("tags")
        return [
            (r.run_id, r.notes, r.display_name, [t.key for t in r.tags.all()], r.is_deleted)
            for r in rows
        ]

    before = known()
    assert before == [
        (old.id, "n", "", ["old"], False),
        (new.id, "", "", ["new"], True),
        (seven.id, "", "Alias", ["t"], False),
    ]
    Run.objects.all().delete()
    annotation._indexed_records.clear()
    root.scan()
    assert known() == before


@pytest.mark.parametrize("content", [b"", b'{"tags": ["a"', b"\x00\xff", b"[]"])
def test_a_damaged_document_takes_no_tags_away(root, api, content) -> None:
    run, other = root.run(), root.run()
    root.scan()
    for each in (run, other):
        api.post("/experiments/tag", {"run_id": each.id, "tags": ["keep"]})
    path = run.path / "annotations.json"
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    assert tags_of(api, run) == ["keep"]
    assert path.read_bytes() == content
    api.post("/experiments/tag", {"run_id": run.id, "tags": ["new"]})
    [aside] = run.path.glob("annotations.json.damaged-*")
    assert aside.read_bytes() == content
    assert tags_of(api, run)[-1] == "new"
    assert tags_of(api, other) == ["keep"]


def test_04s_file_is_followed(root, api) -> None:
    one, two, three = root.run(), root.run(), root.run()
    root.scan()
    manager = rn.ExperimentManager(root.path)
    manager.tag_experiment(one.id, ["ours"])
    root.scan()
    assert tags_of(api, one) == ["ours"]
    path = root.path / layout.EXPERIMENTS_METADATA
    records = json.loads(path.read_text())
    now = time.time() + 1
    records[one.id] |= {"tags": ["theirs"], "updated_at": now}
    records[two.id] = noted(id=two.id, tags=["t"], updated_at=now)
    records[three.id] = 5
    path.write_text(json.dumps(records))
    root.scan()
    assert [tags_of(api, run) for run in (one, two, three)] == [["theirs"], ["t"], []]
    del records[two.id], records[one.id]
    path.write_text(json.dumps(records))
    root.scan()
    assert [tags_of(api, run) for run in (one, two, three)] == [["ours"], [], []]


@pytest.mark.parametrize("how", ["cut", "emptied", "gone"])
def test_damage_of_04s_file_takes_nothing_from_annotated_runs(root, api, how) -> None:
    one, two = root.run(), root.run()
    root.scan()
    for run in (one, two):
        api.post("/experiments/tag", {"run_id": run.id, "tags": ["keep"]})
    file = experiments_file(root.path)
    file.flush()
    text = file.path.read_text()
    damaged = {"cut": text[:40], "emptied": ""}.get(how)
    file.path.unlink() if damaged is None else file.path.write_text(damaged)
    os.utime(root.path if damaged is None else file.path, (1e9, 1e9))
    root.scan()
    assert [tags_of(api, run) for run in (one, two)] == [["keep"], ["keep"]]
    api.post("/experiments/tag", {"run_id": one.id, "tags": ["new"]})
    file.flush()
    assert json.loads(file.path.read_text())[one.id]["tags"] == ["keep", "new"]
    asides = [path.read_text() for path in root.path.glob("*.damaged-*")]
    assert asides == ([] if damaged is None else [damaged])


def test_purging_takes_tags_and_notes_along(root, api, client) -> None:
    run = root.run()
    root.scan()
    api.post("/experiments/tag", {"run_id": run.id, "tags": ["private"]})
    api.post("/runs/soft-delete", {"run_ids": [run.id]})
    assert api.post("/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 1
    root.run(run_id=run.id)
    root.scan()
    assert tags_of(api, run) == []
    experiments_file(root.path).flush()
    assert run.id not in layout.read_json(root.path / layout.EXPERIMENTS_METADATA)


def test_who_deleted_a_run_is_known_from_its_folder(root, api, admin_user) -> None:
    run = root.run()
    root.scan()
    actions.soft_delete_runs([Run.objects.get(run_id=run.id)], by=admin_user)
    assert json.loads((run.path / ".deleted").read_text())["deleted_by"] == admin_user.username
    Run.objects.all().delete()
    root.scan()
    assert Run.objects.get(run_id=run.id).deleted_by == admin_user.username


def test_text_that_no_database_stores_is_replaced(root, api) -> None:
    run = root.run()
    run.write("annotations.json", b'{"tags": ["a\\u0000b"], "notes": "c\\ud800d"}')
    root.scan()
    assert tags_of(api, run) == ["a�b"]
    assert api.get(f"/runs/{run.id}")["notes"] == "c�d"


@pytest.mark.slow
@pytest.mark.parametrize("clients", [2, 8])
def test_tags_of_several_clients_are_all_kept_while_the_watcher_looks(tmp_path, clients) -> None:
    root = tmp_path / "root"
    folder = root / "p/e/runs/20260101_000000_aaaaaa"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"id": folder.name, "project": "p", "name": "e"}))
    (folder / "status.json").write_text('{"status": "finished"}')
    answers: list[int] = []

    def work(number: int) -> None:
        with httpx.Client(base_url=viewer.url, timeout=60) as client:
            for count in range(24):
                body = {"run_id": folder.name, "tags": [f"{number}-{count}"]}
                answers.append(client.post("/api/experiments/tag", json=body).status_code)

    with servers.viewer(root) as viewer:
        servers.wait_until(
            lambda: httpx.get(f"{viewer.url}/api/runs/{folder.name}").status_code == 200, "indexed"
        )
        threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"{n}-{count}" for n in range(clients) for count in range(24)}
        assert set(answers) == {200}
        assert set(RunStore(root).annotations(f"p/e/runs/{folder.name}").tags) == expected
        shown = httpx.get(f"{viewer.url}/api/runs/{folder.name}").json()["tags"]
        assert set(shown) == expected
        path = root / layout.EXPERIMENTS_METADATA
        servers.wait_until(
            lambda: set(json.loads(path.read_text())[folder.name]["tags"]) == expected, "written"
        )
