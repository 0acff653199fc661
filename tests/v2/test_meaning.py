"""What a question means: the runs it finds, beside a plain reading of each run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs import actions
from runs.finding.query import And, Comparison, Not, Or, Question, Value
from runs.models import Run

DAY = 86_400

TEXTS = {
    ("project",): ["a", "b", "A", "%", ""],
    ("experiment",): ["e0", "e1", "", "e"],
    ("status",): ["finished", "failed", "running", "Fail"],
    ("notes",): ["", "x", "Note 1", "note", "笔记"],
    ("best_metric",): ["acc", "ACC", ""],
    ("config", "opt", "name"): ["adam", "sgd", "a", "1"],
    ("config", "task"): ["Übung 学习", "ÜBUNG", "学习", "b6", "n", "u", "\n", "1", '"', "\\"],
    ("summary", "note"): ["x y", "x"],
}
NUMBERS = {
    ("best",): ["0.1", "0.3", "0.5"],
    ("events",): ["2", "2.5", "3", "0", "1e300", "-99999999999999999999"],
    ("duration",): ["60", "1m", "2m", "90s", "1h", "0"],
    ("config", "lr"): ["0", "0.1", "0.2", "1e-1"],
    ("metrics", "acc", "first"): ["0", "0.1", "-1"],
    ("metrics", "acc", "last"): ["0", "-2", "-2.5"],
    ("metrics", "acc", "max"): ["0", "0.1"],
    ("metrics", "acc", "count"): ["2", "1.5", "1e300"],
    ("metrics", "acc", "best"): ["0.1", "0.3"],
    ("metrics", "none", "min"): ["0"],
}
DATES = {
    (name,): [
        "0001-01-01",
        "1969-12-31",
        "1970-01-01",
        "1970-01-02",
        "1970-01-01T00:00:03",
        "4",
        "9999-12-31",
    ]
    for name in ("created", "started", "ended", "updated")
}
UNITS = {"s": 1, "m": 60, "h": 3600}


def comparison(fields: dict[tuple[str, ...], list[str]], operators: list[str]) -> Any:
    def of_field(path: tuple[str, ...]) -> Any:
        value = st.sampled_from(fields[path]).map(lambda text: Value(text, fields is TEXTS))
        one = st.tuples(st.sampled_from(operators), value.map(lambda value: (value,)))
        some = st.tuples(st.just("in"), st.lists(value, min_size=1, max_size=3).map(tuple))
        none = st.just(("null", ()))
        return st.one_of(one, some, none).map(lambda rest: Comparison(path, *rest))

    return st.sampled_from(sorted(fields)).flatmap(of_field)


ORDERED = ["=", "!=", "<", "<=", ">", ">="]
QUESTIONS = st.recursive(
    st.one_of(
        comparison(TEXTS, ["=", "!=", "~"]),
        comparison(NUMBERS, ORDERED),
        comparison(DATES, ORDERED),
        comparison({("tags",): ["x", "y", "z"]}, ["=", "!=", "~"]),
    ),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=4,
)


def is_true(question: Question, run: dict[tuple[str, ...], Any]) -> bool:
    """The reading of ``docs/query-language.md``, of one run's values."""
    if isinstance(question, Not):
        return not is_true(question.part, run)
    if isinstance(question, And):
        return all(is_true(part, run) for part in question.parts)
    if isinstance(question, Or):
        return any(is_true(part, run) for part in question.parts)
    if question.path == ("tags",):
        values = run[question.path]
    else:
        value = run.get(question.path)
        values = [] if value is None else [value]
    if question.operator == "null":
        return values in ([], [""])
    if question.operator == "!=":
        return not is_true(Comparison(question.path, "=", question.values), run)
    return any(holds(question, value, asked.text) for value in values for asked in question.values)


def holds(question: Comparison, value: Any, text: str) -> bool:
    if question.operator == "~":
        return text.casefold() in value.casefold()
    if question.path in TEXTS or question.path == ("tags",):
        return value == text
    start, end = span(question.path, text)
    return {
        "<": value < start,
        "<=": value < end or value == start,
        ">": value > start and value >= end,
        ">=": value >= start,
    }.get(question.operator, value == start or start <= value < end)


def span(path: tuple[str, ...], text: str) -> tuple[float, float]:
    """From when until when; of a number, itself."""
    if path in DATES and "-" in text:
        start = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        return start, start if "T" in text else start + DAY
    if path == ("duration",) and text[-1] in UNITS:
        return (float(text[:-1]) * UNITS[text[-1]],) * 2
    return (float(text),) * 2


@pytest.fixture
def cast(root):
    """Six runs that differ, each by what is known of it."""
    known: dict[str, dict[tuple[str, ...], Any]] = {}
    for number in range(6):
        run = root.run("ab"[number % 2], f"e{number % 3}", created_at=1.0 + number)
        status = ["finished", "failed", "interrupted"][number % 3]
        ended = 100.0 + 60 * number
        run.write("status.json", {"status": status, "started_at": 100.0, "ended_at": ended})
        best = {"best_metric_name": "acc", "best_metric_value": number / 10}
        run.write("summary.json", best | {"note": "x y"} if number else {})
        name = "adam" if number else "sgd"
        task = ["Übung 学习\n", "学 \\", 'a "b"\x01'][number % 3]
        run.write("config.json", {"lr": 0.1 * number, "opt": {"name": name}, "task": task})
        run.log({"global_step": 1, "acc": number / 10}, {"global_step": 2, "acc": -number})
        known[run.id] = {
            ("project",): "ab"[number % 2],
            ("experiment",): f"e{number % 3}",
            ("status",): status,
            ("created",): 1.0 + number,
            ("started",): 100.0,
            ("ended",): ended,
            ("duration",): 60.0 * number,
            ("events",): 2,
            ("best",): number / 10 if number else None,
            ("best_metric",): "acc" if number else None,
            ("config", "lr"): 0.1 * number,
            ("config", "opt", "name"): name,
            ("config", "task"): task,
            ("summary", "note"): "x y" if number else None,
            ("metrics", "acc", "first"): number / 10,
            ("metrics", "acc", "last"): float(-number),
            ("metrics", "acc", "max"): max(number / 10, -number),
            ("metrics", "acc", "count"): 2,
            ("metrics", "acc", "best"): number / 10 if number else None,
            ("notes",): ["", "Note 1"][number % 2],
            ("tags",): [[], ["x"], ["x", "y"]][number % 3],
        }
    root.scan()
    for run in Run.objects.all():
        facts = known[run.run_id]
        actions.set_notes(run, facts["notes",], by=None)
        actions.set_tags(run, facts["tags",], by=None)
    for run in Run.objects.all():
        known[run.run_id]["updated",] = run.updated_at.timestamp()
    return known


@pytest.mark.slow
@pytest.mark.parametrize("many", [10_000, 0])
def test_a_question_finds_the_runs_it_is_true_of(api, cast, monkeypatch, many):
    monkeypatch.setattr(
        "runs.finding.fulltext.MANY", many
    )  # from when on a page is asked for otherwise

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(QUESTIONS)
    def ask(question):
        response = api.client.get("/api/v2/experiments", {"q": str(question)})
        assert response.status_code == 200, response.content
        answer = response.json()
        expected = {run_id for run_id, run in cast.items() if is_true(question, run)}
        assert {run["id"] for run in answer["experiments"]} == expected
        assert answer["total"] == len(expected)

    ask()
