"""Artifacts over HTTP: the conflict register's rules and what goes beyond v0.4."""

from __future__ import annotations

import functools
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from django.db import Error, connection, transaction
from filelock import FileLock

from artifacts import index
from artifacts.models import Artifact, Blob, File, Reference, Version
from runicorn.artifacts import ReferenceEntry
from runicorn.artifacts.storage import Draft
from runs.ingest.indexer import Indexer


def call(client, method: str, path: str, body=None, status: int = 200):
    kind = {"content_type": "application/json"} if body is not None else {}
    response = getattr(client, method)(f"/api{path}", body, **kind)
    assert response.status_code == status, response.content
    return response.json() if response.content else None


def test_what_is_saved_shows_at_once(api, store):
    assert api.get("/artifacts") == []
    store.save()
    listed = api.get("/artifacts")
    assert [(a["name"], a["num_versions"], a["aliases"]) for a in listed] == [
        ("net", 1, {"latest": 1})
    ]
    store.save()
    assert [v["aliases"] for v in api.get("/artifacts/net/versions")] == [[], ["latest"]]
    assert api.get("/artifacts/stats")["total_files"] == 2


def test_the_index_can_be_thrown_away(api, store):
    store.save(run="r1")
    store.save("data", "dataset", a_txt=b"a")
    store.storage.soft_delete(store.storage.find("net"), 1)
    paths = ("/artifacts", "/artifacts/stats", "/artifacts/net/versions", "/artifacts/net/v1")
    before = [api.get(path) for path in paths]
    Artifact.objects.all().delete()
    Blob.objects.all().delete()
    assert [api.get(path) for path in paths] == before


def test_a_version_never_changes_in_the_database_either(store):
    store.save()
    store.storage.save(Draft("far", "dataset", references=[ReferenceEntry("s3://x", size=1)]))
    index.catch_up()
    changes = [
        (Version.objects, {"size_bytes": 1}),
        (Version.objects, {"number": 7}),
        (File.objects, {"path": "other"}),
        (Blob.objects, {"digest": "0" * 64}),
        (Version.objects, {"created_by_run": "another"}),
        (Version.objects, {"created_time": 1.0}),
        (Reference.objects, {"uri": "s3://elsewhere"}),
        (Reference.objects, {"size_bytes": 2}),
    ]
    for rows, change in changes:
        with pytest.raises(Error, match="never changes"), transaction.atomic():
            rows.update(**change)
    assert connection.vendor in ("sqlite", "postgresql")
    Version.objects.update(description="may change")


def test_a_content_changed_by_hand_is_read_anew(api, store):
    store.save()
    api.get("/artifacts/net/v1")
    path = store.folder() / "v1/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["path"] = "renamed.bin"
    path.write_text(json.dumps(manifest))
    assert api.get("/artifacts/net/v1/files")["files"][0]["path"] == "renamed.bin"
    checked = api.post("/artifacts/net/v1/verify")
    assert not checked["ok"]
    assert {(p["path"], p["problem"]) for p in checked["problems"]} == {
        ("manifest.json", "changed"),
        ("renamed.bin", "missing"),
    }


def test_a_broken_version_is_said_to_be(api, store):
    store.save()
    store.save()
    (store.folder() / "v1/metadata.json").write_text("{")
    statuses = [v["status"] for v in api.get("/artifacts/net/versions")]
    assert statuses == ["corrupted", "ready"]
    assert api.post("/artifacts/net/v1/verify")["problems"][0]["problem"] == "unreadable"


@pytest.mark.parametrize("content", ["{", "", "[1]", None])
@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("is_indexed_before", [True, False])
def test_an_unreadable_version_keeps_what_other_documents_know(
    api, store, content, is_listed, is_indexed_before
):
    store.save(run="20260102_030405_0a1b2c", a_bin=b"a" * 100, b_bin=b"b" * 50)
    store.save()
    before = api.get("/artifacts/net/versions")[0] if is_indexed_before else None
    path = store.folder() / "v1/metadata.json"
    path.write_bytes(b"\xff\x00" if content is None else content.encode())
    if not is_listed:
        listed = store.folder() / "versions.json"
        data = json.loads(listed.read_text())
        listed.write_text(json.dumps({**data, "versions": data["versions"][1:]}))
    shown = api.get("/artifacts/net/versions")[0]
    assert (shown["size_bytes"], shown["num_files"]) == (150, 2)
    assert shown["status"] == "corrupted"
    if is_listed:
        assert shown["created_by_run"] == "20260102_030405_0a1b2c"
        assert before in (None, {**shown, "status": "ready"})
    detail = api.get("/artifacts/net/v1")
    assert (detail["size_bytes"], detail["num_files"]) == (150, 2)
    assert detail["created_at"] == shown["created_at"] > 0
    nodes = api.get("/artifacts/net/v1/lineage")["nodes"]
    assert [n["metadata"]["size"] for n in nodes if n["node_id"] == "net:v1"] == [150]


def test_deleting_restoring_and_purging(api, client, store):
    store.save(a_bin=b"a" * 100, s_bin=b"s" * 50)
    store.save(b_bin=b"b" * 200, s_bin=b"s" * 50)
    for _ in range(2):
        call(client, "delete", "/artifacts/net/v1")
        assert api.get("/artifacts/net/v1")["status"] == "deleted"
    api.post("/artifacts/net/v1/restore")
    assert api.get("/artifacts/net/v1")["status"] == "ready"

    done = call(client, "delete", "/artifacts/net/v1?permanent=true")
    assert done["freed_bytes"] == 100
    assert store.pool_size() == 250
    api.get("/artifacts/net/v1", 404)
    assert api.post("/artifacts/net/v2/verify")["ok"]
    done = call(client, "delete", "/artifacts/net/v2?permanent=1")
    assert done["freed_bytes"] == 250 and store.pool_size() == 0
    assert api.get("/artifacts") == [] and Blob.objects.count() == 0
    assert store.save() == 3


def test_a_soft_deleted_version_keeps_its_bytes(client, store):
    store.save(s_bin=b"s" * 50)
    store.save(s_bin=b"s" * 50)
    call(client, "delete", "/artifacts/net/v1")
    assert call(client, "delete", "/artifacts/net/v2?permanent=true")["freed_bytes"] == 0
    assert call(client, "post", "/artifacts/gc") == {"contents": 0, "freed_bytes": 0}
    assert store.storage.verify(store.storage.find("net"), 1) == []
    assert store.pool_size() == 50


def test_a_version_of_copies_keeps_its_content_in_the_pool(client, store):
    """Where files are no links, the manifests say what is needed."""
    store.save(s_bin=b"s" * 50)
    store.save(s_bin=b"s" * 50)
    for number in (1, 2):
        path = store.folder() / f"v{number}/files/s.bin"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    call(client, "delete", "/artifacts/net/v2?permanent=true")
    assert call(client, "post", "/artifacts/gc")["contents"] == 0
    assert store.pool_size() == 50


def test_orphans_are_collected(client, store):
    store.save()
    orphan = store.storage.blobs.path("ab" + "0" * 62)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"o" * 10)
    (store.folder() / ".staging-left").mkdir()
    (store.folder() / ".trash-left").mkdir()
    assert call(client, "post", "/artifacts/gc") == {"contents": 1, "freed_bytes": 10}
    assert sorted(p.name for p in store.folder().iterdir()) == [".lock", "v1", "versions.json"]


def test_aliases_move(api, client, store):
    store.save()
    store.save()
    call(client, "put", "/artifacts/net/aliases/best", {"version": 1})
    assert api.get("/artifacts/net/v1")["aliases"] == ["best"]
    call(client, "put", "/artifacts/net/aliases/best", {"version": 2})
    assert api.get("/artifacts/net/v1")["aliases"] == []
    assert api.get("/artifacts/net/v2")["aliases"] == ["best", "latest"]
    call(client, "delete", "/artifacts/net/aliases/best")
    call(client, "delete", "/artifacts/net/aliases/best", status=404)
    call(client, "put", "/artifacts/net/aliases/best", {"version": 9}, 404)
    for wrong in ("latest", "v1", "a:b"):
        call(client, "put", f"/artifacts/net/aliases/{wrong}", {"version": 1}, 400)
    call(client, "put", "/artifacts/net/aliases/best", {}, 400)


def test_what_somebody_else_is_changing_is_answered(api, store, monkeypatch):
    store.save()
    monkeypatch.setattr("runicorn.artifacts.folders._LOCK_SECONDS", 0.05)  # in place of 30
    with FileLock(store.folder() / ".lock"):
        response = api.client.delete("/api/artifacts/net/v1")
    assert response.status_code == 503 and "ask again" in response.json()["detail"]
    assert api.get("/artifacts/net/v1")["status"] == "ready"


def test_leaving_production_removes_the_alias_that_v04_set(api, store):
    """It knew the alias from the version's metadata only."""
    store.save()
    path = store.folder() / "v1/metadata.json"
    data = json.loads(path.read_text())
    data |= {"lifecycle_stage": "production", "aliases": ["latest", "production"]}
    path.write_text(json.dumps(data))
    assert api.get("/artifacts/net/v1")["aliases"] == ["latest", "production"]
    api.post("/artifacts/net/v1/promote", {"to_stage": "staging"})
    assert api.get("/artifacts/net/v1")["aliases"] == ["latest"]


def test_the_alias_production_follows_the_stage(api, store):
    for _ in range(2):
        store.save()
    for number in (1, 2):
        for stage in ("staging", "production"):
            api.post(f"/artifacts/net/v{number}/promote", {"to_stage": stage})
    assert api.get("/artifacts/net/v1")["aliases"] == []
    assert api.get("/artifacts/net/v2")["aliases"] == ["latest", "production"]
    assert api.get("/artifacts/net/v2")["lifecycle_stage"] == "production"
    assert store.storage.resolve(store.storage.find("net"), "production") == 2
    api.post("/artifacts/net/v2/promote", {"to_stage": "archived"})
    assert api.get("/artifacts")[0]["aliases"] == {"latest": 2}
    error = api.post("/artifacts/net/v2/promote", {"to_stage": "archived"}, 400)
    assert error["detail"] == "Invalid transition from archived to archived"


def test_words_are_edited_with_their_history(api, client, store):
    store.save()
    new = {"description": "d", "metadata": {"k": [1, None]}, "tags": ["a", "a"]}
    shown = call(client, "patch", "/artifacts/net/v1", new)
    assert (shown["description"], shown["metadata"], shown["tags"]) == (
        "d",
        {"k": [1, None]},
        ["a"],
    )
    call(client, "patch", "/artifacts/net/v1", {"description": "e"})
    history = api.get("/artifacts/net/v1/history")
    assert [(h["field"], h["from"], h["to"]) for h in history] == [
        ("description", "", "d"),
        ("metadata", {}, {"k": [1, None]}),
        ("tags", [], ["a"]),
        ("description", "d", "e"),
    ]
    for wrong in ({"tags": "x"}, {"metadata": []}, {"description": 1}, {"tags": [""]}):
        call(client, "patch", "/artifacts/net/v1", wrong, 400)


def test_two_versions_are_compared(api, store):
    store.save(same=b"s", changed=b"1", gone=b"g")
    store.save(same=b"s", changed=b"2", new=b"n")
    found = api.get("/artifacts/net/compare?from=1&to=2")
    assert [f["path"] for f in found["added"]] == ["new"]
    assert [f["path"] for f in found["removed"]] == ["gone"]
    assert [f["path"] for f in found["changed"]] == ["changed"] and found["unchanged"] == 1
    api.get("/artifacts/net/compare?from=1", 400)
    api.get("/artifacts/net/compare?from=1&to=9", 404)


# -- downloads -----------------------------------------------------------------------------------


def content(response) -> bytes:
    return b"".join(response.streaming_content)


def test_a_file_is_downloaded_in_whole_or_in_part(client, store):
    data = bytes(range(256)) * 4096
    store.save(deep__w_bin=data)
    url = "/api/artifacts/net/v1/files/deep/w.bin"
    whole = client.get(url)
    assert content(whole) == data and whole["Content-Length"] == str(len(data))
    for asked, start, end in (("5-9", 5, 10), ("1048570-", 1048570, 1048576), ("-3", -3, None)):
        part = client.get(url, headers={"range": f"bytes={asked}"})
        assert (part.status_code, content(part)) == (206, data[start:end])
    for beyond in ("2000000-", f"{10**30}-"):
        assert client.get(url, headers={"range": f"bytes={beyond}"}).status_code == 416
    assert content(client.get(url, headers={"range": "bytes=9-5"})) == data
    for known in (whole["ETag"], f'"other", {whole["ETag"]}', f"W/{whole['ETag']}", "*"):
        assert client.get(url, headers={"if-none-match": known}).status_code == 304
    assert content(client.get(url, headers={"if-none-match": '"other"'})) == data
    assert client.get("/api/artifacts/net/v1/files/none").status_code == 404
    assert client.get("/api/artifacts/net/v1/files/../metadata.json").status_code == 404


def test_a_version_is_downloaded_as_an_archive(client, store):
    store.save(deep__w_bin=b"w" * 1000, empty=b"", 图_txt=b"x")
    archive = content(client.get("/api/artifacts/net/v1/archive"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    assert found == {
        "net-v1/deep/w.bin": b"w" * 1000,
        "net-v1/empty": b"",
        "net-v1/图.txt": b"x",
    }


def test_an_archive_that_would_not_be_whole_is_refused(api, client, store):
    store.save(a=b"one", b=b"two")
    files = store.folder() / "v1/files"
    (files / "b").unlink()
    said = api.get("/artifacts/net/v1/archive", 409)["detail"]
    assert "net:v1" in said and "the first is b" in said
    os.mkfifo(files / "b")  # reading one would wait for ever
    api.get("/artifacts/net/v1/archive", 409)
    assert client.get("/api/artifacts/net/v1/files/b").status_code == 404
    problems = api.post("/artifacts/net/v1/verify")["problems"]
    assert problems == [{"path": "b", "problem": "missing"}]


# -- hostile input -------------------------------------------------------------------------------


def test_sizes_that_a_manifest_invents_spoil_nothing(api, store):
    for number, size in enumerate((2**63 - 1, -5, 2**53 - 1, 2**53 - 1), 1):
        store.save(a=b"content", b=b"%d" % number)
        folder = store.folder() / f"v{number}"
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["files"][0]["size"] = manifest["total_size"] = size
        manifest["references"] = [{"uri": "s3://x", "size": size}] * 2000
        (folder / "manifest.json").write_text(json.dumps(manifest))
        metadata = json.loads((folder / "metadata.json").read_bytes())
        (folder / "metadata.json").write_text(json.dumps({**metadata, "size_bytes": size}))
    stats = api.get("/artifacts/stats")
    assert stats["total_versions"] == 4 and stats["dedup_pool_size_bytes"] == 7 + 4
    for number in range(1, 5):
        for path in ("", "/files", "/lineage"):
            api.get(f"/artifacts/net/v{number}{path}")


def test_an_evaluation_with_a_very_long_name_or_number_is_answered(api, store):
    body = {"model_name": "x", "model_version": 1, "evaluation_date": 1}
    body |= {"metrics": {}, "status": "passed"}
    api.post(f"/artifacts/{'n' * 200}/v{2**63 - 1}/evaluate", body)
    api.post(f"/artifacts/net/v{10**60}/evaluate", body, 400)


@pytest.mark.parametrize("kind", ["../../x", "..", "/", "model/..", ".dedup", "x\x00"])
def test_a_hostile_type_deletes_and_reads_nothing(client, store, tmp_path, kind):
    store.save()
    victim = Path(tmp_path / "x/net/v1")
    victim.mkdir(parents=True)
    (victim / "metadata.json").write_text('{"description": "secret"}')
    for path in ("versions", "v1", "v1/files", "v1/lineage", "training-metrics"):
        expected = 400 if "\x00" in kind else 404
        assert client.get(f"/api/artifacts/net/{path}", {"type": kind}).status_code == expected
    response = client.delete("/api/artifacts/net/v1", QUERY_STRING=f"permanent=1&type={kind}")
    assert response.status_code in (404, 400)
    assert victim.exists() and (store.folder() / "v1").exists()


def test_a_hostile_manifest_reads_nothing_outside(api, client, store, tmp_path):
    (tmp_path / "secret").write_text("s")
    store.save()
    path = store.folder() / "v1/manifest.json"
    digest = "sha256:" + "0" * 64
    hostile = ["../../../../../../secret", str(tmp_path / "secret"), "link/secret", "a\\..\\..\\b"]
    files = [{"path": p, "size": 1, "digest": digest} for p in hostile]
    path.write_text(json.dumps({"files": [*files, {"path": 3}, "x"]}))
    (store.folder() / "v1/files/link").symlink_to(tmp_path)
    listed = api.get("/artifacts/net/v1/files")["files"]
    assert len(listed) == 4 and all(f["absolute_path"] is None for f in listed)
    for name in hostile:
        url = f"/api/artifacts/net/v1/files/{name}"
        assert client.get(url).status_code == 404
    assert "missing or changed" in api.get("/artifacts/net/v1/archive", 409)["detail"]
    problems = api.post("/artifacts/net/v1/verify")["problems"]
    assert {p["problem"] for p in problems} == {"changed", "unsafe"}


def test_an_evaluation_of_a_longer_name_does_not_leak_in(api, store):
    body = {"model_name": "x", "model_version": 1, "evaluation_date": 1}
    body |= {"metrics": {"acc": "0.5"}, "status": "passed"}
    for name in ("net", "net_v1", "net_v1_x"):
        api.post(f"/artifacts/{name}/v1/evaluate", body)
    assert [e["model_name"] for e in api.get("/artifacts/net/evaluations")] == ["net"]
    assert api.get("/artifacts/net/evaluations")[0]["metrics"] == {"acc": 0.5}
    api.post("/artifacts/.hidden/v1/evaluate", body, 400)
    api.post("/artifacts/net/v1/evaluate", body | {"metrics": {"a": "x"}}, 400)


# -- lineage -------------------------------------------------------------------------------------


def edges(graph) -> set[tuple[str, str]]:
    return {(edge["source"], edge["target"]) for edge in graph["edges"]}


def test_lineage_goes_both_ways_and_shows_what_is_deleted(api, client, store):
    first, second = store.run(), store.run()
    store.save("data", "dataset", run=first.id)
    second.use_artifact("data:v1")
    store.save("net", run=second.id)
    Indexer(store.root).catch_up()
    whole = {(first.id, "data:v1"), ("data:v1", second.id), (second.id, "net:v1")}
    assert edges(api.get("/artifacts/data/v1/lineage")) == whole
    assert edges(api.get("/artifacts/net/v1/lineage")) == whole
    assert edges(api.get("/artifacts/net/v1/lineage?max_depth=0")) == set()

    call(client, "delete", "/artifacts/data/v1")
    api.post("/runs/soft-delete", {"run_ids": [second.id]})
    nodes = {n["node_id"]: n["metadata"] for n in api.get("/artifacts/net/v1/lineage")["nodes"]}
    assert nodes["data:v1"]["deleted"] and nodes[second.id]["deleted"]
    call(client, "delete", "/artifacts/data/v1?permanent=true")
    graph = api.get("/artifacts/net/v1/lineage")
    nodes = {n["node_id"]: n["metadata"] for n in graph["nodes"]}
    assert nodes["data:v1"]["purged"] and ("data:v1", second.id) in edges(graph)
    first.finish()
    second.finish()


def test_a_circle_of_runs_and_versions_ends(api, store):
    run = store.run()
    store.save("data", run=run.id)
    run.use_artifact("data:v1")
    store.save("net", run=run.id)
    run.use_artifact("net:v1")
    run.finish()
    Indexer(store.root).catch_up()
    graph = api.get("/artifacts/net/v1/lineage?max_depth=10")
    assert len(graph["nodes"]) == 3 and len(edges(graph)) == len(graph["edges"]) == 4


def test_lineage_costs_lookups_not_scans(api, store, django_assert_max_num_queries):
    used, other = store.run(), [store.run() for _ in range(5)]
    store.save("data", run=used.id)
    Indexer(store.root).catch_up()
    time.sleep(2 * index.FRESH_SECONDS)
    api.get("/artifacts/data/v1/lineage")
    with django_assert_max_num_queries(12):
        api.get("/artifacts/data/v1/lineage")
    for run in [used, *other]:
        run.finish()


def test_a_runs_artifacts_are_told_by_their_versions(api, store):
    run = store.run()
    store.save("data")
    run.use_artifact("data:v1")
    run.finish()
    Indexer(store.root).catch_up()
    api.post("/artifacts/data/v1/promote", {"to_stage": "staging"})
    used = api.get(f"/runs/{run.id}/artifacts")["used"]
    assert [(a["name"], a["aliases"], a["lifecycle_stage"]) for a in used] == [
        ("data", ["latest"], "staging")
    ]


# -- uploads -------------------------------------------------------------------------------------


def put(client, path: str, data: bytes, status: int = 200):
    response = client.put(f"/api{path}", data, content_type="application/octet-stream")
    assert response.status_code == status, response.content
    return response.json()


def digest(data: bytes) -> str:
    import hashlib

    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def announce(api, status: int = 201, **files: bytes):
    listed = [{"path": p, "size": len(d), "digest": digest(d)} for p, d in files.items()]
    return api.post("/artifact-uploads", {"name": "net", "files": listed}, status)


def test_only_what_is_missing_is_uploaded(api, client, store):
    store.save(known=b"known")
    upload = announce(api, known=b"known", new=b"0123456789", twin=b"0123456789")
    assert upload["missing"] == [{"digest": digest(b"0123456789"), "size": 10, "offset": 0}]
    url = f"/artifact-uploads/{upload['upload_id']}"
    place = f"{url}/{digest(b'0123456789')}"
    assert put(client, place, b"0123") == {"offset": 4, "complete": False}
    assert api.get(url)["missing"][0]["offset"] == 4
    put(client, place, b"0123", 409)
    api.post(f"{url}/commit", status=409)
    assert put(client, f"{place}?offset=4", b"456789") == {"offset": 10, "complete": True}
    assert api.post(f"{url}/commit", status=201)["version"] == 2
    api.get(url, 404)
    assert store.storage.verify(store.storage.find("net"), 2) == []
    files = store.folder() / "v2/files"
    assert (files / "new").samefile(files / "twin")


def test_wrong_bytes_are_refused_and_may_be_sent_again(api, client, store):
    upload = announce(api, a=b"right")
    place = f"/artifact-uploads/{upload['upload_id']}/{digest(b'right')}"
    put(client, place, b"wrong", 400)
    put(client, place, b"right and more", 400)
    put(client, place, b"right")
    put(client, f"/artifact-uploads/{upload['upload_id']}/{digest(b'x')}", b"x", 404)
    put(client, f"/artifact-uploads/{upload['upload_id']}/zz", b"x", 400)
    put(client, f"/artifact-uploads/{'0' * 32}/{digest(b'x')}", b"x", 404)


def test_a_purge_during_an_upload_takes_nothing_from_it(api, client, store):
    store.save(a=b"shared")
    upload = announce(api, a=b"shared")
    assert upload["missing"] == []
    call(client, "delete", "/artifacts/net/v1?permanent=true")
    call(client, "post", "/artifacts/gc")
    assert api.post(f"/artifact-uploads/{upload['upload_id']}/commit", status=201)["version"] == 2
    assert store.storage.verify(store.storage.find("net"), 2) == []
    assert store.pool_size() == 6


def test_a_digest_alone_gets_nobody_a_content(api, client, store):
    """What no version has is to be sent, even if the pool happens to have it."""
    store.save(a=b"secret")
    orphan = store.folder() / "v1/files/a"
    purged = store.root / "kept"
    purged.hardlink_to(orphan)  # so that the purge leaves it in the pool
    call(client, "delete", "/artifacts/net/v1?permanent=true")
    assert store.pool_size() == 6
    upload = announce(api, a=b"secret")
    assert upload["missing"] == [{"digest": digest(b"secret"), "size": 6, "offset": 0}]
    put(client, f"/artifact-uploads/{upload['upload_id']}/{digest(b'secret')}", b"secret")
    api.post(f"/artifact-uploads/{upload['upload_id']}/commit", status=201)


FILE = {"path": "x", "size": 1, "digest": "sha256:" + "0" * 64}
DEEP: dict = functools.reduce(lambda inner, _: {"a": [inner]}, range(60), {})


@pytest.mark.parametrize(
    "plan",
    [
        {"name": "../x"},
        {"name": "a", "type": "../x"},
        {"name": "a", "files": []},
        {"name": "a", "files": [{"path": "../x", "size": 1, "digest": "sha256:" + "0" * 64}]},
        {"name": "a", "files": [{"path": "x", "size": -1, "digest": "sha256:" + "0" * 64}]},
        {"name": "a", "files": [{"path": "x", "size": 1, "digest": "../../x"}]},
        {"name": "a", "files": "x"},
        {"name": "a", "references": [{"uri": 1}]},
        {"name": "a", "references": [{"uri": "s3://x"}], "tags": "x"},
        {"name": "a", "references": [{"uri": " "}]},
        {"name": "a", "references": [{"uri": "s3://x", "size": -1}]},
        {"name": "a", "references": [{"uri": "s3://x", "size": 2**53}]},
        {"name": "a", "references": [{"uri": "s3://x", "size": 2**52}] * 2},
        {"name": "a", "references": [{"uri": "s3://x", "size": True}]},
        {"name": "a", "references": [{"uri": "s3://x", "metadata": DEEP}]},
        {"name": "a", "references": [{"uri": "s3://x"}], "metadata": DEEP},
        {"name": "a", "references": [{"uri": "s3://x"}], "metadata": {"a": "\ud800"}},
        {"name": "a", "references": [{"uri": "s3://x"}], "description": "\ud800"},
        {"name": "a", "files": [FILE, FILE]},
        {"name": "a", "files": [FILE, {**FILE, "path": "x/y"}]},
    ],
)
def test_a_hostile_announcement_is_refused(api, store, plan):
    error = api.post("/artifact-uploads", plan, 400)
    assert error["errors"][0]["loc"][0] == "body"
    assert not (store.root / ".runicorn/uploads").exists()
