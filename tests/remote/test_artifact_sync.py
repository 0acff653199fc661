"""Artifacts of a host: by digest, verified, in both modes."""

from __future__ import annotations

import json
import random

import pytest

from remote.ssh.loop import run
from remote.sync import registry
from runicorn.artifacts.storage import ArtifactStorage, Draft
from tests import servers

from .conftest import RUN, make_run

pytestmark = pytest.mark.servers


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def save(root, source, **files: bytes):
    drafts = []
    for name, content in files.items():
        (source / name).write_bytes(content)
        drafts.append((source / name, f"weights/{name}.bin"))
    return ArtifactStorage(root).save(Draft("net", "model", drafts))


def has(local, number: int):
    folder = local / f"artifacts/model/net/v{number}"
    return lambda: (folder / "metadata.json").exists()


def report(local, number: int):
    store = ArtifactStorage(local)
    return store.verify(store.find("net"), number)


def received(api) -> int:
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    return task["progress"]["received_bytes"]


def test_only_contents_that_lack_come_and_they_are_verified(mirrored, api, there, local, source):
    chance = random.Random(1)
    large, small = chance.randbytes(300_000), chance.randbytes(1000)
    save(there, source, a=large, b=small, same=large)
    save(local, source, elsewhere=small)
    (local / "artifacts/model/net").rename(local / "artifacts/model/other")
    mirrored()
    servers.wait_until(has(local, 1), "is here")
    assert report(local, 1) == []
    assert received(api) == 300_000  # one of the two that are the same; the small one is here
    copy = local / "artifacts/model/net/v1/files/weights/a.bin"
    assert copy.read_bytes() == large and copy.stat().st_nlink == 3
    save(there, source, a=large, c=b"new")
    servers.wait_until(has(local, 2), "the next is here")
    assert report(local, 2) == [] and received(api) == 300_003
    store = ArtifactStorage(there)
    store.set_alias(store.find("net"), "best", 1)
    store.soft_delete(store.find("net"), 2)
    here = ArtifactStorage(local)
    servers.wait_until(lambda: here.aliases(here.find("net")).get("best") == 1, "alias")
    marker = local / "artifacts/model/net/v2/.deleted"
    servers.wait_until(marker.exists, "deleted")
    store.restore(store.find("net"), 2)
    servers.wait_until(lambda: not marker.exists(), "restored")
    shown = api.get("/artifacts/net/versions")
    assert [one["version"] for one in shown] == [1, 2]
    assert api.get("/unified/status")["cached_artifacts"] == 1


def test_what_is_not_what_its_digest_says_does_not_come(mirrored, api, there, local, source):
    save(there, source, a=b"right")
    save(there, source, a=b"another")
    (there / "artifacts/model/net/v1/files/weights/a.bin").unlink()
    (there / "artifacts/model/net/v1/files/weights/a.bin").write_bytes(b"wrong")
    manifest = there / "artifacts/model/net/v2/manifest.json"
    document = json.loads(manifest.read_text())
    document["files"][0]["path"] = "../../../../outside"
    manifest.write_text(json.dumps(document))
    save(there, source, a=b"third")
    (local / "artifacts/dataset/taken").mkdir(parents=True)
    mirrored()
    servers.wait_until(has(local, 3), "the good one is here")
    assert not has(local, 1)() and not has(local, 2)()
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    assert "v2" in task["stats"]["last_error"] or "v1" in task["stats"]["last_error"]
    assert not list(local.rglob("outside*"))


def test_smart_mode_has_documents_until_a_version_is_asked_for(smart, api, there, local, source):
    save(there, source, a=b"content")
    smart()
    servers.wait_until(has(local, 1), "is here")
    assert not (local / "artifacts/model/net/v1/files").exists()
    (one,) = api.get("/artifacts/net/versions")
    assert one["version"] == 1
    answer = api.client.get("/api/artifacts/net/v1/files/weights/a.bin")
    assert answer.status_code == 200 and answer.getvalue() == b"content"
    assert report(local, 1) == []


def test_clearing_the_cache_leaves_what_others_need(smart, api, there, local, source):
    for number in range(3):
        save(there, source, a=b"same", b=b"%d" % number)
    save(local, source, elsewhere=b"same")
    (local / "artifacts/model/net").rename(local / "artifacts/model/other")
    ours = make_run(local)
    used = {"artifacts": [{"name": "net", "type": "model", "version": 2}]}
    (ours / "artifacts_used.json").write_text(json.dumps(used))
    theirs = make_run(there, RUN[:-1] + "2")
    (theirs / "artifacts_used.json").write_text(json.dumps(used))
    smart()
    servers.wait_until(has(local, 3), "is here")
    for number in (1, 2, 3):
        path = f"/api/artifacts/net/v{number}/files/weights/a.bin"
        assert api.client.get(path).getvalue() == b"same"
    folder = local / "artifacts/model/net"
    for number in (1, 2, 3):
        (folder / f"v{number}/stray").write_text("")
    (one,) = registry.syncs("unified")
    run(one.clear())
    assert [(folder / f"v{number}/stray").exists() for number in (1, 2, 3)] == [False, True, False]
    assert report(local, 2) == []
    store = ArtifactStorage(local)
    assert store.verify(store.find("other"), 1) == []
    for number in (1, 3):
        servers.wait_until(has(local, number), "comes again")
    assert not (folder / "v1/files").exists()
    path = "/api/artifacts/net/v1/files/weights/b.bin"
    assert api.client.get(path).getvalue() == b"0" and report(local, 1) == []
