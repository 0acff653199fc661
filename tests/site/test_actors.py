"""What people do is recorded once, with their name, through whichever door they came."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from artifacts.models import Artifact, Version
from core import access
from runicorn import archive
from runs.models import Run
from tests.artifacts.conftest import store
from tests.runs.conftest import api, root

__all__ = ["api", "root", "store"]

JSON = {"content_type": "application/json"}


@pytest.fixture
def recorded():
    """What was recorded: (who, verb, object) as text."""
    entries: list[tuple[str, str, str]] = []

    def record(actor: Any, verb: str, object: Any) -> None:
        entries.append((access.name_of(actor), verb, str(object)))

    access.answer_with(record=record)
    yield entries
    access.answer_with()


@pytest.fixture
def ada(db) -> Client:
    ada = get_user_model().objects.create_superuser("ada")
    client = Client(headers={"host": "localhost"})
    client.force_login(ada)
    return client


def said(recorded: list[Any]) -> list[tuple[str, str, str]]:
    entries = list(recorded)
    recorded.clear()
    return entries


def test_artifacts_over_rest(ada, api, store, recorded):
    store.save()
    net, best = "/api/artifacts/net/v1", "/api/artifacts/net/aliases/best"
    evaluation = {"model_name": "net", "model_version": 1, "evaluation_date": 1, "status": "passed"}
    asked: list[tuple[str, str, Any, list[tuple[str, str]]]] = [
        ("patch", net, {"description": "new"}, [("version.edit", "net:v1")]),
        ("patch", net, {"description": "new"}, []),
        ("put", best, {"version": 1}, [("alias.set", "best → net:v1")]),
        ("delete", best, {}, [("alias.remove", "best of net")]),
        ("delete", best, {}, []),
        (
            *("post", f"{net}/promote", {"to_stage": "staging"}),
            [("version.promote", "net:v1: experimental → staging")],
        ),
        (
            *("post", f"{net}/evaluate", {**evaluation, "metrics": {}}),
            [("version.evaluate", "net:v1")],
        ),
        ("delete", net, {}, [("version.delete", "net:v1")]),
        ("delete", net, {}, []),
        ("post", f"{net}/restore", {}, [("version.restore", "net:v1")]),
        ("post", f"{net}/restore", {}, []),
        ("delete", f"{net}?permanent=true", {}, [("version.purge", "net:v1")]),
        ("post", "/api/artifacts/gc", {}, [("artifacts.collect", "0 contents")]),
    ]
    for method, path, body, expected in asked:
        getattr(ada, method)(path, body, **JSON)
        assert said(recorded) == [("ada", *entry) for entry in expected], (method, path)


def test_a_commit_that_is_asked_for_twice_is_recorded_once(ada, api, store, recorded):
    content = b"weights"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    plan = {"name": "net", "files": [{"path": "w", "size": len(content), "digest": digest}]}
    for path, verb in (("commit", "version.create"), ("", "upload.discard")):
        upload = ada.post("/api/artifact-uploads", plan, **JSON).json()
        address = f"/api/artifact-uploads/{upload['upload_id']}"
        assert [entry[:2] for entry in said(recorded)] == [("ada", "upload.start")]
        ada.put(f"{address}/{digest}", content, content_type="application/octet-stream")
        assert said(recorded) == []
        if path:
            for _ in range(2):
                assert ada.post(f"{address}/commit").status_code == 201
            assert said(recorded) == [("ada", verb, "net:v1")]
        else:
            assert ada.delete(address).status_code == 204
            assert [entry[:2] for entry in said(recorded)] == [("ada", verb)]
    assert store.storage.find("net").numbers() == [1]


def test_artifacts_in_the_admin(ada, api, store, recorded):
    store.save()
    api.get("/artifacts")
    version = Version.objects.get()
    versions, artifacts = "/admin/artifacts/version/", "/admin/artifacts/artifact/"
    edit = {"description": "new", "tags": "a", "metadata": "{}"}
    ada.post(f"{versions}{version.pk}/change/", edit)
    assert said(recorded) == [("ada", "version.edit", "net:v1")]
    artifact = f"{artifacts}{Artifact.objects.get().pk}/change/"
    for aliases, expected in (
        ("best=1", ("alias.set", "best → net:v1")),
        ("", ("alias.remove", "best of net")),
    ):
        ada.post(artifact, {"aliases": aliases})
        assert said(recorded) == [("ada", *expected)]
    for action, verb in (("soft_delete", "delete"), ("restore", "restore"), ("purge", "purge")):
        key = str(Version.objects.get().pk)
        chosen = {"action": action, "_selected_action": [key], "confirmed": key}
        ada.post(versions, chosen)
        assert said(recorded) == [("ada", f"version.{verb}", "net:v1")]


def test_runs_through_every_door(ada, api, root, recorded):
    """REST, V2, the pages and the admin: one entry a change, by the one function of the verb."""
    run = root.run().id
    root.scan()
    key = str(Run.objects.get().pk)
    runs, bin_ = "/admin/runs/run/", "/admin/runs/run/recycle-bin/"
    chosen = {"_selected_action": [key], "confirmed": key}
    asked: list[tuple[str, dict[str, Any], dict[str, str], list[str]]] = [
        ("/api/runs/soft-delete", {"run_ids": [run]}, JSON, ["run.delete"]),
        ("/api/runs/soft-delete", {"run_ids": [run]}, JSON, []),
        ("/api/recycle-bin/restore", {"run_ids": [run]}, JSON, ["run.restore"]),
        ("/api/v2/experiments/batch-delete", {"exp_ids": [run]}, JSON, ["run.delete"]),
        ("/recycle-bin/restore", {"run": [key]}, {}, ["run.restore"]),
        ("/recycle-bin/add", {"run": [key]}, {}, ["run.delete"]),
        (bin_, {"action": "restore", **chosen}, {}, ["run.restore"]),
        (runs, {"action": "soft_delete", **chosen}, {}, ["run.delete"]),
        ("/api/recycle-bin/restore", {"run_ids": [run]}, JSON, ["run.restore"]),
        ("/api/experiments/tag", {"run_id": run, "tags": ["a"]}, JSON, ["run.tag"]),
        (f"{runs}{key}/change/", {"tags": "a, b", "notes": ""}, {}, ["run.tag"]),
        (f"{runs}{key}/change/", {"tags": "a, b", "notes": "x"}, {}, ["run.note"]),
        ("/api/runs/soft-delete", {"run_ids": [run]}, JSON, ["run.delete"]),
        ("/api/recycle-bin/empty", {"confirm": True}, JSON, ["run.purge"]),
    ]
    for path, body, options, verbs in asked:
        answer = ada.post(path, body, **options)
        assert answer.status_code < 400, (path, answer.content)
        assert said(recorded) == [("ada", verb, run) for verb in verbs], path


def test_an_import_and_another_storage_folder(ada, api, root, recorded, settings, tmp_path):
    run = root.run()
    directory = str(run.path.relative_to(root.path))
    packed = b"".join(archive.export_runs(root.path, [directory]))
    file = SimpleUploadedFile("a.tar.gz", packed)
    settings.RUNICORN_STORAGE_ROOT = tmp_path / "another"
    settings.RUNICORN_STORAGE_ROOT.mkdir()
    for dry_run in ("true", "false"):
        file.seek(0)
        answer = ada.post("/api/import/archive", {"file": file, "dry_run": dry_run})
        assert answer.status_code == 200, answer.content
    assert said(recorded) == [("ada", "archive.import", "1 new runs, 0 replaced")]


def test_a_name_that_one_may_not_change_is_taken(api, store):
    store.save()
    api.get("/artifacts")
    plan = {"name": "net", "references": [{"uri": "s3://bucket/x"}]}
    upload = api.post("/artifact-uploads", plan, 201)["upload_id"]

    def rows(queryset: Any, user: Any, right: access.Right) -> Any:
        return queryset.none() if queryset.model is Artifact else queryset.all()

    access.answer_with(rows=rows)
    try:
        refused = api.post("/artifact-uploads", plan, 409)
        assert refused == {"detail": "The name net is taken: choose another one."}
        api.post(f"/artifact-uploads/{upload}/commit", None, 409)
        api.post("/artifact-uploads", {**plan, "type": "dataset"}, 201)
    finally:
        access.answer_with()
    assert api.post(f"/artifact-uploads/{upload}/commit", None, 201)["version"] == 2
