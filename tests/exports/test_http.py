"""Projects, experiments, exports and imports over HTTP."""

from __future__ import annotations

import io
import tarfile
import zipfile
from urllib.parse import quote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from . import hostile


def test_projects_experiments_and_their_runs(api, root):
    first = root.run("vision", "b")
    second = root.run("vision", "a")
    root.run("图像", "x")
    gone = root.run("gone", "x")
    root.scan()
    api.post("/runs/soft-delete", {"run_ids": [gone.id]})
    assert api.get("/projects") == {"projects": ["vision", "图像"]}
    assert api.get("/projects/vision/names") == {"names": ["a", "b"]}
    assert api.get("/projects/none/names") == {"names": []}
    assert [r["id"] for r in api.get("/projects/vision/names/b/runs")] == [first.id]
    assert api.get("/projects/vision/names/a/runs") == [
        run for run in api.get("/runs") if run["id"] == second.id
    ]
    assert api.get("/projects/vision/names/none/runs") == []


def test_what_a_run_ran_on(api, root):
    with_file, damaged, without = root.run(), root.run(), root.run()
    with_file.write("environment.json", b'{"python_version": "3.12", "odd": NaN}')
    damaged.write("environment.json", b"[1")
    root.scan()
    answer = {"available": True, "environment": {"python_version": "3.12", "odd": None}}
    assert api.get(f"/environment/{with_file.id}") == answer
    assert api.get(f"/environment/{damaged.id}")["environment"] == {}
    assert api.get(f"/environment/{without.id}") == {"available": False}
    assert api.get("/environment/nobody", 404) == {"detail": "Run nobody not found"}


def test_tags_are_added_kept_in_order_and_searched(api, root):
    run, other = root.run("p", "Net"), root.run("p", "other")
    root.scan()
    assert api.post("/experiments/tag", {"run_id": run.id, "tags": ["b", "a"]})["success"]
    assert api.post("/experiments/tag", {"run_id": run.id, "tags": ["c", "b"]})["success"]
    (found,) = api.get("/experiments/search?tags=a,c")["experiments"]
    assert found["tags"] == ["b", "a", "c"]
    assert (found["id"], found["archived"], found["description"]) == (run.id, False, None)
    api.post("/experiments/tag", {"run_id": run.id, "tags": ["x"], "append": False})
    assert api.get("/experiments/search?tags=a")["experiments"] == []
    ids = [e["id"] for e in api.get("/experiments/search")["experiments"]]
    assert ids == [run.id, other.id], "the last changed first; a run without a record, too"
    assert [e["id"] for e in api.get("/experiments/search?text=NET")["experiments"]] == [run.id]
    assert not api.post("/experiments/tag", {"run_id": "nobody", "tags": []})["success"]
    for tags in ("abc", [1]):
        assert api.post("/experiments/tag", {"run_id": run.id, "tags": tags}, 400)["errors"]
    for body in ({}, {"run_id": 1}):
        assert api.post("/experiments/tag", body, 400)["errors"]
    assert api.get("/experiments/search?archived=perhaps", 400)["errors"]


def test_deleting_experiments_removes_their_folders_and_nothing_else(api, root, tmp_path):
    run, pinned, kept = root.run(), root.run(), root.run()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (run.path / "link").symlink_to(tmp_path / "outside")
    (root.path / ".experiments_metadata.json").write_text(
        f'{{"{pinned.id}": {{"id": "{pinned.id}", "pinned": true}}}}'
    )
    root.scan()

    def delete(body, status=200):
        path = "/api/experiments/delete"
        response = api.client.delete(path, body, content_type="application/json")
        assert response.status_code == status, response.content
        return response.json()

    ids = [run.id, pinned.id, "../..", "nobody"]
    wanted = {run.id: True, pinned.id: False, "../..": False, "nobody": False}
    assert delete({"run_ids": ids}) == {"results": wanted}
    assert not run.path.exists()
    assert (tmp_path / "outside/file").exists()
    assert delete({"run_ids": [pinned.id], "force": True}) == {"results": {pinned.id: True}}
    assert api.ids() == [kept.id]
    assert api.get("/recycle-bin") == {"deleted_runs": []}
    for body in ({}, {"run_ids": []}, {"run_ids": kept.id}, {"run_ids": [1]}):
        delete(body, 400)
    assert kept.path.exists()


# -- exports -------------------------------------------------------------------------------------


def download(api, path, status=200):
    response = api.client.get(f"/api{path}")
    assert response.status_code == status, response.content
    return response, b"".join(
        response.streaming_content
    ) if response.streaming else response.content


def test_one_run_in_every_format(api, root):
    run = root.run("p", "e")
    run.log(*({"loss": 1 / n, "global_step": n} for n in range(1, 30)))
    root.scan()
    for kind, (name, start) in {
        "csv": ("metrics.csv", b"# Runicorn Export - "),
        "excel": ("metrics.xlsx", b"PK"),
        "parquet": ("metrics.parquet", b"PAR1"),
        "tensorboard": ("events.out.tfevents.0.runicorn", b"\x1a"),
        "pdf": ("report.pdf", b"%PDF"),
        "report": ("report.markdown", b"# Experiment Report"),
        "report?format=html": ("report.html", b"<!doctype html>"),
    }.items():
        response, content = download(api, f"/export/{run.id}/{kind}")
        assert content.startswith(start), kind
        expected = f"attachment; filename={run.id}_{name}"
        assert response["Content-Disposition"] == expected
    response, _ = download(api, f"/export/{run.id}/csv")
    assert response["Content-Type"] == "text/csv; charset=utf-8"


@pytest.mark.parametrize(
    ("run_id", "expected"),
    [
        ("plain-1.0_x", "filename=plain-1.0_x_metrics.csv"),
        ("with space", 'filename="with space_metrics.csv"'),
        ('a"b; c', r'filename="a\"b; c_metrics.csv"'),
        ("läuft 行", "filename*=utf-8''l%C3%A4uft%20%E8%A1%8C_metrics.csv"),
        ("two\r\nlines", 'filename="two__lines_metrics.csv"'),
    ],
)
def test_the_name_of_a_download_follows_any_id(api, root, run_id, expected):
    run = root.run("p", "e", run_id=run_id)
    run.log({"loss": 1.0, "global_step": 1})
    root.scan()
    response, _ = download(api, f"/export/{quote(run_id)}/csv")
    assert response["Content-Disposition"] == f"attachment; {expected}"


def test_what_cannot_be_exported_says_why(api, root):
    run = root.run()
    root.scan()
    assert api.get(f"/export/{run.id}/csv", 404) == {"detail": "No metrics to export"}
    assert api.get("/export/nobody/csv", 404) == {"detail": "Run nobody not found"}
    detail = api.get("/export/nobody/report?format=pdf", 400)["detail"]
    assert detail == "Format must be markdown or html", "before the run is looked for"
    assert api.get(f"/export/{run.id}/doc", 404) == {"detail": "Not Found"}
    assert api.get("/export", 400)["errors"]
    assert api.get("/export?project=none", 404)["detail"]
    assert api.get(f"/export?run_ids={run.id}&format=doc", 400)["errors"]


def test_many_runs_and_whole_projects(api, root):
    runs = [root.run("p", "a"), root.run("p", "b"), root.run("q", "a")]
    for run in runs:
        run.log({"loss": 0.5})
    root.scan()
    response, content = download(api, "/export?project=p")
    assert response["Content-Type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getnames()
    assert f"p/a/runs/{runs[0].id}/events.jsonl" in members
    assert not any(name.startswith("q/") for name in members)
    _, content = download(api, f"/export?run_ids={runs[0].id},{runs[2].id},x&format=parquet")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        wanted = [f"p/a/{runs[0].id}.parquet", f"q/a/{runs[2].id}.parquet"]
        assert archive.namelist() == wanted
    _, content = download(api, "/export?project=p&name=b&format=csv")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [f"p/b/{runs[1].id}.csv"]


def test_a_missing_library_is_named(api, root, monkeypatch):
    run = root.run()
    root.scan()
    monkeypatch.setattr("runicorn.export.is_available", lambda format: False)
    assert "runicorn[export]" in api.get(f"/export/{run.id}/pdf", 503)["detail"]


# -- imports -------------------------------------------------------------------------------------


def send(api, content, status=200, name="runs.tar.gz", **more):
    body = {"file": SimpleUploadedFile(name, content), **more}
    response = api.client.post("/api/import/archive", body)
    assert response.status_code == status, response.content
    return response.json()


def test_an_imported_run_is_there_at_once(api, root):
    answer = send(api, hostile.tar())
    run_id = hostile.RUN.rpartition("/")[2]
    assert answer["ok"] is True
    assert answer["imported_files"] == 2
    assert answer["new_run_dirs"] == [str(root.path / hostile.RUN)]
    assert answer["new_run_ids"] == api.ids() == [run_id]
    again = send(api, hostile.zipped(hostile.GOOD), name="x.bin")
    assert (again["new_run_ids"], again["unchanged"]) == ([], [hostile.RUN])


def test_a_run_that_differs_is_kept_or_replaced_as_asked(api, root):
    send(api, hostile.tar())
    other = hostile.tar({f"{hostile.RUN}/meta.json": b'{"project": "renamed"}'})
    assert send(api, other)["kept"] == [hostile.RUN]
    answer = send(api, other, dry_run="true", replace="true")
    assert (answer["replaced"], answer["dry_run"]) == ([hostile.RUN], True)
    assert api.get("/projects") == {"projects": ["p"]}
    assert send(api, other, replace="true")["replaced"] == [hostile.RUN]
    assert api.get("/projects") == {"projects": ["renamed"]}


def test_what_is_left_out_is_told(api, root):
    answer = send(api, hostile.LEFT_OUT["name: traversal"]())
    assert answer["skipped_count"] == 1
    assert "leads out" in answer["skipped_members"][0]["reason"]
    assert len(answer["new_run_ids"]) == 1


@pytest.mark.parametrize("what", hostile.REFUSED)
def test_a_damaged_archive_is_400(api, root, what):
    answer = send(api, hostile.REFUSED[what](), 400)
    assert answer["detail"]
    assert api.ids() == []


def test_too_much_is_413(api, root, settings):
    assert send(api, hostile.TOO_LARGE["zip bomb"](), 413)["detail"].startswith("Archive too large")
    settings.RUNICORN_IMPORT_MAX_BYTES = 100
    assert send(api, hostile.tar(), 413)["detail"].startswith("Archive too large")
    assert api.ids() == []


def test_a_request_without_a_file_is_told_so(api, root):
    response = api.client.post("/api/import/archive", {"other": "x"})
    assert response.status_code == 400
    assert response.json()["errors"] == [{"loc": ["body", "file"], "msg": "Field required"}]
    assert api.post("/import/archive", {"file": "x"}, 400)["errors"]
    response = api.client.post(
        "/api/import/archive", b"no form", content_type="multipart/form-data; boundary=x"
    )
    assert response.status_code == 400


# -- telemetry -----------------------------------------------------------------------------------


def test_this_machine(api, root):
    gpus = api.get("/gpu/telemetry")
    assert gpus["available"] or gpus["reason"]
    system = api.get("/system/monitor")
    assert system["memory"]["total"] > system["memory"]["used"] > 0
    assert system["disk"]["free"] > 0


def test_csv_for_spreadsheets_at_every_door(api, root, capsys):
    from runicorn import cli

    run = root.run()
    run.log({"t": "=1+1", "中": 1})
    root.scan()
    safe = "\ufeff# Runicorn".encode()
    for asked in ("true", "1"):
        _, content = download(api, f"/export/{run.id}/csv?spreadsheet={asked}")
        assert content.startswith(safe) and b"\n'=1+1," in content
    _, content = download(api, f"/export/{run.id}/csv")
    assert content.startswith(b"# Runicorn") and b"\n=1+1," in content
    _, packed = download(api, f"/export?run_ids={run.id}&format=csv&spreadsheet=true")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read(archive.namelist()[0]).startswith(safe)
    where = ["--storage", str(root.path), "--run-id", run.id]
    assert cli.main(["export-data", *where, "--spreadsheet"]) == 0
    assert "\n'=1+1," in capsys.readouterr().out
