"""Runs that are sent to the server are folders like any others: the coming doors, played here."""

from __future__ import annotations

import pytest

from runs.ingest import receiving, writer
from runs.models import Run

from .conftest import event

ID = "20260102_030405_0a1b2c"


def send(root, run_id=ID, **meta):
    run = receiving.open_run("p", "e", run_id, meta, by=None)
    receiving.receive_document(run, "status.json", b'{"status": "running"}')
    return run


def test_a_run_that_is_sent_is_read_through_every_route(root, api):
    run = send(root)
    lines = b"".join(event({"global_step": n, "loss": 1.0 / n}) for n in range(1, 4))
    assert receiving.receive(run, "events.jsonl", 0, lines) == len(lines)
    assert receiving.receive(run, "logs.txt", 0, b"one\ntwo\n") == 8
    receiving.receive_document(run, "config.json", b'{"lr": 0.1}')
    receiving.receive_document(run, "summary.json", b'{"accuracy": 0.9}')
    assert api.ids() == [ID]
    detail = api.get(f"/runs/{ID}")
    assert (detail["project"], detail["name"], detail["status"]) == ("p", "e", "running")
    assert [row["loss"] for row in api.get(f"/runs/{ID}/metrics_step")["rows"]] == [1.0, 0.5, 1 / 3]
    assert api.get("/v2/experiments?q=config.lr = 0.1")["total"] == 1
    assert api.get("/v2/experiments?q=summary.accuracy > 0.5")["total"] == 1
    assert api.client.get(f"/api/export/{ID}/csv").status_code == 200
    assert "two" in api.client.get(f"/runs/{ID}").content.decode()


def test_it_is_deleted_restored_and_purged(root, api):
    run = send(root)
    assert api.post("/runs/soft-delete", {"run_ids": [ID]})["deleted_count"] == 1
    assert api.ids() == []
    assert api.post("/recycle-bin/restore", {"run_ids": [ID]})["restored_count"] == 1
    assert api.ids() == [ID]
    api.post("/runs/soft-delete", {"run_ids": [ID]})
    assert ID in api.post("/recycle-bin/empty", {"confirm": True})["refused"]  # it still runs
    receiving.receive_document(run, "status.json", b'{"status": "finished"}')
    assert api.post("/recycle-bin/empty", {"confirm": True})["permanently_deleted"] == 1
    assert not run.path.exists()
    assert not Run.objects.exists()


def test_the_index_is_made_again_from_its_folder(root, api):
    run = send(root)
    receiving.receive(run, "events.jsonl", 0, event({"global_step": 1, "loss": 0.5}))
    receiving.receive(run, "logs.txt", 0, b"a line\n")
    before = api.get(f"/runs/{ID}"), api.get(f"/runs/{ID}/metrics_step")
    Run.objects.all().delete()
    root.scan()
    assert (api.get(f"/runs/{ID}"), api.get(f"/runs/{ID}/metrics_step")) == before


def test_bytes_are_written_once_and_gaps_are_refused(root, api):
    run = send(root)
    data = b"".join(event({"global_step": n, "loss": 1.0}) for n in range(3))
    assert receiving.receive(run, "events.jsonl", 0, data[:30]) == 30
    assert receiving.receive(run, "events.jsonl", 0, data) == len(data)
    assert receiving.receive(run, "events.jsonl", 10, data[10:]) == len(data)
    with pytest.raises(writer.OffsetMismatch) as refused:
        receiving.receive(run, "events.jsonl", len(data) + 1, data)
    assert refused.value.expected == len(data)
    assert (run.path / "events.jsonl").read_bytes() == data
    assert len(api.get(f"/runs/{ID}/metrics_step")["rows"]) == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [("status.json", b"no json"), ("status.json", b"[]"), ("notes.txt", b"{}"), ("../x", b"{}")],
)
def test_what_is_no_document_is_refused_and_changes_nothing(root, api, name, content):
    run = send(root)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(ValueError):
        receiving.receive_document(run, name, content)
    with pytest.raises(ValueError):
        receiving.receive(run, name, 0, content)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


@pytest.mark.parametrize(
    "names", [("..", "e", ID), ("p", "a/b", ID), ("p", "e", "x"), ("runs", "e", ID)]
)
def test_names_that_may_be_no_folder_are_refused(root, names):
    with pytest.raises(ValueError):
        receiving.open_run(*names, {}, by=None)
    assert list(root.path.iterdir()) == []


def test_no_link_is_followed(root, tmp_path):
    run = send(root)
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    (run.path / "events.jsonl").symlink_to(outside)
    with pytest.raises(OSError):
        receiving.receive(run, "events.jsonl", 0, event({"global_step": 1}))
    assert outside.read_bytes() == b""


def test_several_writers_are_read_as_one_run(root, api):
    run = send(root)
    receiving.receive(run, "events.jsonl", 0, event({"global_step": 1, "loss": 1.0}))
    receiving.receive(run, "logs.txt", 0, b"here\n")
    receiving.receive(run, "events.rank1.jsonl", 0, event({"global_step": 2, "loss": 2.0}))
    receiving.receive(run, "logs.rank1.txt", 0, b"there\nhalf a li")
    receiving.receive(
        run,
        "events.jsonl",
        len(event({"global_step": 1, "loss": 1.0})),
        event({"global_step": 3, "loss": 3.0}),
    )
    receiving.receive(run, "logs.txt", 5, b"here again\n")
    receiving.receive(run, "logs.rank1.txt", 15, b"ne\n")

    def read():
        rows = api.get(f"/runs/{ID}/metrics_step")["rows"]
        page = api.client.get(f"/runs/{ID}").content.decode()
        return [(row["global_step"], row["loss"]) for row in rows], page

    rows, page = read()
    assert rows == [(1, 1.0), (2, 2.0), (3, 3.0)]
    for line in ("here", "there", "here again", "half a line"):
        assert line in page
    Run.objects.all().delete()
    root.scan()
    rows, page = read()
    assert rows == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert "half a line" in page


def test_a_writers_file_that_was_replaced_is_read_anew_with_the_others(root, api):
    run = send(root)
    receiving.receive(run, "events.jsonl", 0, event({"global_step": 1, "loss": 1.0}))
    receiving.receive(run, "events.rank1.jsonl", 0, event({"global_step": 2, "loss": 2.0}) * 2)
    (run.path / "events.rank1.jsonl").write_bytes(event({"global_step": 5, "loss": 5.0}))
    root.scan()
    rows = api.get(f"/runs/{ID}/metrics_step")["rows"]
    assert [(row["global_step"], row["loss"]) for row in rows] == [(1, 1.0), (5, 5.0)]
    (run.path / "events.jsonl").unlink()
    root.scan()
    rows = api.get(f"/runs/{ID}/metrics_step")["rows"]
    assert [(row["global_step"], row["loss"]) for row in rows] == [(5, 5.0)]
