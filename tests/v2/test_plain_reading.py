"""Whatever was logged reads as a plain reading of the lines says, at every level and length."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics import blocks, curves, levels, tables, write
from metrics.models import EventLog, Series, SeriesLevel
from tests.runs.conftest import event

KEYS = ("a", "b", "c")
HUGE = 10**400
NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.floats(-1e6, 1e6),
    st.sampled_from([math.nan, math.inf, -math.inf, True, 2**53 + 1, -(2**70), HUGE]),
)
VALUES = st.one_of(*[NUMBERS] * 8, st.sampled_from([None, "text", [1]]))
STRIDES = st.sampled_from([0, 0, 0, 1, 1, 1, 1, 2, 50])
ODD_STRIDES = st.one_of(*[STRIDES] * 10, st.sampled_from([-3, -200, None, 2**70]))


@st.composite
def logs(draw: Any) -> list[list[dict[str, Any]]]:
    """Lines in batches; the steps of most logs ascend, and may be repeated."""
    strides = draw(st.sampled_from([STRIDES, STRIDES, ODD_STRIDES]))
    is_straight = draw(st.booleans())
    batches, step, time = [], 0, 1000.0
    for size in draw(st.lists(st.integers(1, 60), min_size=1, max_size=4)):
        batch = []
        for _ in range(size):
            stride = draw(strides)
            time += 1 if is_straight else draw(st.sampled_from([0, 1, 1, -2]))
            row: dict[str, Any] = {"time": time}
            if isinstance(stride, int) and abs(stride) < 2**63:
                step += stride
                row["global_step"] = step
            elif stride is not None:
                row["global_step"] = stride
            keys = draw(st.sampled_from([("a",), ("b",), ("a", "b"), ("c",), (), KEYS]))
            row |= {key: draw(VALUES) for key in keys}
            batch.append(row)
        batches.append(batch)
    return batches


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks, buckets and batches of a few events, so that short logs have all of them."""
    sizes = {"BLOCK_SIZE": 8, "BATCH_SIZE": 16, "TAIL_SIZE": 2, "BUCKETS_IN_ROW": 3, "LONG": 4}
    for module in (blocks, curves, levels, tables, write):
        for name, size in sizes.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, size)
    for level, size in {1: 2, 2: 4, 3: 16, 4: 64}.items():
        monkeypatch.setitem(levels.BUCKET_SIZES, level, size)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def as_float(value: Any) -> float:
    return math.inf if value == HUGE else float(value)


def shown(value: float) -> float | None:
    return value if math.isfinite(value) else None


def placed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in lines if abs(row.get("global_step", 2**70)) < 2**63]


def points(lines: list[dict[str, Any]], key: str) -> dict[int, float]:
    """The last number at each step."""
    rows = [row for row in placed(lines) if is_number(row.get(key))]
    by_step = {row["global_step"]: as_float(row[key]) for row in rows}
    return dict(sorted(by_step.items()))


def between(by_step: dict[int, Any], low: int, high: int) -> dict[int, Any]:
    return {step: value for step, value in by_step.items() if low <= step <= high}


def bounds(values: Any) -> tuple[float, float] | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return (min(finite), max(finite)) if finite else None


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=logs(), low=st.integers(-5, 60), length=st.integers(0, 200), wanted=st.data())
def test_any_log_reads_as_its_lines_say(root, api, batches, low, length, wanted):
    run = root.run()
    root.scan()
    for batch in batches:
        run.append("events.jsonl", b"".join(map(event, batch)))
        api.get(f"/runs/{run.id}")
    lines = [row for batch in batches for row in batch]
    numeric = [key for key in KEYS if any(is_number(row.get(key)) for row in lines)]
    series = {key: points(lines, key) for key in numeric}
    steps = sorted({row["global_step"] for row in placed(lines)})
    for high in (None, low + length):
        chosen = f"&step_range={low}:{high}" if high is not None else ""
        ends = (low, high) if high is not None else (-(2**63), 2**63)
        here = [step for step in steps if ends[0] <= step <= ends[1]]
        rows = {
            step: {"global_step": step}
            | {key: shown(series[key].get(step, math.nan)) for key in numeric}
            for step in here
        }
        path = f"/v2/experiments/{run.id}/metrics/fast?"
        assert api.get(f"{path}{chosen}")["rows"] == list(rows.values())

        for names in ("", *numeric):
            few = wanted.draw(st.integers(14, 40))
            only = [names] if names else numeric
            picked = f"&metric_names={names}" if names else ""
            answer = api.client.get(f"/api{path}downsample={few}{chosen}{picked}")
            kept = answer.json()["rows"]
            assert answer["X-Total-Count"] == str(len(here))
            assert all(row == {k: rows[row["global_step"]][k] for k in row} for row in kept)
            found = [row["global_step"] for row in kept]
            assert found == sorted(set(found)) and len(found) <= few
            assert not here or (found[0], found[-1]) == (here[0], here[-1])
            for key in only:
                expected = bounds(row[key] for row in rows.values())
                assert bounds(row[key] for row in kept) == expected

        asked = {"run_ids": [run.id], "points": wanted.draw(st.integers(4, 30))}
        asked |= {"metrics": list(KEYS), "step_range": chosen.removeprefix("&step_range=")}
        answers = {one["metric"]: one for one in api.post("/v2/metrics/query", asked)["series"]}
        assert set(answers) == set(numeric)
        for key, one in answers.items():
            there = between(series[key], *ends)
            assert one["total"] == len(there)
            assert len(one["steps"]) == min(asked["points"], len(there)) or one["steps"]
            assert len(one["steps"]) <= asked["points"]
            kept = dict(zip(one["steps"], one["values"], strict=True))
            assert list(kept) == sorted(kept)
            assert kept == {step: shown(there[step]) for step in kept}
            assert bounds(kept.values()) == bounds(there.values())
            if there:
                assert {min(there), max(there)} <= set(kept)

    for key in numeric:
        check_statistics(Series.objects.get(run__run_id=run.id, key=key), lines, key)
    log = EventLog.objects.get(run__run_id=run.id)
    assert log.unplaced_count == len(lines) - len(placed(lines))
    assert Series.objects.filter(run__run_id=run.id, key__in=KEYS).count() == len(
        {key for row in lines for key in KEYS if key in row}
    )


def check_statistics(series: Series, lines: list[dict[str, Any]], key: str) -> None:
    logged = [
        (row.get("global_step") if row in placed([row]) else None, row["time"], as_float(row[key]))
        for row in lines
        if is_number(row.get(key))
    ]
    order = [
        (-(2**63) if step is None else step, time, n) for n, (step, time, _) in enumerate(logged)
    ]
    last = logged[max(order)[2]]
    assert same(series.last, last[2]) and series.last_step == last[0]
    first = min(order, key=lambda one: (one[0] == -(2**63), one[0], one[2]))
    assert same(series.first, logged[first[2]][2])
    assert (series.number_count, series.count) == (len(logged), sum(key in row for row in lines))
    finite = [value for *_, value in logged if math.isfinite(value)]
    assert series.finite_count == len(finite)
    assert (series.min_value, series.max_value) == (bounds(finite) or (None, None))


def same(one: float | None, other: float) -> bool:
    return one == other or (one is not None and math.isnan(one) and math.isnan(other))


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_calls_at_one_step_are_one_row_and_have_levels(api, root, calls):
    run = root.run()
    rows = [
        {key: step + n / 10, "epoch": step // 100, "global_step": step, "time": 1000 + step + n / 9}
        for step in range(1, 40_001)
        for n, key in enumerate(KEYS[:calls])
    ]
    run.log(*rows)
    root.scan()
    log = EventLog.objects.get()
    assert log.is_ascending and log.row_count == 40_000 and log.count == 40_000 * calls
    assert SeriesLevel.objects.filter(series__key="epoch").exists()
    table = api.get(f"/runs/{run.id}/metrics_step")["rows"]
    assert len(table) == 40_000
    assert table[-1] == {"time": rows[-1]["time"], "global_step": 40_000} | {
        key: 40_000 + n / 10 for n, key in enumerate(KEYS[:calls])
    }
    fast = api.get(f"/v2/experiments/{run.id}/metrics/fast?downsample=100")["rows"]
    assert fast[-1] == {"global_step": 40_000, "epoch": 400.0} | {
        key: 40_000 + n / 10 for n, key in enumerate(KEYS[:calls])
    }


def test_a_spike_that_is_logged_again_leaves_the_next_highest(api, root):
    """At the end of a block: the levels have the spike, and what takes its place comes later."""
    run = root.run()
    rows = [{"loss": 0.5, "global_step": step, "time": 1000.0 + step} for step in range(1, 4097)]
    rows[4090]["loss"], rows[4095]["loss"] = 7.0, 99.0
    run.log(*rows)
    root.scan()
    more = [{"loss": 0.5, "global_step": step} for step in range(4096, 40_000)]
    run.log(*more)
    root.scan()
    asked = {"run_ids": [run.id], "points": 20}
    curve = api.post("/v2/metrics/query", asked)["series"][0]
    assert SeriesLevel.objects.exists()
    assert curve["total"] == 39_999
    assert bounds(curve["values"]) == (0.5, 7.0)
