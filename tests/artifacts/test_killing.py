"""``kill -9`` at any moment: versions are whole or not there, and what is left is collected."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import runicorn as rn
from runicorn import api
from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.storage import Draft
from tests.sdk.conftest import WITH_SDK
from tests.servers import ROOT, accepts, free_port, wait_until

TIMES = 50
SERVER_KILLS = int(os.environ.get("SERVER_KILLS", "50"))
"""Each costs the start of a server."""

LOOP = """
import itertools, os, random, sys, time
from pathlib import Path
from runicorn.artifacts import ArtifactStorage
from runicorn.artifacts.storage import (Draft)
root, sources, action = sys.argv[1:]
storage = ArtifactStorage(root)
files = [(str(p), p.name) for p in sorted(Path(sources).iterdir())]
own = Path(sources + "-own")
own.mkdir(exist_ok=True)
(own / "loose").unlink(missing_ok=True)  # of a process that was killed

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
            loose = str(own / "loose")
            stored = storage.blobs.store(str(path), loose, is_likely=lambda size: False)
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
        for _ in range(1 + chance.randrange(3)):  # of them all but the last are done
            assert child.stdout is not None and child.stdout.readline()
        time.sleep(chance.uniform(0, 0.08))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for location in storage.locations():  # what a reader sees at once
            for number in location.numbers():
                assert storage.metadata(location, number).version == number
                assert (location.version(number) / "manifest.json").exists()
    # As at the start of each process: the last one may have been killed while it held a content.
    (tmp_path / "sources-own" / "loose").unlink(missing_ok=True)
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
    assert {digest for digest, _ in storage.blobs.contents()} == needed
    aside = [p for p in storage.blobs.folder.rglob("*") if p.name.startswith(".")]
    assert aside == []


SERVERS = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from runicorn._django import serve
import django
django.setup()
from django.urls import get_resolver
get_resolver().url_patterns
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for port in sys.stdin:
    if (server := os.fork()) == 0:
        os.dup2(2, 1)
        sys.exit(serve("127.0.0.1", int(port)))
    print(server, flush=True)
"""
"""Starts ``runicorn viewer`` on each port that it is told, from a process that has loaded it."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_killed_during_uploads(tmp_path):
    """Whatever the client had asked for: asked again, each upload becomes one version."""
    root = tmp_path / "root"
    root.mkdir()
    folder = tmp_path / "files"
    folder.mkdir()
    env = WITH_SDK | {"RUNICORN_DIR": str(root), "DJANGO_SETTINGS_MODULE": "settings.local"}
    env |= {"XDG_CONFIG_HOME": str(tmp_path)}
    limits = {"settings": {"enable_rate_limiting": False}}
    (tmp_path / "runicorn").mkdir()
    (tmp_path / "runicorn/rate_limits.json").write_text(json.dumps(limits))
    chance = random.Random(5)
    starter = subprocess.Popen(
        [sys.executable, "-c", SERVERS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        cwd=ROOT,
        text=True,
        bufsize=1,
    )
    assert starter.stdin is not None and starter.stdout is not None
    port = free_port()

    def start() -> int:
        starter.stdin.write(f"{port}\n")
        server = int(starter.stdout.readline())
        wait_until(answers, "the server")
        return server

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    made: list[str] = []
    is_over = threading.Event()

    def upload() -> None:
        """One artifact after the other, each until it is there."""
        while not is_over.is_set():
            marker = f"{len(made)}"
            artifact = rn.Artifact("net", "model", metadata={"marker": marker})
            for name, size in (("large", 3 << 20), ("small", 5000)):
                (folder / name).write_bytes(os.urandom(size))
                artifact.add_file(folder / name)
            artifact.add_file(folder / "same")
            while not is_over.is_set():
                try:
                    with api.connect(f"http://127.0.0.1:{port}", max_retries=0) as client:
                        client.artifacts.upload(artifact)
                    made.append(marker)
                    break
                except api.ConnectionError:
                    time.sleep(0.01)

    (folder / "same").write_bytes(b"same in all")
    with ThreadPoolExecutor(1) as thread:
        try:
            server = start()
            client = thread.submit(upload)
            for _ in range(SERVER_KILLS):
                reached = len(made)
                time.sleep(chance.uniform(0, 0.25))
                os.kill(server, signal.SIGKILL)
                wait_until(lambda: not accepts(port), "the end")
                server = start()
            wait_until(lambda: client.done() or len(made) > reached, "the last upload")
            is_over.set()
            client.result(timeout=60)
            os.kill(server, signal.SIGKILL)
        finally:
            is_over.set()
            starter.kill()
            starter.communicate()
    storage = ArtifactStorage(root)
    storage.collect_garbage()
    location = storage.find("net")
    markers = [storage.metadata(location, n).metadata["marker"] for n in location.numbers()]
    assert markers == made
    assert len(made) > SERVER_KILLS / 4, "it was always killed before anything arrived"
    for number in location.numbers():
        assert storage.verify(location, number) == []
    check(storage)
