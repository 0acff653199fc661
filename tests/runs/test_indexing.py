"""What lies in run folders is what the API answers, whatever state the folders are in."""

from __future__ import annotations

import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics import read
from runs.ingest import folder_source, writer
from runs.models import Run
from tests import v04

from .conftest import event

LINE = event({"loss": 0.5, "global_step": 1, "time": 10.0})


def steps(api, run):
    return [row["global_step"] for row in api.get(f"/runs/{run.id}/metrics_step")["rows"]]


def test_both_layouts_are_found(root, api):
    current, legacy = root.run(), root.path / "runs" / "20250101_000000_abcdef"
    legacy.mkdir(parents=True)
    root.scan()
    assert api.ids() == [current.id]
    (legacy / "status.json").write_text("{}")
    root.scan()
    assert api.ids() == [current.id, legacy.name]
    assert api.get("/runs")[1] | {"created_time": 0} == {
        "id": legacy.name,
        "run_dir": str(legacy),
        "created_time": 0,
        "status": "finished",
        "pid": None,
        "best_metric_value": None,
        "best_metric_name": None,
        "project": None,
        "name": None,
        "artifacts_created_count": 0,
        "artifacts_used_count": 0,
    }


def test_folders_that_hold_no_runs_are_left_alone(root, api):
    for name in ("artifacts", "sweeps", ".hidden", "evaluations"):
        folder = root.path / name / "x" / "runs" / "20250101_000000_abcdef"
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text("{}")
    root.scan()
    assert api.ids() == []


def test_a_project_may_be_a_link_but_a_run_may_not(root, api):
    disk = root.path.parent / "disk"
    linked = disk / "x" / "runs" / "20250101_000000_abcdef"
    linked.mkdir(parents=True)
    (linked / "meta.json").write_text("{}")
    (root.path / "linked").symlink_to(disk)
    run = root.run()
    (run.path.parent / "20250101_000000_000000").symlink_to(linked)
    root.scan()
    assert sorted(api.ids()) == ["20250101_000000_abcdef", run.id]


def test_listing_order_is_project_then_name_then_newest_folder(root, api):
    runs = {
        key: root.run(*key[:2]) for key in (("b", "x"), ("A", "y"), ("a", "x", 1), ("a", "x", 2))
    }
    for age, run in enumerate(runs.values()):
        os.utime(run.path, (1000 + age, 1000 + age))
    root.scan()
    expected = [runs["a", "x", 2], runs["a", "x", 1], runs["A", "y"], runs["b", "x"]]
    assert api.ids() == [run.id for run in expected]


def test_a_growing_file_shows_on_the_next_request(root, api):
    run = root.run()
    run.append("events.jsonl", LINE)
    root.scan()
    assert steps(api, run) == [1]
    for step in range(2, 600):
        run.log({"loss": 1 / step, "global_step": step})
        if step % 97 == 0:
            assert steps(api, run) == list(range(1, step + 1))
    assert api.get(f"/runs/{run.id}/metrics_step") == v04.by_step(run.events)


def test_a_half_written_line_counts_once_it_is_whole(root, api):
    run = root.run()
    run.append("events.jsonl", LINE + LINE[:20])
    root.scan()
    assert steps(api, run) == [1]
    run.append("events.jsonl", event({"global_step": 1, "b": 1})[20:])
    run.log({"global_step": 2})
    assert steps(api, run)[-1:] == [2]


def test_a_whole_last_line_needs_no_newline(root, api):
    run = root.run()
    run.append("events.jsonl", LINE + event({"global_step": 2}).rstrip())
    root.scan()
    assert steps(api, run) == [1, 2]
    run.append("events.jsonl", b"\n" + event({"global_step": 3}))
    assert steps(api, run) == [1, 2, 3]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"   \t",
        b"{",
        b"null",
        b"[1]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"type": "metrics"}',
        b'{"type": "metrics", "data": [1]}',
        b'{"type": "metrics", "data": {"a": 1}} trailing',
        b'{"a":' * 100_000,
        b'{"type": "image", "data": {"key": 1, "path": ["x"]}}',
    ],
)
def test_a_bad_line_hides_no_other(root, api, bad):
    run = root.run()
    run.append("events.jsonl", LINE + bad + b"\n" + event({"loss": 2, "global_step": 2}))
    root.scan()
    assert steps(api, run) == [1, 2]


def test_a_line_behind_the_fragment_of_a_killed_process_is_read(root, api):
    """0.4.0 lost both: the next writer's line lands behind what the killed one had begun."""
    run = root.run()
    run.append("events.jsonl", LINE + LINE[:40] + event({"a": 2**70, "global_step": 2}) + LINE[:9])
    root.scan()
    assert steps(api, run) == [1, 2]
    assert api.get(f"/runs/{run.id}/metrics_step")["rows"][1]["a"] == 2**70


def test_what_is_no_number_for_json_is_null(root, api):
    run = root.run()
    for line in (b'"a": NaN', b'"a": Infinity', b'"a": -Infinity', b'"a": 1e999', b'"a": 1.5'):
        run.append("events.jsonl", b'{"type": "metrics", "data": {%s}}\n' % line)
    run.events.write_bytes(
        b"".join(
            line.replace(b"}}", b', "global_step": %d}}' % n) + b"\n"
            for n, line in enumerate(run.events.read_bytes().splitlines())
        )
    )
    root.scan()
    rows = api.get(f"/runs/{run.id}/metrics_step")["rows"]
    assert [row["a"] for row in rows] == [None, None, None, None, 1.5]


def test_a_series_without_steps_is_drawn_over_seconds(root, api):
    run = root.run()
    run.log({"loss": 1.0, "global_step": 1, "time": 10.0}, {"cpu": 50.0, "time": 12.5})
    run.log({"loss": 0.5, "global_step": 2, "time": 15.0}, {"cpu": float("nan"), "time": 20.0})
    root.scan()
    row = Run.objects.get()
    assert read.curve(row.pk, "loss") == ([1, 2], [1.0, 0.5])
    assert read.curve(row.pk, "cpu") == ([2.5, 10.0], [50.0, None])


def test_values_come_back_as_they_were_logged(root, api):
    run = root.run()
    values = [
        *(3, 3.0, -0.0, True, False, None, "text", "", "文本", 2**53 + 1, 2**63, 10**30, -(10**25)),
        *(5e-324, 1.7976931348623157e308, 0.1),
    ]
    for step, value in enumerate(values):
        run.log({"v": value, "global_step": step})
    root.scan()
    answer = api.client.get(f"/api/runs/{run.id}/metrics_step").content
    found = [row["v"] for row in json.loads(answer)["rows"]]
    assert [(type(v), repr(v)) for v in found] == [(type(v), repr(v)) for v in values]


JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
EVENTS = st.lists(
    st.dictionaries(
        st.sampled_from(["global_step", "step", "epoch", "time", "stage", "loss", "a", "ключ"]),
        JSON_VALUES,
    ),
    max_size=30,
)


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(EVENTS, max_size=4))
def test_any_log_in_any_pieces_reads_as_the_contract_says(root, api, batches):
    run = root.run()
    root.scan()
    for batch in batches:
        run.append("events.jsonl", b"".join(map(event, batch)))
        api.get(f"/runs/{run.id}")
    for route, oracle in (("metrics_step", v04.by_step), ("metrics", v04.by_time)):
        answer = api.get(f"/runs/{run.id}/{route}")
        expected = json.loads(json.dumps(oracle(run.events)).encode("utf-8", "replace"))
        assert answer == expected


@pytest.mark.slow
def test_many_events_arrive_the_same_in_one_piece_or_many(root, api, monkeypatch):
    rows = [
        {"global_step": n // 2, "loss": n / 7, **({"val": n} if n % 5 == 0 else {})}
        for n in range(9000)
    ]
    whole, pieces = root.run(), root.run()
    whole.log(*rows)
    root.scan()
    for start in range(0, 9000, 171):
        pieces.log(*rows[start : start + 171])
        api.get(f"/runs/{pieces.id}")
    answers = [api.get(f"/runs/{run.id}/metrics_step") for run in (whole, pieces)]
    assert answers[0] == answers[1] == v04.by_step(whole.events)


def test_a_file_that_shrinks_or_is_replaced_is_read_anew(root, api):
    run = root.run()
    run.log(*({"global_step": n, "loss": n} for n in range(50)))
    root.scan()
    assert len(steps(api, run)) == 50
    run.write("events.jsonl", event({"global_step": 7, "loss": 1}))
    assert steps(api, run) == [7]
    longer = b"".join(event({"global_step": n, "other": n}) for n in range(100, 200))
    run.write("events.jsonl", longer)
    assert steps(api, run) == list(range(100, 200))
    copy = run.path / "copy"
    copy.write_bytes(longer.replace(b'"other": 150', b'"other": 999'))
    copy.rename(run.events)
    assert api.get(f"/runs/{run.id}/metrics_step")["rows"][50]["other"] == 999
    run.events.unlink()
    assert steps(api, run) == []


def test_a_copy_that_grew_is_not_read_twice(root, api):
    """What rsync does: a new file with the old content and more."""
    run = root.run()
    run.log(*({"global_step": n} for n in range(10)))
    root.scan()
    copy = run.path / "copy"
    copy.write_bytes(run.events.read_bytes() + event({"global_step": 10}))
    copy.rename(run.events)
    assert steps(api, run) == list(range(11))
    assert Run.objects.get(run_id=run.id).event_count == 11


def test_a_folder_that_vanishes_takes_its_run_along(root, api):
    run, other = root.run(), root.run()
    run.append("events.jsonl", LINE)
    root.scan()
    run.path.rename(root.path / "elsewhere")
    api.get(f"/runs/{run.id}", status=404)
    root.scan()
    assert api.ids() == [other.id]


def test_a_root_that_is_away_forgets_no_run(root, api):
    run = root.run()
    root.scan()
    root.path.rename(root.path.parent / "unmounted")
    root.scan()
    assert Run.objects.filter(run_id=run.id).exists()


@pytest.mark.parametrize("document", ["meta.json", "status.json", "summary.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff", b'{"status": [1]}'])
def test_a_document_of_another_shape_counts_as_empty(root, api, document, content):
    run, other = root.run(), root.run()
    run.write(document, content)
    os.utime(run.path / document, (1000, 1000))
    root.scan()
    assert sorted(api.ids()) == sorted([run.id, other.id])
    assert api.get(f"/runs/{run.id}")["status"] == "finished"


def test_a_document_that_is_just_being_written_changes_nothing_yet(root, api):
    run = root.run()
    run.write("status.json", {"status": "failed"})
    root.scan()
    run.write("status.json", b'{"status": "fin')
    assert api.get(f"/runs/{run.id}")["status"] == "failed"
    run.write("status.json", {"status": "finished"})
    assert api.get(f"/runs/{run.id}")["status"] == "finished"


@pytest.mark.parametrize(
    ("member", "value"),
    [("best_metric_value", float("nan")), ("best_metric_value", "x"), ("pid", "1"), ("pid", 1e300)],
)
def test_one_odd_member_is_null_and_the_list_goes_on(root, api, member, value):
    run = root.run(pid=value) if member == "pid" else root.run()
    run.write("summary.json", {"best_metric_name": "loss", "best_metric_value": 1.0, member: value})
    root.scan()
    assert api.get("/runs")[0][member] is None


@pytest.mark.parametrize("created", [1e300, -1e300, float("nan"), "yesterday", None, 0, 1])
def test_a_clock_that_jumped_stops_nothing(root, api, created):
    run = root.run(created_at=created)
    run.write("status.json", {"status": "finished", "started_at": 1e300, "ended_at": -5})
    run.log({"global_step": 1, "time": 1e300, "a": 1}, {"global_step": 2, "time": -5.0, "a": 2})
    root.scan()
    assert api.ids() == [run.id]
    assert api.get(f"/runs/{run.id}/metrics") == v04.by_time(run.events)


def test_a_run_written_by_two_processes(root, api):
    run = root.run()
    with run.events.open("ab", buffering=0) as one, run.events.open("ab", buffering=0) as two:
        for step in range(100):
            one.write(event({"global_step": step, "rank0": step}))
            two.write(event({"global_step": step, "rank1": -step}))
            if step == 50:
                root.scan()
    rows = api.get(f"/runs/{run.id}/metrics_step")["rows"]
    assert [(row["rank0"], row["rank1"]) for row in rows] == [(n, -n) for n in range(100)]


@pytest.mark.slow
def test_a_line_of_100_megabytes(root, api):
    run, other = root.run(), root.run()
    text = "x" * (100 * 2**20)
    run.append("events.jsonl", LINE)
    run.log({"global_step": 2, "list": [text]})
    run.log({"global_step": 3, "loss": 1.0})
    run.append("logs.txt", b"start\n" + text.encode() + b"\nend\n")
    root.scan()
    assert sorted(api.ids()) == sorted([run.id, other.id])
    assert steps(api, run) == [1, 2, 3]


def test_bytes_are_taken_once_and_gaps_are_refused(root, api):
    """The sentence that a push or a sync will say."""
    root.run()
    root.scan()
    run = Run.objects.get()
    data = b"".join(event({"global_step": n}) for n in range(3))
    assert writer.apply(run, "events.jsonl", 0, data) == len(data)
    assert writer.apply(run, "events.jsonl", 0, data) == len(data)
    assert writer.apply(run, "events.jsonl", 5, data[5:] + data[:10]) == len(data)
    with pytest.raises(writer.OffsetMismatch) as refused:
        writer.apply(run, "events.jsonl", len(data) + 1, data)
    assert refused.value.expected == len(data)
    run.refresh_from_db()
    assert run.event_count == 3


def test_hyperparameters_tags_and_notes_are_indexed(root, api):
    run = root.run()
    run.write("config.json", {"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.999]}, "n": None})
    (root.path / ".experiments_metadata.json").write_text(
        json.dumps({run.id: {"tags": ["good", "long"], "description": "the one"}})
    )
    root.scan()
    row = Run.objects.get()
    assert {p.key: (json.loads(p.value), p.number) for p in row.params.all()} == {
        "lr": (0.1, 0.1),
        "opt.name": ("adam", None),
        "opt.betas": ([0.9, 0.999], None),
        "n": (None, None),
    }
    assert sorted(row.tags.values_list("key", flat=True)) == ["good", "long"]
    assert row.notes == "the one"


@pytest.mark.slow
def test_an_index_built_anew_gives_the_same_answers(root, api, tmp_path):
    storage = v04.unpack_storage(tmp_path)
    for path in storage.iterdir():
        path.rename(root.path / path.name)
    root.scan()

    def answers():
        found = {path: api.get(path) for path in ("/runs", "/recycle-bin")}
        for run_id in api.ids():
            for route in ("", "/metrics", "/metrics_step", "/artifacts"):
                found[run_id + route] = api.get(f"/runs/{run_id}{route}")
        return found

    first = answers()
    deleted = first["/runs"][0]["id"]
    api.post("/runs/soft-delete", {"run_ids": [deleted]})
    time.sleep(0.01)
    before = answers()
    assert deleted in [run["id"] for run in before["/recycle-bin"]["deleted_runs"]]
    Run.objects.all().delete()
    root.scan()
    assert answers() == before


def test_a_row_read_before_the_indexer_was_faster_is_read_again(root):
    folder = root.run()
    folder.write("status.json", {"status": "running"})
    root.scan()
    row = Run.objects.get(run_id=folder.id)
    folder.write("status.json", {"status": "finished"})
    root.scan()
    assert folder_source.refresh(row).status == "finished"
