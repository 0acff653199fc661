"""``kill -9`` at any moment: versions are whole or not there, and what is left is collected."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.storage import Draft
from tests.sdk.conftest import WITH_SDK
from tests.servers import ROOT

TIMES = 50

LOOP = """
import itertools, os, random, sys, time
from pathlib import Path
from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.storage import Draft
root, sources, action = sys.argv[1:]
storage = ArtifactStorage(root)
files = [(str(p), p.name) for p in sorted(Path(sources).iterdir())]
own = Path(sources + "-own")
own.mkdir(exist_ok=True)

def save(name):
    unique = own / "unique"
    unique.write_bytes(os.urandom(3 << 20))
    storage.save(Draft(name, "model", [*files, (str(unique), "unique")]))

for count in itertools.count():
    print(count, flush=True)
    if action == "save":
        save("net")
    elif action == "purge":
        save("other")
        location = storage.find("other")
        storage.purge([(location, location.numbers()[-1])])
    elif action == "gc":
        for path in own.iterdir():
            stored = storage.pool.store(str(path), str(own / "loose"), is_known=False)
            (own / "loose").unlink()
        storage.collect_garbage()
        (own / "unique").write_bytes(os.urandom(100_000))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ["save", "purge", "gc"])
def test_killed_at_any_moment(tmp_path, action):
    root, sources = tmp_path / "root", tmp_path / "sources"
    sources.mkdir()
    for number in range(30):
        (sources / f"{number}").write_bytes(os.urandom(5000))
    storage = ArtifactStorage(root)
    files: list[tuple[str | Path, str]] = [(p, p.name) for p in sorted(sources.iterdir())]
    for _ in range(2):
        storage.save(Draft("kept", "model", files))
    storage.soft_delete(storage.find("kept"), 1)
    chance = random.Random(action)
    for _ in range(TIMES):
        command = [sys.executable, "-c", LOOP, str(root), str(sources), action]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=WITH_SDK)
        assert child.stdout is not None and child.stdout.readline()
        time.sleep(chance.uniform(0, 0.08))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for location in storage.locations():  # what a reader sees at once
            for number in location.numbers():
                assert storage.metadata(location, number).version == number
                assert (location.version(number) / "manifest.json").exists()
    storage.collect_garbage()
    check(storage)
    if action == "save":
        assert storage.find("net").numbers(), "it was always killed before anything was saved"


def check(storage: ArtifactStorage) -> None:
    """Every version verifies, the indexes list exactly them, nothing else is left."""
    needed = set()
    for location in storage.locations():
        numbers = location.numbers()
        assert [info.version for info in storage.index(location).versions] == numbers
        if numbers:
            assert storage.index(location).aliases["latest"] in numbers
        for number in numbers:
            assert storage.verify(location, number) == []
            needed |= {f.digest[7:] for f in storage.manifest(location, number).files}
        left = {p.name for p in location.folder.iterdir() if not p.name.startswith("v")}
        assert left <= {".lock", ".highest"}
    assert {digest for digest, _ in storage.pool.contents()} == needed
    aside = [p for p in storage.pool.folder.rglob("*") if p.name.startswith(".")]
    assert aside == []


UPLOADS = """
import hashlib, io, os, sys
sys.path.insert(0, os.getcwd())
import django
django.setup()
from artifacts import uploads

def finish(upload):
    content = bytes.fromhex(upload.plan["metadata"]["seed"]) * 40_000
    for entry in upload.missing():
        for start in range(entry["offset"], len(content), 100_000):
            part = io.BytesIO(content[start : start + 100_000])
            uploads.write_part(upload, entry["digest"][7:], start, part.read)
    uploads.commit(upload, by=None)

print("ready", flush=True)
if uploads._home().exists():
    for folder in list(uploads._home().iterdir()):
        if (folder / "plan.json").exists():
            finish(uploads.get(folder.name))
while True:
    seed = os.urandom(16)
    content = seed * 40_000
    digest = hashlib.sha256(content).hexdigest()
    plan = {"name": "net", "type": "model", "references": [], "description": "", "tags": []}
    plan |= {"created_by_run": "", "metadata": {"seed": seed.hex()}}
    plan |= {"files": [{"path": "w.bin", "size": len(content), "digest": digest}]}
    finish(uploads.start(plan, by=None))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_during_uploads(tmp_path):
    """The next process goes on where the killed one was, and loses nothing."""
    root = tmp_path / "root"
    root.mkdir()
    env = WITH_SDK | {"RUNICORN_DIR": str(root), "DJANGO_SETTINGS_MODULE": "settings.local"}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
    chance = random.Random(5)
    for _ in range(TIMES):
        command = [sys.executable, "-c", UPLOADS]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, cwd=ROOT)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.15))
        assert child.poll() is None
        child.kill()
        child.wait()
        child.stdout.close()
    storage = ArtifactStorage(root)
    storage.collect_garbage()
    location = storage.find("net")
    assert len(location.numbers()) > 10
    seeds = set()
    for number in location.numbers():
        assert storage.verify(location, number) == []
        seeds.add(storage.metadata(location, number).metadata["seed"])
    # A process killed right after its commit does not know of it: its upload is committed again.
    assert len(location.numbers()) <= len(seeds) + TIMES
