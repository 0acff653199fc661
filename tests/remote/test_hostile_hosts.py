"""What a host may have below a root without harm here: names, crowds, files that change."""

from __future__ import annotations

import os
import threading
import time

import pytest

from remote import fetching, listing
from tests import servers

from .conftest import RUN, files, make_run, wait_until_same

pytestmark = pytest.mark.servers

ODD_NAMES = [
    "q'uo\"te $(touch owned); `touch owned`.txt",
    "--checkpoint=1",
    "--checkpoint-action=exec=touch owned",
    "-rf",
    "a b\u2028c",
    "%s%n*?[x]{y}",
    "实验.json",
    "x" * 150,
]


@pytest.mark.parametrize("many", [1, 10**6], ids=["tar", "sftp"])
def test_names_are_only_names(mirrored, there, local, server, monkeypatch, many):
    monkeypatch.setattr(fetching, "MANY", many)
    folder = make_run(there)
    for name in ODD_NAMES:
        (folder / name).write_text(name)
    odd = there / ODD_NAMES[0] / ODD_NAMES[4] / "runs/20260101_000000_000002"
    odd.mkdir(parents=True)
    (odd / "meta.json").write_text("{}")
    expected = files(there)
    for name in ("new\nline", "back\\slash", "bell\a"):
        (folder / name).write_bytes(b"")
    mirrored()
    servers.wait_until(lambda: files(local) == expected, "came")
    assert not list(server.home.rglob("owned"))


def test_a_crowd_is_passed_over_but_the_run_is_not(mirrored, api, there, local, monkeypatch):
    monkeypatch.setattr(listing, "MOST_ENTRIES", 60)
    folder = make_run(there)
    for number in range(300):
        (folder / f"{number}").write_bytes(b"")
        (folder / f"media/{number}").write_bytes(b"")
    mirrored()
    own = ("meta.json", "status.json", "events.jsonl", "logs.txt")
    servers.wait_until(lambda: all((local / RUN / name).exists() for name in own), "came")
    assert len(list((local / RUN).iterdir())) < 100
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    assert "only the first 60 entries" in task["stats"]["last_error"]


@pytest.mark.parametrize("many", [1, 10**6], ids=["tar", "sftp"])
def test_files_that_grow_and_shrink_while_they_are_read(mirrored, there, local, monkeypatch, many):
    monkeypatch.setattr(fetching, "MANY", many)
    folder = make_run(there)
    for number in range(20):
        (folder / f"media/{number}.bin").write_bytes(os.urandom(200_000))
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            with (folder / "logs.txt").open("ab") as log:
                log.write(b"x" * 50_000 + b"\n")
            (folder / "media/0.bin").write_bytes(b"y" * 10)
            (folder / "media/0.bin").write_bytes(os.urandom(300_000))
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        mirrored()
        copy = local / RUN / "logs.txt"
        servers.wait_until(copy.exists, "begins")
        time.sleep(1)
        seen = copy.read_bytes()
        assert seen == (folder / "logs.txt").read_bytes()[: len(seen)]
    finally:
        ended.set()
        writer.join()
    wait_until_same(there, local)


def test_a_host_without_tar(mirrored, api, there, local, monkeypatch):
    monkeypatch.setattr(fetching, "MANY", 1)
    monkeypatch.setattr(fetching, "TAR", "echo no tar here; cd {root}; exit 1 #")
    make_run(there)
    mirrored()
    wait_until_same(there, local)
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    assert task["stats"]["last_error"] is None


def test_an_archive_that_nobody_asked_for(mirrored, there, local, tmp_path, monkeypatch):
    """A host's tar may send anything: only what was asked for is taken, and verified by nothing
    less than the name and the size."""
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "outside").write_bytes(b"outside")
    monkeypatch.setattr(fetching, "MANY", 1)
    command = f"tar -C {evil} -P --transform 's|^|../../|' -c -f - outside; exit 0; cd {{root}} #"
    monkeypatch.setattr(fetching, "TAR", command)
    make_run(there)
    mirrored()
    wait_until_same(there, local)
    assert not [path for path in tmp_path.rglob("outside") if path.parent != evil]


def test_a_host_that_falls_silent_is_left(mirrored, api, there, local, monkeypatch):
    monkeypatch.setattr(fetching, "MANY", 1)
    monkeypatch.setattr(fetching, "PATIENCE", 0.5)
    monkeypatch.setattr(fetching, "TAR", "sleep 3 #{root}")
    make_run(there)
    mirrored()

    def error() -> str | None:
        (task,) = api.get("/ssh/mirror/list")["mirrors"]
        return task["stats"]["last_error"]

    servers.wait_until(lambda: error() == "TimeoutError", "noticed")
    monkeypatch.setattr(fetching, "TAR", "exit 1 #{root}")
    wait_until_same(there, local)
