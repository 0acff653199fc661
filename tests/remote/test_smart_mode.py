"""Smart mode: documents first, the rest of a run when somebody looks at it, within a limit."""

from __future__ import annotations

import json

import pytest

from remote.ssh.loop import run
from remote.sync import registry
from runicorn.manifest import ManifestGenerator
from runs.ingest import folder_source
from tests import servers

from .conftest import RUN, files, make_run

pytestmark = pytest.mark.servers

OTHER = "p/e/runs/20260101_000000_000002"


def documents(there) -> dict[str, bytes]:
    return {path: data for path, data in files(there).items() if path.endswith(".json")}


def wait_for(local, expected: dict[str, bytes]) -> None:
    servers.wait_until(lambda: files(local) == expected, "is there", 15)


def point(step: int) -> bytes:
    line = {"ts": 1, "type": "metrics", "data": {"a": 1, "global_step": step}}
    return json.dumps(line).encode() + b"\n"


def points(api, run_id: str) -> int:
    return len(api.get(f"/runs/{run_id}/metrics_step")["rows"])


@pytest.mark.parametrize("has_manifest", [True, False])
def test_documents_come_first_and_a_run_when_it_is_opened(smart, api, there, local, has_manifest):
    folder = make_run(there)
    (folder / "events.jsonl").write_bytes(point(1))
    make_run(there, OTHER)
    if has_manifest:
        ManifestGenerator(there).generate()
    started = smart()
    assert started["message"] == "Smart mode configured successfully"
    assert started["remote_root"] == "~/storage" and started["config"]["auto_sync"] is True
    wait_for(local, documents(there))
    folder_source.index_run(RUN)
    folder_source.index_run(OTHER)
    assert api.get(f"/runs/{folder.name}")["status"] == "running"
    assert points(api, folder.name) == 1
    opened = {path: data for path, data in files(there).items() if path.startswith(RUN)}
    wait_for(local, documents(there) | opened)
    with (folder / "events.jsonl").open("ab") as events:  # followed while it is looked at
        events.write(point(2))
    servers.wait_until(lambda: points(api, folder.name) == 2, "is live", 6)
    status = api.get("/unified/status")
    assert status["modes"]["smart"] == {"active": True, "remote_root": "~/storage"}
    shown = status["smart_mode"]
    assert shown["active"] and shown["last_sync_at"] and shown["next_sync_at"]
    assert shown["last_error"] is None and shown["progress"]["synced_files"] >= 0
    assert status["cached_experiments"] == 2
    busy = api.post("/unified/disconnect")
    assert busy["ok"] is False and busy["smart_active"] is True
    assert api.post("/unified/deactivate_mode", {"mode": "smart"})["ok"] is True
    assert points(api, folder.name) == 2  # what is cached stays
    assert api.post("/unified/disconnect")["ok"] is True


def test_what_was_opened_longest_ago_goes_when_the_cache_is_full(smart, api, there, local):
    for path in (RUN, OTHER):
        folder = make_run(there, path, b"x" * 40_000)
        (folder / "events.jsonl").write_bytes(point(1))
    smart(max_cache_size_gb=60_000 / 2**30)
    wait_for(local, documents(there))
    folder_source.index_run(RUN)
    folder_source.index_run(OTHER)
    first, second = RUN.rsplit("/", 1)[-1], OTHER.rsplit("/", 1)[-1]
    assert points(api, first) == 1
    (one,) = registry.syncs("unified")
    one._opened.clear()  # nobody looks at it any more
    assert points(api, second) == 1
    wanted = {p: d for p, d in files(there).items() if p.startswith(OTHER)}
    wait_for(local, documents(there) | wanted)
    assert points(api, first) == 1  # it comes again


def test_without_auto_sync_it_syncs_once_and_when_it_is_asked(smart, there, local):
    make_run(there)
    smart(auto_sync=False)
    wait_for(local, documents(there))
    make_run(there, OTHER)
    (one,) = registry.syncs("unified")
    assert one.next_sync_at is None
    assert OTHER not in str(files(local))
    run(_ask(one))
    wait_for(local, documents(there))


async def _ask(one: registry.Sync) -> None:
    one.sync_now()


def test_deleting_and_restoring_by_manifest(smart, there, local):
    folder = make_run(there)
    generator = ManifestGenerator(there)
    generator.generate()
    smart()
    wait_for(local, documents(there))
    marker, copy = folder / ".deleted", local / RUN / ".deleted"
    marker.write_text("{}")
    generator.generate()
    servers.wait_until(copy.exists, "deleted here")
    marker.unlink()
    generator.generate()
    servers.wait_until(lambda: not copy.exists(), "restored here")


@pytest.mark.parametrize("has_manifest", [True, False])
def test_clearing_the_cache(smart, there, local, has_manifest):
    make_run(there)
    if has_manifest:
        ManifestGenerator(there).generate()
    smart()
    wait_for(local, documents(there))
    (one,) = registry.syncs("unified")
    servers.wait_until(lambda: one.describe_cache()["cached_runs"] == 1, "counted")
    assert one.clean_up() == 0
    (local / RUN / "old.json").write_text("goes")
    run(one.clear())
    wait_for(local, documents(there))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"remote_root": ""},
        {"remote_root": 1},
        {"remote_root": "/x", "sync_interval_minutes": "soon"},
        {"remote_root": "/x", "sync_interval_seconds": 0},
        {"remote_root": "/x", "auto_sync": "no"},
        {"remote_root": "/x", "max_cache_size_gb": -1},
    ],
)
def test_what_cannot_be_configured(smart, api, body):
    api.post("/unified/configure_mode", {"mode": "smart", **body}, 400)
