"""The V2 list: filters, orders, pages, questions; and what it costs."""

from __future__ import annotations

import gzip
import json
import random

import pytest

from runs import actions
from runs.models import Run


@pytest.fixture
def cast(root):
    """Six runs of two projects, the newest last."""
    runs = []
    for number in range(6):
        run = root.run("ab"[number % 2], f"e{number % 3}")
        end = {"started_at": 100.0, "ended_at": 100.0 + 60 * number}
        status = ["finished", "failed", "interrupted"][number % 3]
        run.write("status.json", {"status": status, **end})
        best = {"best_metric_name": "acc", "best_metric_value": number / 10}
        run.write("summary.json", best | {"note": "x y"} if number else {})
        run.write("config.json", {"lr": 0.1 * number, "opt": {"name": "adam" if number else "sgd"}})
        run.log({"global_step": 1, "acc": number / 10}, {"global_step": 2, "acc": -number})
        runs.append(run)
    root.scan()
    return runs


def found(api, query: str) -> list[int]:
    """Which of the cast, by number, in the order of the answer."""
    answer = api.get(f"/v2/experiments?{query}")
    assert answer["total"] == len(answer["experiments"])
    return [int(run["id"][-6:], 16) - 1 for run in answer["experiments"]]


def asked(api, question: str) -> list[int]:
    response = api.client.get("/api/v2/experiments", {"q": question, "order_desc": "false"})
    assert response.status_code == 200, response.content
    return [int(run["id"][-6:], 16) - 1 for run in response.json()["experiments"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [5, 4, 3, 2, 1, 0]),
        ("project=a", [4, 2, 0]),
        ("name=e1", [4, 1]),
        ("status=failed,interrupted", [5, 4, 2, 1]),
        ("search=E2", [5, 2]),
        ("search=%25", []),
        ("search=_", [5, 4, 3, 2, 1, 0]),  # every id has one, and it is no wildcard
        ("created_after=4.5&created_before=5.5", [3, 2]),
        ("best_metric_min=0.2&best_metric_max=0.4", [4, 3, 2]),
        ("best_metric_max=9", [5, 4, 3, 2, 1]),
        ("order_by=best_metric_value", [5, 4, 3, 2, 1, 0]),
        ("order_by=best_metric_value&order_desc=false", [1, 2, 3, 4, 5, 0]),
        ("order_by=project&order_desc=false", [0, 2, 4, 1, 3, 5]),
        ("order_by=duration", [5, 4, 3, 2, 1, 0]),
    ],
)
def test_filters_and_orders(api, cast, query, expected):
    assert found(api, query) == expected


def test_pages_hold_every_run_once(api, cast):
    seen = []
    for page in (1, 2, 3):
        answer = api.get(f"/v2/experiments?per_page=2&page={page}&order_by=status")
        assert answer["total"] == 6 and answer["has_prev"] == (page > 1)
        assert answer["has_next"] == (page < 3)
        seen += [run["id"] for run in answer["experiments"]]
    assert len(set(seen)) == 6
    assert api.get("/v2/experiments?page=2147483647&per_page=1000")["experiments"] == []


@pytest.mark.parametrize(
    "query",
    [
        *("page=0", "page=", "page=x", "per_page=1001", "order_by=nope", "order_by=pid;--"),
        *("order_desc=down", "include_deleted=maybe", "created_after=soon", "best_metric_min=nan"),
        *("best_metric_max=inf", "project=%00"),
    ],
)
def test_a_wrong_parameter_is_named(api, cast, query):
    answer = api.get(f"/v2/experiments?{query}", status=400)
    assert answer["errors"][0]["loc"] == ["query", query.partition("=")[0]]


def test_every_parameter_is_documented(api):
    schema = api.client.get("/openapi.json").json()
    described = schema["paths"]["/api/v2/experiments"]["get"]["parameters"]
    assert {parameter["name"] for parameter in described} >= {
        *("project", "name", "status", "tags", "search", "created_after", "created_before"),
        *("best_metric_min", "best_metric_max", "include_deleted", "q"),
        *("page", "per_page", "order_by", "order_desc"),
    }


def test_deleted_runs_are_shown_on_request_only(api, cast):
    actions.soft_delete_runs([Run.objects.get(run_id=cast[2].id)], by=None)
    assert 2 not in found(api, "")
    assert 2 in found(api, "include_deleted=true")
    assert api.get(f"/v2/experiments/{cast[2].id}")["experiment"]["id"] == cast[2].id


def test_a_batch_is_deleted_for_v1_too_and_comes_back(api, cast):
    ids = [cast[0].id, cast[1].id, "nobody"]
    answer = api.post("/v2/experiments/batch-delete", {"exp_ids": ids, "reason": "tidy"})
    assert (answer["deleted"], answer["failed"]) == (2, 1)
    assert answer["results"] == {ids[0]: True, ids[1]: True, "nobody": False}
    assert ids[0] not in api.ids() and (cast[0].path / ".deleted").exists()
    binned = api.get("/recycle-bin")["deleted_runs"]
    assert {(run["id"], run["delete_reason"]) for run in binned} == {(i, "tidy") for i in ids[:2]}
    api.post("/recycle-bin/restore", {"run_ids": ids[:2]})
    assert found(api, "") == [5, 4, 3, 2, 1, 0]


QUESTIONS = [
    ("project = a and status = finished", [0]),
    ("project = a or experiment in (e1, 'e2')", [0, 1, 2, 4, 5]),
    ("not (project = a)", [1, 3, 5]),
    ("status != finished", [1, 2, 4, 5]),
    ("metrics.acc.max >= 0.3", [3, 4, 5]),
    ("metrics.acc.last < -3 and metrics.acc.min < -4.5", [5]),
    ("metrics.acc.best in (0.1, 0.5)", [1, 5]),
    ("metrics.acc.best is null", [0]),
    ("metrics.nothing.last is not null", []),
    ("config.lr > 0.25", [3, 4, 5]),
    ("config.opt.name = sgd", [0]),
    ("config.opt.name ~ DAM", [1, 2, 3, 4, 5]),
    ("summary.note = 'x y'", [1, 2, 3, 4, 5]),
    ("summary.note is null", [0]),
    ("duration >= 3m", [3, 4, 5]),
    ("created < 1970-01-02 and created > 4", [2, 3, 4, 5]),
    ("created = 1970-01-01", [0, 1, 2, 3, 4, 5]),
    ("ended > 1970-01-01T00:05", [4, 5]),
    ("tags is null", [0, 1, 2, 3, 4, 5]),
    ("best >= 0.4", [4, 5]),
    ("id ~ 000002", [1]),
]


@pytest.mark.parametrize(("question", "expected"), QUESTIONS)
def test_questions(api, cast, question, expected):
    assert asked(api, question) == expected


def test_questions_of_very_many_runs(api, cast, monkeypatch):
    """Another way to ask, by which alone a page of many stays fast."""
    monkeypatch.setattr("runs.finding.fulltext.MANY", 0)  # in place of ten thousand
    for question, expected in QUESTIONS:
        assert asked(api, question) == expected
    actions.set_tags(Run.objects.get(run_id=cast[3].id), ["x", "y"], by=None)
    assert found(api, "tags=x,y") == asked(api, "tags = x and not tags is null") == [3]


@pytest.mark.slow
def test_tags_alone_are_another_way_to_the_same_runs(api, root):
    """Whatever happens to the runs: that way goes by a table of its own."""
    dice = random.Random(0)
    runs = []
    for number in range(30):  # ids in no order, times that are shared, absent or both
        run_id = f"20260101_000000_{dice.randrange(16**6):06x}"
        created = dice.choice([1.5, 2.5, 3.5, None])
        runs.append(root.run("ab"[number % 2], run_id=run_id, created_at=created))
    root.scan()
    for _ in range(60):
        run = Run.objects.filter(run_id=dice.choice(runs).id).first()
        if run is not None:
            happens = dice.choice(["tags", "tags", "tags", "delete", "restore", "purge", "date"])
            if happens == "tags":
                keys = dice.sample(["x", "y", "夜间"], dice.randrange(4))
                actions.set_tags(run, keys, by=None)
            elif happens == "delete":
                actions.soft_delete_runs([run], by=None)
            elif happens == "restore":
                actions.restore_runs([run], by=None)
            elif happens == "purge":
                actions.purge_runs([run], by=None)
            else:
                meta = json.loads((run.path / "meta.json").read_text())
                meta["created_at"] = dice.choice([2.5, 4.5, None])
                (run.path / "meta.json").write_text(json.dumps(meta))
                root.scan()
        for tags in ("x", "y,x", "夜间, x,y", "none", ","):
            for page in (1, 2):
                query = f"/v2/experiments?per_page=4&page={page}&tags={tags}"
                answer = api.get(query)
                other = api.get(f"{query}&include_deleted=false")
                assert answer["total"] == other["total"], (happens, run, tags)
                assert answer["experiments"] == other["experiments"], (happens, run, tags)
    assert api.get("/v2/experiments?tags=x")["total"] > 3


@pytest.mark.parametrize(
    ("question", "column"),
    [
        ("status", 7),
        ("status = ", 9),
        ("status = finished and", 22),
        ("(status = failed", 17),
        ("nothing = 1", 1),
        ("project = a and colour = red", 17),
        ("duration > soon", 12),
        ("created > someday", 11),
        ("metrics.loss > 1", 1),
        ("status = 'open", 10),
        ("status = a; drop table", 11),
    ],
)
def test_a_question_that_is_none_is_told_where(api, cast, question, column):
    response = api.client.get("/api/v2/experiments", {"q": question})
    assert response.status_code == 400
    assert response.json()["errors"][0]["loc"] == ["query", "q", column]


def test_the_list_costs_the_same_for_any_number_of_runs(api, cast, django_assert_num_queries):
    api.get("/v2/experiments")
    for size in (1, 6):
        with django_assert_num_queries(4):  # all, those deleted, what is on the page, its runs
            api.get(f"/v2/experiments?per_page={size}")


def test_analytics_count_what_there_is(api, cast):
    summary = api.get("/v2/analytics/summary")
    assert summary["by_status"] == {"failed": 2, "finished": 2, "interrupted": 2}
    assert summary["by_project"] == {"a": 3, "b": 3}
    assert summary["success_rate"] == pytest.approx(1 / 3)
    assert summary["avg_duration_seconds"] == pytest.approx(150)
    overview = api.get("/v2/analytics/overview")
    assert overview["storage_info"]["statistics"]["total_metrics_points"] == 12
    projects = api.get("/v2/analytics/projects?days=36500")["projects"]
    assert [(p["project"], p["experiment_count"]) for p in projects] == [("a", 3), ("b", 3)]
    trends = api.get("/v2/analytics/performance-trends?metric_name=acc&project=a&days=36500")
    assert [point["value"] for point in trends["trend_data"]] == [0, -2, -4]
    assert trends["statistics"]["mean_value"] == -2
    downsampled = api.get("/v2/analytics/performance-trends?metric_name=acc&days=36500&points=4")
    assert [point["value"] for point in downsampled["trend_data"]] == [0, -5]
    assert downsampled["statistics"]["total_experiments"] == 6
    assert api.get("/v2/analytics/health")["health_status"] == "excellent"
    assert api.get("/v2/analytics/performance-trends", status=400)["errors"]
    assert api.get("/v2/analytics/projects?days=x", status=400)["errors"]


@pytest.mark.parametrize("path", ["/api/runs", "/api/v2/experiments?per_page=5"])
def test_a_list_that_came_out_the_same_is_not_sent_again(api, cast, path):
    first = api.client.get(path)
    assert first.json()
    again = api.client.get(path, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    actions.soft_delete_runs([Run.objects.get(run_id=cast[2].id)], by=None)
    changed = api.client.get(path, headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200 and changed["ETag"] != first["ETag"]


def test_answers_are_compressed_for_who_takes_that(api, cast):
    response = api.client.get("/api/v2/experiments", headers={"Accept-Encoding": "gzip"})
    assert response["Content-Encoding"] == "gzip"
    assert b'"total":6' in gzip.decompress(response.content)
    assert "Content-Encoding" not in api.client.get("/api/v2/experiments")
