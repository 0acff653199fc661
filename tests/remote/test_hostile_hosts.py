"""What a host may have below a root without harm here: names, crowds, files that change."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time

import pytest

from remote.sync import host_tree, source, transfer
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
    monkeypatch.setattr(transfer, "MANY", many)
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
    monkeypatch.setattr(host_tree, "MOST_ENTRIES", 60)
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
    monkeypatch.setattr(transfer, "MANY", many)
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
            time.sleep(0.01)

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
    monkeypatch.setattr(transfer, "MANY", 1)
    monkeypatch.setattr(transfer, "TAR", "echo no tar here; exit 1 #")
    make_run(there)
    mirrored()
    wait_until_same(there, local)
    (task,) = api.get("/ssh/mirror/list")["mirrors"]
    assert task["stats"]["last_error"] is None


NO_PROGRAMS = "/nowhere"
OWN_PROGRAMS = "{tmp_path}/bin:/usr/bin:/bin"


@pytest.mark.parametrize(
    "server", ["/usr/bin:/bin", NO_PROGRAMS], ids=["find", "sftp"], indirect=True
)
def test_many_runs_are_followed(mirrored, api, there, local, server):
    """With the programs of a shell there, and without any."""
    runs = [f"p/e{n % 3}/runs/20260101_000000_00000{n:x}" for n in range(12)]
    runs += ["runs/20260101_000000_0000ff"]
    for run in runs:
        make_run(there, run)
    (there / RUN / "media/deep/er").mkdir(parents=True, exist_ok=True)
    make_run(there.parent / "elsewhere", "e/runs/20260101_000000_0000fe")
    (there / "linked").symlink_to(there / "p", target_is_directory=True)
    (there / "out").symlink_to(there.parent / "elsewhere", target_is_directory=True)
    (there / "p/e0/not-runs").mkdir()
    (there / "p/e0/not-runs/x").write_text("")

    def expected() -> dict[str, bytes]:
        own = {p: d for p, d in files(there).items() if "not-runs" not in p}
        return own | {p.replace("p/", "linked/", 1): d for p, d in own.items() if p[:2] == "p/"}

    mirrored()
    servers.wait_until(lambda: files(local) == expected(), "came")
    for run in runs[::2]:
        with (there / run / "logs.txt").open("ab") as log:
            log.write(b"more\n")
        (there / run / "summary.json").write_text("{}")
    make_run(there, "p/new/runs/20260101_000000_0000aa")
    servers.wait_until(lambda: files(local) == expected(), "goes on")


@pytest.mark.parametrize("server", [OWN_PROGRAMS], indirect=True)
@pytest.mark.parametrize(
    "told",
    [
        r"d 0 0 .\0d 0 0 ./p\0d 0 0 ./p/e\0d 0 0 ./p/e/runs\0d 0 0 ./p/e/runs/x\0"
        r"f 9 0 ./p/e/runs/x/../../../../../outside\0d 0 0 ./..\0d 0 0 ./../e\0"
        r"f 9 0 ./../e/outside\0f 9 0 ./p/e/runs/x/..\0l 9 0 ./p/outside\0",
        r"hello from a profile\nd 0 0 .\0",
        r"d 0 0 .\0f 9 0 ./cut off",
    ],
    ids=["outside", "a profile", "cut"],
)
def test_a_find_that_tells_what_is_not_so(mirrored, there, local, server, tmp_path, told):
    program = tmp_path / "bin" / "xargs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '{told}'\n")
    program.chmod(0o755)
    make_run(there)
    mirrored()
    wait_until_same(there, local)
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("server", [OWN_PROGRAMS], indirect=True)
@pytest.mark.parametrize(
    "told", ["-5\\n", "1\\nx" * 40, "4\\nevil" * 20], ids=["negative", "other", "evil"]
)
def test_a_python_that_tells_what_is_not_so(mirrored, there, local, server, tmp_path, told):
    """What it says is longer, shorter or other than what was asked for: no byte here is lost."""
    program = tmp_path / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat > /dev/null; printf '{told}'\n")
    program.chmod(0o755)
    folders = [make_run(there, f"p/e/runs/20260101_000000_0000{n:02x}") for n in range(10)]
    mirrored()
    wait_until_same(there, local)
    for folder in folders:
        with (folder / "logs.txt").open("ab") as log:
            log.write(b"two\n")
        with (folder / "events.jsonl").open("ab") as events:
            events.write(b"{}\n")
    wait_until_same(there, local)


def test_an_archive_that_nobody_asked_for(mirrored, there, local, tmp_path, monkeypatch):
    """A host's tar may send anything: only what was asked for is taken, and verified by nothing
    less than the name and the size."""
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "outside").write_bytes(b"outside")
    monkeypatch.setattr(transfer, "MANY", 1)
    command = f"tar -C {evil} -P --transform 's|^|../../|' -c -f - outside; exit 0 #"
    monkeypatch.setattr(transfer, "TAR", command)
    make_run(there)
    mirrored()
    wait_until_same(there, local)
    assert not [path for path in tmp_path.rglob("outside") if path.parent != evil]


ENDLESS = """
import sys, tarfile
header = tarfile.TarInfo("x")
header.type, header.size = tarfile.{kind}, 2**40
sys.stdout.buffer.write(header.tobuf(tarfile.GNU_FORMAT))
while True:
    sys.stdout.buffer.write(bytes(2**16))
"""


@pytest.mark.parametrize("kind", ["XHDTYPE", "GNUTYPE_LONGNAME", "REGTYPE", "GNUTYPE_SPARSE"])
def test_an_archive_without_end(mirrored, there, local, monkeypatch, kind):
    """Neither a header nor a file may be larger than what was asked for: nothing more is read."""
    monkeypatch.setattr(transfer, "MANY", 1)
    program = shlex.quote(ENDLESS.format(kind=kind))
    monkeypatch.setattr(transfer, "TAR", f"{sys.executable} -c {program} #")
    make_run(there)
    mirrored()
    wait_until_same(there, local)


def test_a_host_that_falls_silent_is_left(mirrored, api, there, local, monkeypatch):
    monkeypatch.setattr(transfer, "MANY", 1)
    monkeypatch.setattr(source, "PATIENCE", 0.5)
    monkeypatch.setattr(transfer, "TAR", "sleep 3 #")
    make_run(there)
    mirrored()

    def error() -> str | None:
        (task,) = api.get("/ssh/mirror/list")["mirrors"]
        return task["stats"]["last_error"]

    servers.wait_until(lambda: error() == "TimeoutError", "noticed")
    monkeypatch.setattr(transfer, "TAR", "exit 1 #")
    wait_until_same(there, local)
