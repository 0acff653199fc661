"""Numbers that are no ordinary numbers: in lists, pages, queries, charts and statistics."""

from __future__ import annotations

import html
import math
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.runs.conftest import Root


def log(root: Root, *values: Any, status: str = "finished", **meta: Any) -> Any:
    run = root.run(**meta)
    run.write("status.json", {"status": status})
    run.log(
        *({"loss": value, "global_step": n, "time": 10.0 + n} for n, value in enumerate(values))
    )
    root.scan()
    return run


def page(client: Any, address: str) -> str:
    return html.unescape(client.get(address).content.decode())


def matching(api: Any, question: str) -> list[str]:
    answer = api.get(f"/v2/experiments?q={question}")
    return [one["id"] for one in answer["experiments"]]


def test_a_metric_of_nan_only_is_there(api, root, client):
    run = log(root, *[math.nan] * 20)
    shown = page(client, f"/runs/{run.id}")
    assert "20 not finite" in shown and "No numbers were logged" not in shown
    assert "NaN" in page(client, "/")
    curve = api.post("/v2/metrics/query", {"run_ids": [run.id]})["series"][0]
    assert curve["values"] == [None] * 20 and curve["total"] == 20
    assert api.get(f"/v2/experiments/{run.id}/metrics/fast")["columns"] == ["global_step", "loss"]
    assert matching(api, "metrics.loss.last is not null") == [run.id]


@pytest.mark.parametrize(
    ("end", "word", "shown"),
    [(math.nan, "nan", "NaN"), (math.inf, "inf", "∞"), (-math.inf, "-inf", "-∞")],
)
def test_a_diverged_run_looks_diverged(api, root, client, end, word, shown):
    diverged, healthy = log(root, 0.9, 0.5, end), log(root, 0.9, 0.5)
    assert f"<b>{shown}</b>" in page(client, "/")
    assert f"<b>{shown}</b>" in page(client, f"/runs/{diverged.id}")
    assert f"<b>{shown}</b>" not in page(client, f"/runs/{healthy.id}")
    assert matching(api, f"metrics.loss.last = {word}") == [diverged.id]
    assert matching(api, f"metrics.loss.last != {word}") == [healthy.id]
    assert set(matching(api, f"metrics.loss.last in ({word}, 0.5)")) == {diverged.id, healthy.id}
    if end != -math.inf:
        assert matching(api, "metrics.loss.last <= 0.5") == [healthy.id]
    assert set(matching(api, "metrics.loss.min = 0.5")) == {diverged.id, healthy.id}
    assert set(matching(api, "metrics.loss.last is not null")) == {diverged.id, healthy.id}
    trend = api.get("/v2/analytics/performance-trends?metric_name=loss&days=36500")
    values = {one["experiment_id"]: one["value"] for one in trend["trend_data"]}
    assert values == {diverged.id: None, healthy.id: 0.5}
    assert trend["statistics"]["total_experiments"] == 2
    assert trend["statistics"]["mean_value"] == 0.5


def test_nothing_is_below_nan(api, root):
    refused = api.get("/v2/experiments?q=metrics.loss.last < nan", status=400)
    assert "nan" in refused["detail"]


def test_a_run_that_recovered_does_not_look_diverged(api, root):
    run = log(root, math.nan, 0.5)
    assert matching(api, "metrics.loss.last = 0.5") == [run.id]
    assert matching(api, "metrics.loss.last = nan") == []
    assert matching(api, "metrics.loss.first = nan") == [run.id]


def test_the_last_value_is_that_of_the_greatest_step(api, root):
    run = root.run()
    rows = [{"loss": 1.0, "global_step": 9}, {"loss": 2.0, "global_step": 3}]
    for row in rows:
        run.log(row)
        root.scan()
    assert matching(api, "metrics.loss.last = 1") == [run.id]
    run.log({"loss": 3.0, "global_step": 9})
    root.scan()
    assert matching(api, "metrics.loss.last = 3") == [run.id]


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63), 2**64, 10**30, True])
def test_integers_of_any_size_are_numbers(api, root, client, number):
    run = log(root, number, number, number)
    assert matching(api, f"metrics.loss.last = {int(number)}") == [run.id]
    curve = api.post("/v2/metrics/query", {"run_ids": [run.id]})["series"][0]
    assert curve["values"] == [float(number)] * 3
    assert '<path class="curve" d="M' in page(client, f"/runs/{run.id}")
    rows = api.get(f"/v2/experiments/{run.id}/metrics/fast")["rows"]
    assert [row["loss"] for row in rows] == [float(number)] * 3
    statistics = api.get("/v2/metrics/statistics?metric=loss")
    assert statistics["mean"] == [float(number)] * 3


def test_the_value_under_the_pointer_has_all_its_digits(root, client):
    values = [123456789.125 + n / 1000 for n in range(100)]
    run = log(root, *values)
    shown = page(client, f"/runs/{run.id}")
    points = re.search(r'data-points="([^"]*)"', shown)[1].split()  # type: ignore[index]
    assert [float(point.split(":")[1]) for point in points] == values


@pytest.mark.parametrize("step", [2**63, -(2**63), 10**30, "x", None])
def test_events_that_have_no_place_are_counted_and_said(api, root, client, step):
    run = root.run()
    run.log({"loss": 1.0, "global_step": 1, "time": 11.0})
    run.log({"loss": 7.0, "global_step": step, "time": 12.0})
    run.log({"loss": 2.0, "global_step": 2, "time": 13.0})
    root.scan()
    for path in (f"runs/{run.id}/metrics_step", f"v2/experiments/{run.id}/metrics/fast"):
        for asked in ("", "?downsample=100"):
            answer = client.get(f"/api/{path}{asked}")
            assert answer["X-Unplaced-Count"] == "1"
            assert [row["loss"] for row in answer.json()["rows"]] == [1, 2]
    by_time = api.get(f"/runs/{run.id}/metrics")["rows"]
    assert [row["loss"] for row in by_time] == [1, 7, 2]
    assert by_time[1]["global_step"] is None
    assert matching(api, "metrics.loss.last = 2") == [run.id]
    assert re.search(r"Events without a step</dt><dd>1<", page(client, f"/runs/{run.id}"))


def best_of(api: Any) -> tuple[str | None, float | None]:
    (listed,) = api.get("/v2/experiments")["experiments"]
    assert listed["best_metric_value"] == api.get("/runs")[0]["best_metric_value"]
    return listed["best_metric_name"], listed["best_metric_value"]


@pytest.mark.parametrize(("mode", "best"), [("max", 0.9), ("min", 0.2)])
@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_the_best_value_is_known_before_the_run_has_finished(api, root, mode, best, status):
    run = log(root, 0.5, 0.9, 0.2, math.nan, status=status, hostname="elsewhere")
    assert best_of(api)[1] is None
    run.write("summary.json", {"best_metric_name": "loss", "best_metric_mode": mode})
    root.scan()
    assert best_of(api) == ("loss", best)
    assert matching(api, f"metrics.loss.best = {best}") == [run.id]
    run.log({"loss": 5.0 if mode == "max" else -5.0, "global_step": 7})
    root.scan()
    assert abs(best_of(api)[1]) == 5
    values = {"best_metric_value": 0.7, "best_metric_step": 1}
    named = {"best_metric_name": "loss", "best_metric_mode": mode}
    run.write("summary.json", values | named)
    run.write("status.json", {"status": "finished"})
    root.scan()
    assert best_of(api)[1] == 0.7  # what the run itself says


TRAINING = """
import runicorn as rn, sys, time
run = rn.init(project="p", name="e", storage=sys.argv[1], capture_env=False)
run.set_primary_metric("acc", "max")
for value in (0.5, 0.9, 0.7):
    run.log(acc=value)
print("ready", flush=True)
time.sleep(60)
"""


def test_the_best_value_is_known_while_the_run_lives_and_after_kill_9(api, root):
    command = [sys.executable, "-c", TRAINING, str(root.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None and training.stdout.readline() == "ready\n"
        root.scan()
        assert best_of(api) == ("acc", 0.9)
        training.kill()
    root.scan()
    assert best_of(api) == ("acc", 0.9)
    assert len(matching(api, "metrics.acc.best = 0.9")) == 1


def test_a_date_that_no_calendar_holds_is_that_of_the_folder(api, root):
    run = root.run(created_at=1767225600 * 1000)
    root.scan()
    (shown,) = api.get("/v2/experiments")["experiments"]
    assert shown["id"] == run.id and 1.7e9 < shown["created_at"] < 4e9
    assert matching(api, "created > 2100-01-01") == []
