"""One bad run hides no others, wherever indexing it fails."""

from __future__ import annotations

import os

import pytest

from runs.files import RunFiles
from runs.finding import fulltext
from runs.ingest import documents, events, folder_source, writer
from runs.ingest.indexer import Indexer
from runs.models import Run

BAD = "20260101_000000_bad000"


class Broken(RuntimeError):
    pass


def _is_bad(argument):
    if isinstance(argument, Run):
        return argument.run_id == BAD
    if isinstance(argument, RunFiles):
        return argument.folder.name == BAD
    if isinstance(argument, writer.Change | writer.Batch):
        return argument.run.run_id == BAD
    return isinstance(argument, str) and argument.endswith(BAD)


POINTS = [
    (RunFiles, "listed"),
    (RunFiles, "open"),
    (folder_source, "_new_run"),
    (folder_source, "_read"),
    (folder_source, "_apply_document"),
    (folder_source, "_apply_stream"),
    (writer.Change, "apply"),
    (writer, "read_events"),
    (events, "_parse_any"),
    (documents, "describe"),
    (fulltext, "text_of"),
]


@pytest.mark.parametrize(("place", "name"), POINTS, ids=lambda value: str(value).rpartition(".")[2])
def test_an_error_at_any_point_leaves_the_other_runs(root, api, monkeypatch, place, name):
    good = [root.run().id for _ in range(5)]
    bad = root.run(run_id=BAD)
    for folder in root.path.glob("*/*/runs/*"):
        (folder / "events.jsonl").write_bytes(b"not json\n")
    good.append(root.run().id)
    working, attempts = getattr(place, name), []

    def breaking(*arguments, **options):
        if any(map(_is_bad, arguments)):
            attempts.append(name)
            raise Broken("this run cannot be indexed")
        return working(*arguments, **options)

    monkeypatch.setattr(place, name, breaking)
    indexer = Indexer(root.path)
    indexer.catch_up()
    assert sorted(api.ids()) == sorted(good)
    ingest = api.get("/health")["ingest"]
    assert ingest["failed"] == 1
    assert list(ingest["failures"]) == [f"p/e/runs/{bad.id}"]
    assert "this run cannot be indexed" in ingest["failures"][f"p/e/runs/{bad.id}"]
    assert BAD in api.client.get("/").content.decode()

    old = (bad.path.stat().st_mtime - 60,) * 2
    for path in (*bad.path.iterdir(), bad.path):
        os.utime(path, old)
    indexer.catch_up()  # it looks different now
    attempts.clear()
    indexer.catch_up()
    assert attempts == []  # no retry without a change

    monkeypatch.setattr(place, name, working)
    bad.write("status.json", {"status": "failed"})
    indexer.catch_up()
    assert sorted(api.ids()) == sorted([*good, bad.id])
    assert api.get("/health")["ingest"]["failures"] == {}


@pytest.mark.parametrize("seconds", [2**33 + 2**31, -(2**33), 0])
def test_a_file_of_any_date_is_indexed(root, api, seconds):
    """Nanoseconds since 1970 are beyond 64 bits from the year 2262 on."""
    run, other = root.run(), root.run()
    run.log({"global_step": 1, "loss": 1.0})
    for path in (*run.path.iterdir(), run.path):
        try:
            os.utime(path, (seconds, seconds))
        except (OSError, OverflowError):
            pytest.skip("this file system keeps no such date")
    root.scan()
    assert sorted(api.ids()) == sorted([run.id, other.id])
    assert api.get("/health")["ingest"]["failed"] == 0


def test_an_error_while_progress_is_shown_ends_no_indexing(root, api):
    def report(progress):
        raise Broken

    first = root.run()
    indexer = Indexer(root.path, report=report)
    indexer.catch_up()
    second = root.run()
    indexer.catch_up()
    assert sorted(api.ids()) == sorted([first.id, second.id])
