"""Many points: downsampled, in batches, as columns, over many runs; and mended when damaged."""

from __future__ import annotations

import gzip
import io
import math
import statistics
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics import read
from metrics.models import EventBlock, Series, SeriesBlock, SeriesLevel

STREAM = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
COLUMNS = "application/vnd.runicorn.columns+json"


def wave(steps: int, start: int = 1, **more: Any) -> list[dict[str, Any]]:
    """A slow wave with one spike up and one down."""
    rows = []
    for step in range(start, start + steps):
        value = math.sin(step / 500)
        value = {start + steps // 3: 9.5, start + steps // 2: -7.25}.get(step, value)
        rows.append({"loss": value, "global_step": step, "time": 1.7e9 + step, **more})
    return rows


@pytest.fixture
def long_run(root):
    run = root.run()
    run.log(*wave(70_000, acc=0.5))
    root.scan()
    return run


def extremes(answer: dict[str, Any], key: str = "loss") -> tuple[float, float]:
    values = [row[key] for row in answer["rows"]]
    return min(values), max(values)


@pytest.mark.parametrize("points", [4, 7, 100, 1000, 5000])
def test_fast_keeps_the_ends_and_the_extremes(api, long_run, points):
    answer = api.get(
        f"/v2/experiments/{long_run.id}/metrics/fast?downsample={points}&metric_names=loss"
    )
    steps = [row["global_step"] for row in answer["rows"]]
    assert len(steps) == answer["total_points"] <= points
    assert steps == sorted(set(steps)) and (steps[0], steps[-1]) == (1, 70_000)
    assert extremes(answer) == (-7.25, 9.5)
    assert answer["applied_filters"]["downsampled"] is True


@pytest.mark.slow
def test_a_very_long_run_is_sampled_by_its_levels(api, root):
    run = root.run()
    run.log(*wave(200_000, acc=0.5, lr=0.1))
    root.scan()
    assert set(SeriesLevel.objects.values_list("level", flat=True)) == {1, 2, 3}
    EventBlock.objects.filter(first__gt=8192, first__lt=40_000).delete()
    one = api.get(f"/v2/experiments/{run.id}/metrics/fast?downsample=500&metric_names=loss")
    assert extremes(one) == (-7.25, 9.5)
    assert [one["rows"][i]["global_step"] for i in (0, -1)] == [1, 200_000]
    three = api.get(f"/v2/experiments/{run.id}/metrics/fast?downsample=500")
    assert extremes(three) == (-7.25, 9.5)
    assert all(row["acc"] == 0.5 and row["lr"] == 0.1 for row in three["rows"])
    assert len(three["rows"]) <= 500


def test_a_range_of_steps_is_read_by_itself(api, long_run):
    path = f"/v2/experiments/{long_run.id}/metrics/fast?step_range=20000:20010"
    rows = api.get(path)["rows"]
    assert [row["global_step"] for row in rows] == list(range(20_000, 20_011))
    assert rows[0]["loss"] == math.sin(40)
    curve = api.post(
        "/v2/metrics/query",
        {"run_ids": [long_run.id], "step_range": "1000:60000", "points": 50, "metrics": ["loss"]},
    )["series"][0]
    assert (curve["steps"][0], curve["steps"][-1]) == (1000, 60_000)
    assert (min(curve["values"]), max(curve["values"])) == (-7.25, 9.5)


def test_reading_one_series_opens_no_other(api, long_run):
    others = SeriesBlock.objects.filter(series__key="acc")
    others.update(values=b"damaged")  # whoever opens one of these replaces it
    api.get(f"/v2/experiments/{long_run.id}/metrics/fast?metric_names=loss")
    api.post("/v2/metrics/query", {"run_ids": [long_run.id], "metrics": ["loss"]})
    assert others.count() == others.filter(values=b"damaged").count() > 0
    api.get(f"/v2/experiments/{long_run.id}/metrics/fast?metric_names=acc")
    assert not others.filter(values=b"damaged").exists()


@pytest.mark.parametrize("route", ["metrics", "metrics_step"])
def test_v1_tables_are_downsampled_on_request(api, long_run, route):
    response = api.client.get(f"/api/runs/{long_run.id}/{route}?downsample=300")
    answer = response.json()
    assert answer["total"] == 70_000 and answer["sampled"] == len(answer["rows"]) == 300
    assert response["X-Row-Count"] == "300" and response["X-Total-Count"] == "70000"
    assert response["X-Last-Step"]
    assert extremes(answer) == (-7.25, 9.5)
    for wrong in ("99", "50001", "x", ""):
        refused = api.get(f"/runs/{long_run.id}/{route}?downsample={wrong}", status=400)
        assert refused["errors"][0]["loc"] == ["query", "downsample"]


def test_a_live_chart_fetches_only_what_is_new(api, root):
    run = root.run()
    run.log(*wave(10))
    root.scan()
    first = api.client.get(f"/api/runs/{run.id}/metrics_step")
    run.log(*wave(3, start=11))
    more = api.get(f"/runs/{run.id}/metrics_step?since={first['X-Cursor']}")
    assert [row["global_step"] for row in more["rows"]] == [11, 12, 13]
    none = api.get(f"/runs/{run.id}/metrics_step?since={more['cursor']}")
    assert none["rows"] == []
    run.events.write_bytes(b"")  # the run begins anew: so does the client
    run.log(*wave(2))
    again = api.get(f"/runs/{run.id}/metrics_step?since={more['cursor']}")
    assert [row["global_step"] for row in again["rows"]] == [1, 2]
    api.get(f"/runs/{run.id}/metrics_step?since=yesterday", status=400)


def test_an_answer_that_is_still_right_is_not_sent_again(api, root):
    run = root.run()
    run.log(*wave(10))
    root.scan()
    path = f"/api/runs/{run.id}/metrics_step"
    tag = api.client.get(path)["ETag"]
    unchanged = api.client.get(path, headers={"If-None-Match": tag})
    assert unchanged.status_code == 304 and unchanged.content == b""
    assert api.client.get(f"{path}?downsample=100")["ETag"] != tag
    run.log(*wave(1, start=11))
    assert api.client.get(path, headers={"If-None-Match": tag}).status_code == 200


def read_table(response: Any, form: str) -> pa.Table:
    data = io.BytesIO(b"".join(response.streaming_content))
    assert response["Content-Type"] == form
    return pa.ipc.open_stream(data).read_all() if form == STREAM else pq.read_table(data)


@pytest.mark.parametrize("form", [STREAM, PARQUET])
def test_whole_series_as_arrow_and_parquet(api, long_run, form):
    response = api.client.get(f"/api/runs/{long_run.id}/metrics_step", headers={"Accept": form})
    table = read_table(response, form)
    assert table.num_rows == 70_000
    assert table.column_names == ["global_step", "acc", "loss", "time"]
    assert table["loss"].to_pylist() == [row["loss"] for row in wave(70_000)]


@pytest.mark.parametrize("form", [STREAM, PARQUET])
def test_a_whole_project_as_arrow_and_parquet(api, root, form):
    runs = [root.run(project="mine") for _ in range(3)]
    for number, run in enumerate(runs):
        run.log(*wave(100, acc=number))
    root.run(project="other").log(*wave(5))
    root.scan()
    response = api.client.get("/api/v2/metrics/export?project=mine", headers={"Accept": form})
    table = read_table(response, form)
    assert table.num_rows == 3 * 3 * 100
    rows = table.to_pylist()
    assert {row["run_id"] for row in rows} == {run.id for run in runs}
    acc = {row["run_id"]: row["value"] for row in rows if row["metric"] == "acc"}
    assert acc == {run.id: number for number, run in enumerate(runs)}


def test_json_by_columns(api, root):
    run = root.run()
    run.log({"global_step": 1, "a": 1, "b": "x"}, {"global_step": 2, "a": math.nan})
    root.scan()
    answer = api.client.get(f"/api/runs/{run.id}/metrics_step", headers={"Accept": COLUMNS})
    assert answer["Content-Type"] == COLUMNS
    assert answer.json() == {
        "columns": ["global_step", "a", "b"],
        "data": [[1, 2], [1, None], ["x", None]],
    }


def test_many_runs_and_metrics_in_one_request(api, root, django_assert_max_num_queries):
    runs = [root.run() for _ in range(5)]
    for number, run in enumerate(runs):
        run.log(*wave(600, acc=number))
    root.scan()
    ids = [run.id for run in reversed(runs)]
    with django_assert_max_num_queries(20):
        answer = api.post("/v2/metrics/query", {"run_ids": [*ids, "nobody"], "points": 100})
    assert answer["missing"] == ["nobody"]
    assert [one["run_id"] for one in answer["series"] if one["metric"] == "acc"] == ids
    loss = next(one for one in answer["series"] if one["metric"] == "loss")
    assert loss["total"] == 600 and len(loss["steps"]) == len(loss["values"]) <= 100
    assert (min(loss["values"]), max(loss["values"])) == (-7.25, 9.5)
    for wrong in ({}, {"run_ids": []}, {"run_ids": "x"}, {"run_ids": ["x"], "points": 0}):
        assert api.post("/v2/metrics/query", wrong, status=400)["errors"]


def test_statistics_are_over_all_runs(api, root):
    values = [1.0, 2.0, 4.0, 8.0]
    for value in values:
        run = root.run()
        run.log(*({"global_step": step, "m": value * step} for step in (1, 2)))
    root.run(name="shorter").log({"global_step": 2, "m": 0.0}, {"global_step": 9, "m": math.inf})
    root.scan()
    answer = api.get("/v2/metrics/statistics?metric=m")
    assert answer["runs"] == 5 and answer["steps"] == [1, 2] and answer["count"] == [4, 5]
    assert answer["mean"] == [statistics.mean(values), 6.0]
    assert answer["std"][0] == pytest.approx(statistics.pstdev(values))
    assert answer["min"] == [1.0, 0.0] and answer["max"] == [8.0, 16.0]
    assert api.get("/v2/metrics/statistics?metric=m&name=shorter")["count"] == [1]
    api.get("/v2/metrics/statistics", status=400)


def test_statistics_are_sent_again_only_when_something_changed(api, root, client):
    run = root.run()
    run.log({"m": 1.0, "global_step": 1})
    root.scan()
    path = "/api/v2/metrics/statistics?metric=m"
    tag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    run.log({"m": 3.0, "global_step": 2})
    root.scan()
    answer = client.get(path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["mean"]) == (200, [1.0, 3.0])


def damage(block: Any) -> None:
    field = "steps" if isinstance(block, EventBlock) else "values"
    data = bytearray(getattr(block, field))
    data[7] ^= 0x40
    type(block).objects.filter(pk=block.pk).update(**{field: bytes(data)})


@pytest.mark.parametrize("model", [SeriesBlock, EventBlock, SeriesLevel])
def test_a_damaged_block_is_reported_and_read_anew(api, long_run, model, caplog):
    question = {"run_ids": [long_run.id], "points": 40}
    before = api.post("/v2/metrics/query", question)["series"]
    blocks = (
        model.objects.filter(first__gt=0) if model is not SeriesLevel else SeriesLevel.objects.all()
    )
    block = blocks.order_by("first").last()
    if model is SeriesLevel:
        block = SeriesLevel.objects.filter(level=2, series__key="loss").get()
    damage(block)
    if model is SeriesLevel:
        after = api.post("/v2/metrics/query", question)["series"]
        assert after == before
    else:
        answer = api.get(f"/runs/{long_run.id}/metrics_step")
        assert [row["loss"] for row in answer["rows"]] == [row["loss"] for row in wave(70_000)]
    assert f"metrics.{model.__name__} {block.pk}" in caplog.text
    assert not model.objects.filter(pk=block.pk).exists()


@pytest.mark.parametrize("route", ["metrics_step", "metrics"])
@pytest.mark.parametrize("form", ["application/json", COLUMNS, STREAM])
def test_damage_in_the_middle_of_a_long_answer_is_mended_on_the_way(
    api, root, monkeypatch, form, route, caplog
):
    monkeypatch.setattr("runs.api.tables.WHOLE_CELLS", 1000)  # so that it is sent in pieces
    run = root.run()
    run.log(*wave(50_000))
    root.scan()
    path, headers = f"/api/runs/{run.id}/{route}", {"Accept": form}
    before = api.client.get(path, headers=headers).getvalue()
    block = SeriesBlock.objects.get(series__key="loss", first=8 * 4096)
    damage(block)
    assert api.client.get(path, headers=headers).getvalue() == before
    assert f"metrics.SeriesBlock {block.pk}" in caplog.text
    assert not SeriesBlock.objects.filter(pk=block.pk).exists()


def test_damage_at_the_growing_end_is_found_before_more_is_written(api, root, caplog):
    run = root.run()
    run.log(*wave(300))
    root.scan()
    for model in (EventBlock, SeriesBlock):
        block = model.objects.order_by("first").last()
        damage(block)
        run.log(*wave(1, start=301 + len(caplog.records)))
        root.scan()
        assert f"metrics.{model.__name__} {block.pk}" in caplog.text
    rows = api.get(f"/runs/{run.id}/metrics_step")["rows"]
    assert [row["loss"] for row in rows[:300]] == [row["loss"] for row in wave(300)]
    assert [row["global_step"] for row in rows] == list(range(1, 303))


def test_damage_without_a_folder_to_read_from_is_named(api, root):
    run = root.run()
    run.log(*wave(10))
    root.scan()
    run.events.unlink()
    run.events.mkdir()  # the run stays, its events cannot be read
    block = SeriesBlock.objects.get(series__key="loss")
    damage(block)
    question = {"run_ids": [run.id], "metrics": ["loss"]}
    assert (
        str(block)
        and f"SeriesBlock {block.pk}"
        in api.post("/v2/metrics/query", question, status=500)["detail"]
    )


def test_a_metric_logged_rarely_keeps_all_its_points_in_a_long_run(api, root):
    run = root.run()
    rows = wave(40_000)
    for row in rows[5000:5500:50]:
        row["val"] = row["global_step"] / 7
    run.log(*rows)
    root.scan()
    question = {"run_ids": [run.id], "metrics": ["val"], "points": 100}
    curve = api.post("/v2/metrics/query", question)["series"][0]
    assert curve["steps"] == list(range(5001, 5501, 50)) and curve["total"] == 10


@pytest.mark.parametrize("asked", ["", "&downsample=5", "&metric_names=loss&downsample=1000"])
def test_fast_too_sends_only_what_is_new(api, root, asked):
    run = root.run()
    run.log(*wave(10))
    root.scan()
    path = f"/v2/experiments/{run.id}/metrics/fast?"
    cursor = api.client.get(f"/api{path}{asked}")["X-Cursor"]
    run.log(*wave(3, start=11))
    more = api.get(f"{path}since={cursor}{asked}")
    assert [row["global_step"] for row in more["rows"]] == [11, 12, 13]
    assert api.get(f"{path}since={more['cursor']}{asked}")["rows"] == []
    assert api.get(f"{path}since=x{asked}", status=400)["errors"][0]["loc"] == ["query", "since"]


def test_the_same_question_has_the_same_answer_until_something_is_new(api, long_run):
    path = f"/api/v2/experiments/{long_run.id}/metrics/fast?downsample=50&metric_names=loss"
    first, again = api.client.get(path), api.client.get(path)
    assert first.json()["rows"] == again.json()["rows"] and first["ETag"] == again["ETag"]
    for tags in (first["ETag"], f'"x", {first["ETag"]}', first["ETag"].removeprefix("W/"), "*"):
        assert api.client.get(path, headers={"If-None-Match": tags}).status_code == 304
    long_run.log({"loss": 99.0, "global_step": 70_001})
    new = api.client.get(path, headers={"If-None-Match": first["ETag"]})
    assert new.json()["rows"][-1]["loss"] == 99.0 and new["ETag"] != first["ETag"]


def test_long_answers_are_compressed_for_other_machines_only(api, root, monkeypatch):
    monkeypatch.setattr("runs.api.tables.WHOLE_CELLS", 1000)
    run = root.run()
    run.log(*wave(20_000))
    root.scan()
    path = f"/api/runs/{run.id}/metrics_step"
    headers = {"Accept-Encoding": "gzip", "Host": "localhost"}
    here = api.client.get(path, headers=headers)
    assert "Content-Encoding" not in here
    there = api.client.get(path, headers=headers, REMOTE_ADDR="192.0.2.7")
    assert there["Content-Encoding"] == "gzip" and there["ETag"] == here["ETag"]
    assert gzip.decompress(there.getvalue()) == here.getvalue()


def test_steps_that_go_back_have_no_levels_and_the_last_value_wins(api, root):
    run = root.run()
    run.log(*wave(9000))
    root.scan()
    assert SeriesLevel.objects.exists()
    run.log({"global_step": 5, "loss": 77.0})
    answer = api.get(f"/v2/experiments/{run.id}/metrics/fast?step_range=5:5")
    assert answer["rows"] == [{"global_step": 5, "loss": 77.0}]
    curve = read.curves([Series.objects.first().run_id], ["loss"], points=100)
    assert max(next(iter(curve.values())).values) == 77.0
