"""What becomes of a run whose processes show no sign of life any more."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from runicorn import heartbeats, layout
from runicorn.manifest import ManifestGenerator
from runs import actions
from runs.ingest.indexer import Indexer, Listener
from runs.models import Run
from tests.servers import ROOT, wait_until

TRAIN = """
import socket, sys, time
host, root = sys.argv[1:]
if host:
    socket.gethostname = lambda: host
import runicorn as rn
from runicorn import _lifecycle
_lifecycle.LOOK_S = 0.1
run = rn.init(
    project='p', name='e', storage=root, run_id='20260101_000000_aaaaaa',
    capture_env=False, system_metrics=False, capture_console=False,
)
run.log(loss=1.0)
print('in', flush=True)
for line in sys.stdin:
    exec(line)
    print('done', flush=True)
"""
RUN_ID = "20260101_000000_aaaaaa"


class Training:
    """A process that trains, on a host of any name, and does what it is told."""

    def __init__(self, root, host=""):
        self.folder = root.path / "p/e/runs" / RUN_ID
        command = [sys.executable, "-c", TRAIN, host, str(root.path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
        assert self.process.stdout.readline() == "in\n"

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def train(root):
    trainings = []

    def start(host=""):
        trainings.append(Training(root, host))
        return trainings[-1]

    yield start
    for training in trainings:
        training.kill()


@pytest.fixture
def short(monkeypatch):
    """A run counts as lost after a second."""
    monkeypatch.setattr(heartbeats, "LOST_S", 1.0)


def stored(folder):
    return json.loads((folder / "status.json").read_text())


def age(folder, seconds=120.0):
    """As if nothing had been heard of the run for so long."""
    then = time.time() - seconds
    for path in folder.iterdir():
        os.utime(path, (then, then))


def look_until(look, folder, status):
    def is_so():
        look()
        return stored(folder)["status"] == status

    wait_until(is_so, status)


def checked(root):
    """What the server's own thread does every few seconds."""
    actions.check_processes(Run.objects.active().judged_by_processes())


LOOKS = {
    "v1": lambda api, root: api.get(f"/runs/{RUN_ID}"),
    "v2": lambda api, root: api.get(f"/v2/experiments/{RUN_ID}"),
    "check": lambda api, root: api.post("/status/check"),
    "indexer": lambda api, root: checked(root),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_run_that_is_killed_on_another_host_is_lost(root, api, train, short, look):
    training = train("node017")
    root.scan()
    look(api, root)
    assert api.get(f"/runs/{RUN_ID}")["status"] == "running"
    training.kill()
    look_until(lambda: look(api, root), training.folder, "failed")
    status = stored(training.folder)
    assert (status["status"], status["exit_reason"]) == ("failed", "lost")
    assert status["ended_at"] >= status["started_at"]
    assert api.get("/runs")[0]["status"] == "failed"


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_it_runs_again_with_the_next_touch(root, api, train, short, look):
    training = train("node017")
    root.scan()
    training.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: api.get(f"/runs/{RUN_ID}")["status"] == "failed", "lost")
    look(api, root)
    assert stored(training.folder)["exit_reason"] == "lost"
    training.process.send_signal(signal.SIGCONT)
    look_until(lambda: look(api, root), training.folder, "running")
    status = stored(training.folder)
    assert not status.keys() & {"ended_at", "exit_reason"}
    training.do("run.finish()")
    assert api.get(f"/runs/{RUN_ID}")["status"] == "finished"


def test_it_runs_again_with_the_next_byte(root, api, train):
    training = train("node017")
    training.kill()
    age(training.folder)
    root.scan()
    assert api.get(f"/runs/{RUN_ID}")["status"] == "failed"
    with (training.folder / "events.jsonl").open("ab") as events:
        events.write(b'{"ts":9,"type":"metrics","data":{"global_step":2,"loss":2.0}}\n')
    assert api.get(f"/runs/{RUN_ID}")["status"] == "running"
    assert api.get(f"/runs/{RUN_ID}/metrics_step")["rows"][-1]["loss"] == 2.0


def test_bytes_are_a_sign_of_life_too(root, api, train):
    """Of a process that may have no more threads: none touches its heartbeat."""
    training = train("node017")
    training.kill()
    age(training.folder)
    os.utime(training.folder / "events.jsonl")
    root.scan()
    assert api.get(f"/runs/{RUN_ID}")["status"] == "running"


def test_a_run_that_ended_is_not_lost(root, api, train):
    training = train("node017")
    training.do("run.finish()")
    age(training.folder)
    root.scan()
    assert api.get(f"/runs/{RUN_ID}")["status"] == "finished"


def test_a_run_that_failed_by_itself_does_not_run_again(root, api, train):
    training = train("node017")
    training.do("run.finish('failed')")
    root.scan()
    with (training.folder / "events.jsonl").open("ab") as events:
        events.write(b"\n")
    assert api.get(f"/runs/{RUN_ID}")["status"] == "failed"


def test_a_process_of_this_host_is_looked_at_whatever_its_heartbeat_says(root, api, train):
    training = train()
    root.scan()
    training.process.send_signal(signal.SIGSTOP)
    age(training.folder)
    assert api.get(f"/runs/{RUN_ID}")["status"] == "running"
    training.kill()
    assert api.get(f"/runs/{RUN_ID}")["status"] == "failed"
    assert stored(training.folder)["exit_reason"] == "process_not_found"


@pytest.mark.parametrize("host", ["", "node017"])
def test_a_run_lives_while_one_of_its_processes_does(root, api, train, short, host):
    first, second = train(), train(host)
    root.scan()
    first.kill()
    time.sleep(1.2)
    assert api.post("/status/check")["updated"] == 0
    assert api.get("/runs")[0]["status"] == "running"
    second.kill()
    wait_until(lambda: api.get(f"/runs/{RUN_ID}")["status"] == "failed", "failed")
    reason = "lost" if host else "process_not_found"
    assert stored(first.folder)["exit_reason"] == reason


def test_the_clock_of_the_storage_counts(root, api, train, monkeypatch):
    train("node017")
    root.scan()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    assert api.get(f"/runs/{RUN_ID}")["status"] == "running"


def test_a_lost_run_that_is_started_again_is_joined_if_it_beats(root, api, train):
    training = train("node017")
    age(training.folder)
    training.process.send_signal(signal.SIGSTOP)
    age(training.folder)
    root.scan()
    assert api.get(f"/runs/{RUN_ID}")["status"] == "failed"
    training.process.send_signal(signal.SIGCONT)
    training.do("run.look_after()")
    other = train()
    training.do("run.finish()")
    assert api.get(f"/runs/{RUN_ID}")["status"] == "running"
    other.do("run.finish()")
    assert api.get(f"/runs/{RUN_ID}")["status"] == "finished"


def test_a_folder_that_vanishes_is_no_error(root, api, train):
    training = train("node017")
    training.kill()
    age(training.folder)
    root.scan()
    shutil.rmtree(training.folder)
    assert api.get("/runs")[0]["id"] == RUN_ID  # not looked at yet
    assert api.post("/status/check")["updated"] == 0
    api.get(f"/runs/{RUN_ID}", 404)
    assert api.ids() == []
    assert not training.folder.exists()


@pytest.mark.parametrize("name", ["heartbeat.csv", "heartbeat.12-xyz", "heartbeat."])
def test_a_file_of_the_users_own_is_no_heartbeat(root, api, name):
    run = root.run(pid=1, hostname="elsewhere")
    run.write("status.json", {"status": "running"})
    run.write(name, b"mine")
    age(run.path, 10**6)
    root.scan()
    assert api.get(f"/runs/{run.id}")["status"] == "running"
    assert f"p/e/runs/{run.id}/{name}" in exported(api, run.id)


def test_links_and_pipes_in_the_place_of_a_heartbeat_are_none(root, api):
    run = root.run(pid=1, hostname="elsewhere")
    run.write("status.json", {"status": "running"})
    name = heartbeats.name_of({"pid": 1})
    (run.path / name).symlink_to("meta.json")
    os.mkfifo(run.path / name.replace(".1-", ".2-"))
    root.scan()
    assert api.get(f"/runs/{run.id}")["status"] == "running"


# -- silent ------------------------------------------------------------------------------------


@pytest.fixture
def silent(root):
    run = root.run(pid=1, hostname="elsewhere")
    run.write("status.json", {"status": "running", "started_at": 5.0})
    run.log({"global_step": 1, "loss": 1.0})
    age(run.path, 30 * 86400)
    root.scan()
    return run


def test_a_run_without_heartbeats_is_silent_and_never_ended_by_its_age(root, api, silent):
    api.post("/status/check")
    checked(root)
    run = api.get(f"/runs/{silent.id}")
    assert (run["status"], run["silent_since"]) == ("running", silent.events.stat().st_mtime)
    assert api.get(f"/v2/experiments/{silent.id}")["silent_since"] == run["silent_since"]
    silent.log({"global_step": 2, "loss": 2.0})
    assert api.get(f"/runs/{silent.id}")["silent_since"] is None
    silent.write("status.json", {"status": "finished"})
    age(silent.path, 30 * 86400)
    assert api.get(f"/runs/{silent.id}")["silent_since"] is None


def test_the_page_says_since_when(client, api, silent):
    address = f"/runs/{silent.id}/live"
    page = client.get(address)
    assert "Silent since" in page.content.decode()
    assert (
        "静默始于" in client.get(address, headers={"accept-language": "zh-hans"}).content.decode()
    )
    same = client.get(address, headers={"if-none-match": page.headers["ETag"]})
    assert same.status_code == 304
    os.utime(silent.events)
    assert "Silent since" not in client.get(address).content.decode()


# -- nothing but a sign of life -----------------------------------------------------------------


def exported(api, run_id):
    answer = api.client.get(f"/api/export?run_ids={run_id}")
    with tarfile.open(fileobj=io.BytesIO(answer.getvalue())) as archive:
        return set(archive.getnames())


def test_heartbeats_do_not_travel(root, api, train):
    training = train()
    assert list(training.folder.glob("heartbeat.*"))
    root.scan()
    names = exported(api, RUN_ID)
    assert f"p/e/runs/{RUN_ID}/events.jsonl" in names
    assert not [name for name in names if "heartbeat" in name]
    manifest, _ = ManifestGenerator(root.path).generate()
    (entry,) = manifest.experiments
    assert entry.files and not [file.path for file in entry.files if "heartbeat" in file.path]


def test_a_touch_causes_no_look_at_the_run(root, api, train):
    training = train()
    root.scan()
    assert not Run.objects.get().indexed_files.filter(name__startswith="heartbeat").exists()
    indexer = Indexer(root.path)
    listener = Listener(indexer)
    (beat,) = training.folder.glob("heartbeat.*")
    for path in (beat, training.folder / "status.json.lock"):
        listener._announce(str(path.relative_to(root.path)))
    assert not indexer._pending
    listener._announce(str((training.folder / layout.EVENTS).relative_to(root.path)))
    assert indexer._pending
