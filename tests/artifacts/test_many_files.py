"""Thousands of small files, a share of which another process copies: nobody sees that it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import runicorn as rn
from runicorn.artifacts import ArtifactStorage
from tests.artifacts.test_killing import check
from tests.sdk.conftest import WITH_SDK
from tests.servers import wait_until

COUNT = 2500
SAVE = """
import sys
import runicorn as rn
run = rn.Run("p", sys.argv[1], capture_env=False)
print("ready", flush=True)
run.log_artifact(rn.Artifact("many", "dataset").add_dir(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for number in range(COUNT):
        path = folder / f"部分-{number % 50}" / f"{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"the same" if number % 100 == 7 else os.urandom(200))
        os.utime(path, (1.6e9, 1.6e9 + number))
    for number in (0, 1200, 2400):  # too large to be anybody else's work
        (folder / f"部分-{number % 50}" / f"{number}.bin").write_bytes(os.urandom(400_000))
    return folder


@pytest.fixture
def run(tmp_path):
    run = rn.Run("p", tmp_path / "root", name="e", capture_env=False)
    yield run
    run.finish()


def helpers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any("copy_worker.serve" in word for word in process.cmdline()):
                found.append(process)
    return found


def whole(root: Path, number: int = 1) -> ArtifactStorage:
    storage = ArtifactStorage(root)
    location = storage.find("many")
    assert len(storage.manifest(location, number).files) == COUNT
    check(storage)
    return storage


@pytest.mark.slow
def test_all_of_them_arrive_once(run, source):
    assert run.log_artifact(rn.Artifact("many", "dataset").add_dir(source)) == 1
    storage = whole(run.storage_root)
    files = {f.path: f for f in storage.manifest(storage.find("many"), 1).files}
    for number in (1, 1200, 2499):
        path = f"部分-{number % 50}/{number}.bin"
        stored = storage.find("many").folder / "v1/files" / path
        assert stored.read_bytes() == (source / path).read_bytes()
        assert files[path].modified_at == (source / path).stat().st_mtime
    same = storage.find("many").folder / "v1/files/部分-7/7.bin"
    assert same.stat().st_nlink == COUNT / 100 + 1
    assert helpers() == []

    assert run.log_artifact(rn.Artifact("many", "dataset").add_dir(source)) == 2
    assert same.stat().st_nlink == 2 * COUNT / 100 + 1


@pytest.mark.slow
def test_the_other_process_may_die(run, source):
    killed = []

    def kill() -> None:
        while not is_over.is_set():
            for process in helpers():
                with suppress(psutil.Error):
                    process.kill()
                    killed.append(process.pid)

    is_over = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for number in range(1, 6):
            run.log_artifact(rn.Artifact("many", "dataset").add_dir(source))
            whole(run.storage_root, number)
    finally:
        is_over.set()
        killer.join()
    assert killed


def test_without_another_python_it_is_done_alone(run, source, monkeypatch):
    """A program that has Python inside is not started once more."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/false")
    run.log_artifact(rn.Artifact("many", "dataset").add_dir(source))
    whole(run.storage_root)


def test_what_cannot_be_read_is_named_and_nothing_remains(run, source, tmp_path):
    artifact = rn.Artifact("many", "dataset").add_dir(source)
    gone = tmp_path / "gone.bin"
    gone.touch()
    artifact.add_file(gone)
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=r"gone\.bin"):
        run.log_artifact(artifact)
    storage = ArtifactStorage(run.storage_root)
    storage.collect_garbage()
    assert list(storage.blobs.contents()) == []
    assert list((run.storage_root / "artifacts").rglob(".staging-*")) == []
    assert helpers() == []


@pytest.mark.slow
def test_killed_with_its_helper_at_work(source, tmp_path):
    """The helper outlives it by a batch at most, and what both had begun is collected."""
    root = tmp_path / "root"
    for number in range(10):
        command = [sys.executable, "-c", SAVE, str(root), str(source)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=WITH_SDK)
        assert child.stdout is not None and child.stdout.readline()
        while not helpers() and child.poll() is None:
            pass
        time.sleep(number * 0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        wait_until(lambda: not helpers(), "the end of the helper")
    storage = ArtifactStorage(root)
    storage.collect_garbage()
    check(storage)
