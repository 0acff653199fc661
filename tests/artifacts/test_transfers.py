"""Uploads and downloads over HTTP: only what is missing travels, and on from where it broke."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

import runicorn as rn
from runicorn import api
from tests.artifacts.conftest import Site
from tests.servers import wait_until


@pytest.fixture
def client(site: Site) -> Iterator[api.RunicornClient]:
    with api.connect(site.url) as client:
        yield client


def artifact(folder: Path, name: str, **files: bytes) -> rn.Artifact:
    made = rn.Artifact(name, "dataset", metadata={"k": 1})
    for path, content in files.items():
        file = folder / f"{name}-{path}"
        file.write_bytes(content)
        made.add_file(file, path)
    return made


def raw(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def sent_by(upload: Any, *args: Any, **options: Any) -> tuple[Any, int]:
    """What *upload* answers, and how many bytes it announced to send."""
    told = [0]
    answer = upload(*args, progress=lambda done, total: told.append(total), **options)
    return answer, told[-1]


def test_only_new_bytes_travel(client, site, tmp_path):
    first = artifact(tmp_path, "net", a=raw(1, 3 << 20), b=b"small", twin=b"small", empty=b"")
    version, sent = sent_by(client.artifacts.upload, first)
    assert (version["version"], version["num_files"], version["metadata"]) == (1, 4, {"k": 1})
    assert sent == (3 << 20) + 5
    again, sent = sent_by(client.artifacts.upload, first)
    assert (again["version"], sent) == (2, 0)
    changed = artifact(tmp_path, "net", a=raw(1, 3 << 20), b=b"other")
    assert sent_by(client.artifacts.upload, changed)[1] == 5
    for number in (1, 2, 3):
        site.verify("net", number)


def test_many_small_files_take_few_requests(client, site, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1200):
        (folder / f"{number}").write_bytes(b"%d" % number)
    asked: list[str] = []
    client.session.event_hooks["request"].append(lambda request: asked.append(request.url.path))
    version = client.artifacts.upload(rn.Artifact("many", "dataset").add_dir(folder))
    assert version["num_files"] == 1200
    assert len(asked) == 3
    site.verify("many", 1)


@pytest.mark.slow
def test_one_announcement_names_very_many_files(site):
    content = b"the same in all"
    digest = hashlib.sha256(content).hexdigest()
    entry = {"digest": digest, "size": len(content)}
    files = [{"path": f"{n // 1000:04}/{n:08}.txt", **entry} for n in range(30_000)]
    with httpx.Client(base_url=f"{site.url}/api", trust_env=False, timeout=60) as web:
        begun = web.post("/artifact-uploads", json={"name": "very-many", "files": files})
        assert begun.status_code == 201
        address = f"/artifact-uploads/{begun.json()['upload_id']}"
        assert web.put(f"{address}/{digest}", content=content).json()["complete"]
        assert web.post(f"{address}/commit").json()["num_files"] == 30_000
        refused = web.post("/artifact-uploads", content=b" " * (65 << 20))
        assert (refused.status_code, list(refused.json())) == (413, ["detail"])


def test_the_run_that_made_it_is_told(client, site, tmp_path):
    run = rn.Run("p", site.storage.root, name="e", capture_env=False)
    run.finish()
    wait_until(lambda: run.id in str(client.list_experiments()), "the run in the list")
    client.artifacts.upload(artifact(tmp_path, "made", a=b"x"), run_id=run.id)
    [made] = client.artifacts.list_experiment_artifacts(run.id, "created")
    assert (made["name"], made["version"], made["size_bytes"]) == ("made", 1, 1)
    assert client.artifacts.get_artifact_lineage("made:v1")["created_by"] == run.id


def test_an_upload_that_broke_off_goes_on(client, site, tmp_path):
    """The first attempt ends in the middle of a content, as if it had been killed."""
    content = raw(2, 20 << 20)
    broken = artifact(tmp_path, "broken", a=content)

    class Killed(BaseException):
        pass

    def kill(done: int, total: int) -> None:
        if done > 9 << 20:
            raise Killed

    with pytest.raises(Killed):
        client.artifacts.upload(broken, progress=kill)
    told: list[int] = []
    with api.connect(site.url) as other:
        other.artifacts.upload(broken, progress=lambda done, total: told.append(done))
    assert told[0] == 16 << 20
    site.verify("broken", 1)


def test_a_commit_that_is_asked_again_gives_the_same_version(site, client, tmp_path):
    plan = {"name": "twice", "references": [{"uri": "s3://b/k"}]}
    with httpx.Client(base_url=f"{site.url}/api", trust_env=False) as web:
        upload = web.post("/artifact-uploads", json=plan).json()["upload_id"]
        answers = [web.post(f"/artifact-uploads/{upload}/commit") for _ in range(3)]
        assert [(a.status_code, a.json()["version"]) for a in answers] == [(201, 1)] * 3
        assert web.get(f"/artifact-uploads/{upload}").status_code == 404
        # a server that was killed between the commit and noting that it was done
        (site.storage.root / ".runicorn/uploads" / upload / "done.json").unlink()
        assert web.post(f"/artifact-uploads/{upload}/commit").json()["version"] == 1
        web.delete("/artifacts/twice/v1?permanent=true")
        assert web.post(f"/artifact-uploads/{upload}/commit").status_code == 404


def test_of_a_large_file_only_the_changed_chunks_travel(client, site, tmp_path):
    content = bytearray(raw(3, 24 << 20))
    client.artifacts.upload(artifact(tmp_path, "large", weights=bytes(content)))
    content[5 << 20 : 5 << 20] = b"inserted"
    content[15 << 20 : (15 << 20) + 1000] = bytes(1000)
    told: list[tuple[int, int]] = []
    changed = artifact(tmp_path, "large", weights=bytes(content))
    bodies: list[int] = []
    client.session.event_hooks["request"].append(lambda request: bodies.append(len(request.read())))
    client.artifacts.upload(changed, chunked=True, progress=lambda *s: told.append(s))
    assert told[-1][0] == told[-1][1] == len(content)
    assert sum(bodies) < 4 << 20
    site.verify("large", 2)
    stored = site.storage.find("large").version(2) / "files/weights"
    assert stored.read_bytes() == content  # whole, as 0.4.0 reads it


def test_chunks_that_lie_are_refused(site, tmp_path):
    content = raw(4, 5 << 20)
    half = len(content) // 2
    pieces = [content[:half], content[half:]]
    chunks = [[hashlib.sha256(piece).hexdigest(), len(piece)] for piece in pieces]
    digest = hashlib.sha256(content).hexdigest()
    listed = [{"path": "a", "size": len(content), "digest": digest}]
    with httpx.Client(base_url=f"{site.url}/api", trust_env=False, timeout=30) as web:
        upload = web.post("/artifact-uploads", json={"name": "lies", "files": listed}).json()
        place = f"/artifact-uploads/{upload['upload_id']}"

        def say(chunks: object, status: int = 200) -> Any:
            answer = web.put(f"{place}/{digest}/chunks", json={"chunks": chunks})
            assert answer.status_code == status, answer.text
            return answer.json()

        for wrong in ("x", [1], [["../../x", 5]], [["0" * 64, -1]], [["0" * 64, 1]]):
            say(wrong, 400)
        assert say(chunks)["missing"] == [chunk[0] for chunk in chunks]
        pack = packed({c[0]: p for c, p in zip(chunks, pieces, strict=True)})
        assert web.put(f"{place}/pack", content=pack).json() == {"received": len(chunks)}
        say(chunks[::-1], 400)  # they make something else
        assert say(chunks) == {"missing": [], "complete": True}
        assert web.post(f"{place}/commit").status_code == 201
    site.verify("lies", 1)


def packed(contents: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def test_hostile_packs_and_encodings_are_refused(site):
    content = b"x" * 1000
    digest = hashlib.sha256(content).hexdigest()
    listed = [{"path": "a", "size": 1000, "digest": digest}]
    zeros = zstandard.ZstdCompressor(level=19).compress(bytes(80 << 20))
    window = zstandard.ZstdCompressionParameters(window_log=27)
    large = zstandard.ZstdCompressor(compression_params=window).compressobj()
    wide = large.compress(os.urandom(1000)) + large.flush()
    with httpx.Client(base_url=f"{site.url}/api", trust_env=False) as web:
        upload = web.post("/artifact-uploads", json={"name": "h", "files": listed}).json()
        place = f"/artifact-uploads/{upload['upload_id']}"
        coded = {"Content-Encoding": "zstd"}
        for path, body, headers, status in (
            ("/pack", b"no tar at all" * 100, {}, 400),
            ("/pack", packed({"../../x": content}), {}, 400),
            ("/pack", packed({"0" * 64: content}), {}, 400),
            ("/pack", packed({digest: content[:-1]}), {}, 400),
            ("/pack", packed({digest: b"y" * 1000}), {}, 400),
            ("/pack", packed({digest: content}, tarfile.SYMTYPE), {}, 400),
            ("/pack", packed({digest: content}, tarfile.GNUTYPE_SPARSE), {}, 400),
            ("/pack", b"no zstd", coded, 400),
            (f"/{digest}", zeros, coded, 400),  # more than announced
            (f"/{digest}", wide, coded, 400),  # it asks for too much memory
            (f"/{digest}", content, {"Content-Encoding": "gzip"}, 400),
        ):
            answer = web.put(place + path, content=body, headers=headers)
            assert answer.status_code == status, (path, answer.text)
            assert "detail" in answer.json()
        assert web.get(place).json()["missing"][0]["offset"] == 0
        body = zstandard.ZstdCompressor().compress(content)
        answer = web.put(f"{place}/{digest}", content=body, headers=coded)
        assert answer.json() == {"offset": 1000, "complete": True}


def test_what_gets_smaller_travels_as_zstd(client, site, tmp_path):
    text = b"the same words again and again\n" * 200_000
    bodies: list[int] = []
    client.session.event_hooks["request"].append(lambda request: bodies.append(len(request.read())))
    words = artifact(tmp_path, "words", text=text, noise=raw(5, 2 << 20))
    client.artifacts.upload(words, compress=True)
    assert 2 << 20 < sum(bodies) < 2.2 * 2**20
    site.verify("words", 1)
    url = f"{site.url}/api/artifacts/words/v1/files/text"
    asked = {"Accept-Encoding": "zstd"}
    with httpx.Client(trust_env=False) as web:
        answer = web.get(url, headers=asked)
        assert answer.headers["Content-Encoding"] == "zstd" and answer.content == text
        assert answer.num_bytes_downloaded < 100_000
        part = web.get(url, headers={**asked, "Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, text[10:20])
        same = {**asked, "If-None-Match": answer.headers["ETag"]}
        assert web.get(url, headers=same).status_code == 304
        noise = web.get(url.replace("text", "noise"), headers=asked)
        assert "Content-Encoding" not in noise.headers
        archive = f"{site.url}/api/artifacts/words/v1/archive"
        coded = web.get(archive, headers=asked)
        kept = web.get(archive, headers={"Accept": "application/zstd"})
    assert coded.num_bytes_downloaded < 2.2 * 2**20
    assert kept.headers["Content-Disposition"].endswith(".tar.zst")
    with zstandard.ZstdDecompressor().stream_reader(kept.content) as reader:
        assert reader.read() == coded.content
    with tarfile.open(fileobj=io.BytesIO(coded.content)) as tar:
        assert sorted(tar.getnames()) == ["words-v1/noise", "words-v1/text"]


def test_a_download_goes_on_where_it_broke_off(client, site, tmp_path):
    content = raw(6, 3 << 20)
    client.artifacts.upload(artifact(tmp_path, "down", a=content, b=b"b"))
    target = tmp_path / "target"
    target.mkdir()
    part = target / f".a.{hashlib.sha256(content).hexdigest()[:16]}.part"
    part.write_bytes(content[: 2 << 20])
    fetched: list[httpx.Response] = []
    client.session.event_hooks["response"].append(fetched.append)
    told: list[tuple[int, int]] = []
    client.artifacts.download_artifact("down:v1", target, lambda *s: told.append(s))
    assert [r.status_code for r in fetched][-2:] == [206, 200]
    assert fetched[-2].headers["Content-Length"] == str(1 << 20)
    assert told[-1] == (len(content) + 1, len(content) + 1)
    assert (target / "a").read_bytes() == content
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    (target / "a").unlink()
    part.write_bytes(b"not the beginning of it")
    with pytest.raises(api.RunicornAPIError, match="did not arrive as it is described"):
        client.artifacts.download_artifact("down:v1", target)
    client.artifacts.download_artifact("down:v1", target)
    assert (target / "a").read_bytes() == content


def test_asynchronously(site, tmp_path):
    content = raw(7, 9 << 20)

    async def work() -> None:
        async with api.AsyncRunicornClient(site.url) as client:
            made = await client.artifacts.upload(artifact(tmp_path, "async", a=content, b=b"b"))
            assert made["version"] == 1
            await client.artifacts.download_artifact("async:latest", tmp_path / "got")

    asyncio.run(work())
    assert (tmp_path / "got/a").read_bytes() == content


def test_a_versions_life_through_the_client(client, site, tmp_path):
    for number in (1, 2):
        client.artifacts.upload(artifact(tmp_path, "life", a=raw(number, 100), b=b"same"))
    artifacts = client.artifacts
    assert artifacts.set_alias("life:v1", "best")["aliases"] == ["best"]
    assert artifacts.get_artifact("life:best")["version"] == 1
    changed = artifacts.compare("life:best", "latest")
    assert [entry["path"] for entry in changed["changed"]] == ["a"]
    assert artifacts.promote("life:best", "staging", notes="good")["from_stage"] == "experimental"
    with pytest.raises(api.BadRequestError, match="Invalid transition"):
        artifacts.promote("life:v1", "staging")
    artifacts.evaluate("life:v1", {"accuracy": 0.5}, status="failed", test_dataset="birds")
    artifacts.evaluate("life:v1", {"accuracy": 0.9})
    records = artifacts.list_evaluations("life", version=1)
    assert [record["metrics"]["accuracy"] for record in records] == [0.9, 0.5]
    assert artifacts.list_evaluations("life", version=2) == []

    artifacts.delete_artifact("life:v1")
    assert artifacts.get_artifact("life:v1")["status"] == "deleted"
    artifacts.restore_artifact("life:v1")
    assert artifacts.get_artifact("life:v1")["status"] == "ready"
    assert artifacts.verify("life:v1") == {"artifact": "life:v1", "ok": True, "problems": []}
    stored = site.storage.find("life", "dataset").folder / "v1/files/a"
    stored.write_bytes(b"x" * 100)
    assert artifacts.verify("life:v1")["problems"] == [{"path": "a", "problem": "changed"}]
    stored.write_bytes(raw(1, 100))

    artifacts.remove_alias("life", "best")
    with pytest.raises(api.NotFoundError):
        artifacts.remove_alias("life", "best")

    async def the_same() -> None:
        async with api.AsyncRunicornClient(site.url) as waiting:
            await waiting.artifacts.set_alias("life:v2", "best")
            assert (await waiting.artifacts.verify("life:best"))["ok"]
            assert len(await waiting.artifacts.list_evaluations("life")) == 2

    asyncio.run(the_same())
