"""The files of a run, key for key as Runicorn 0.4 writes them."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pytest

import runicorn as rn
from runicorn import layout

from .conftest import WITH_SDK, document, events, only_run, steps


def test_a_run_has_the_documents_of_v04(start, tmp_path):
    run = start(project="vision", name="resnet")
    run.log(loss=0.5, stage="train")
    run.log_text("hello")
    run.summary({"notes": "good"})
    run.finish()

    assert run.run_dir == only_run(tmp_path) == tmp_path / "vision" / "resnet" / "runs" / run.id
    assert layout.is_run_id(run.id)
    assert run.media_dir.is_dir()
    meta = document(run.run_dir, "meta.json")
    assert list(meta)[:9] == [
        *("id", "project", "name", "created_at", "python", "platform", "hostname", "pid"),
        "storage_dir",
    ]
    assert (meta["id"], meta["project"], meta["name"]) == (run.id, "vision", "resnet")
    assert meta["storage_dir"] == str(tmp_path)
    status = document(run.run_dir, "status.json")
    assert list(status) == ["status", "started_at", "ended_at"]
    assert status["status"] == "finished"
    assert status["started_at"] <= status["ended_at"]
    assert document(run.run_dir, "summary.json") == {"notes": "good"}
    assert re.fullmatch(r"\d\d:\d\d:\d\d \| hello\n", (run.run_dir / "logs.txt").read_text())
    assert not list(tmp_path.rglob("*.db"))


def test_a_metrics_event_holds_user_keys_then_step_time_and_stage(start):
    run = start()
    run.log({"loss": 0.5, "labels": ["a", {"b": True}]}, acc=1, stage="train")
    (event,) = events(run.run_dir)
    assert list(event) == ["ts", "type", "data"]
    assert event["type"] == "metrics"
    assert list(event["data"]) == ["loss", "labels", "acc", "global_step", "time", "stage"]
    assert event["data"]["time"] == event["ts"]
    assert event["data"]["labels"] == ["a", {"b": True}]


def test_an_empty_call_is_an_event(start):
    run = start()
    run.log()
    assert list(events(run.run_dir)[0]["data"]) == ["global_step", "time"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([None, None], [1, 2]),
        ([10, None], [10, 11]),
        (["7", 2.9, -3, None], [7, 2, -3, -2]),
        ([5, "many", None], [5, 6, 7]),
        ([float("inf"), float("nan")], [1, 2]),
        ([np.int64(4), None], [4, 5]),
    ],
)
def test_steps(start, given, expected):
    run = start()
    for step in given:
        run.log(x=1, step=step)
    assert steps(run.run_dir) == expected


def test_reserved_keys_in_the_data_set_nothing(start):
    run = start()
    run.log({"step": 50, "global_step": 60, "time": 1.0, "x": 1})
    (event,) = events(run.run_dir)
    assert event["data"] == {"x": 1, "global_step": 1, "time": event["ts"]}


def test_keywords_win_over_data_and_the_argument_over_the_stage_in_it(start):
    run = start()
    data = {"x": 1, "stage": "inner"}
    run.log(data, x=2)
    run.log(data, stage="outer")
    run.log({"stage": None})
    first, second, third = (event["data"] for event in events(run.run_dir))
    assert (first["x"], first["stage"], second["stage"]) == (2, "inner", "outer")
    assert "stage" not in third
    assert data == {"x": 1, "stage": "inner"}


def test_what_is_no_finite_number_is_written_as_v04_does(start):
    run = start()
    run.log(a=float("nan"), b=float("inf"), c=-math.inf, d=None, e="null")
    line = (run.run_dir / "events.jsonl").read_bytes()
    assert b'"a":NaN,"b":Infinity,"c":-Infinity,"d":null,"e":"null"' in line


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([7]), 7),
        (2**80, 2**80),
        ({1: "one"}, {"1": "one"}),
        ("准确率\u2028\ud800", "准确率\u2028"),
        ([[1, 2], (3,)], [[1, 2], [3]]),
    ],
)
def test_values_that_json_or_orjson_alone_would_refuse(start, value, expected):
    run = start()
    run.log(value=value)
    (event,) = events_by_newline(run)
    assert event["value"] == expected
    assert type(event["value"]) is type(expected)


def events_by_newline(run):
    lines = (run.run_dir / "events.jsonl").read_bytes().split(b"\n")[:-1]
    return [layout.parse_json(line)["data"] for line in lines]


def test_a_numpy_nan_is_nan(start):
    run = start()
    run.log(value=np.float32("nan"))
    assert math.isnan(events(run.run_dir)[0]["data"]["value"])


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"bytes", print, 1j, range(3), np.array([1j, 2])]
)
def test_what_json_cannot_hold_is_refused_and_uses_up_its_step(start, value):
    run = start()
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.log(value=value)
    run.log(x=1)
    assert steps(run.run_dir) == [2]


def test_module_functions_write_to_the_active_run(start):
    for call in (rn.log, rn.finish, lambda: rn.log_text("x"), lambda: rn.summary({})):
        with pytest.raises(RuntimeError, match=re.escape("runicorn.init() must be called")):
            call()
    first = start()
    second = start()
    assert rn.get_active_run() is second
    rn.log({"x": 1}, step=3)
    rn.log_text("hi")
    rn.set_primary_metric("x")
    rn.summary({"k": "v"})
    rn.log(x=2.0)
    rn.finish("odd word")
    rn.log(x=3.0)
    assert rn.get_active_run() is second
    assert steps(second.run_dir) == [3, 4, 5]
    assert document(second.run_dir, "summary.json")["best_metric_value"] == 2.0
    assert document(second.run_dir, "status.json")["status"] == "odd word"
    assert document(first.run_dir, "status.json")["status"] == "running"


def test_text_is_written_as_it_is_and_drops_what_cannot_be_encoded(start):
    run = start()
    run.log_text("two\nlines \udcff🦄")
    text = (run.run_dir / "logs.txt").read_text("utf-8")
    assert text[8:] == " | two\nlines 🦄\n"


def test_summary_merges_and_takes_numpy_scalars(start):
    run = start()
    run.summary({"a": np.float32(0.5), "b": float("nan")})
    run.summary({"a": 1})
    stored = document(run.run_dir, "summary.json")
    assert stored["a"] == 1
    assert math.isnan(stored["b"])
    with pytest.raises(TypeError):
        run.summary({"a": object()})


@pytest.mark.parametrize(
    ("mode", "values", "best", "step"),
    [
        ("max", [0.1, 0.9, 0.9, 0.5], 0.9, 2),
        ("min", [0.5, 0.2, 0.3], 0.2, 2),
        ("max", [float("nan"), 0.3, float("inf"), "text", None], 0.3, 2),
        ("max", [np.float32(0.5), np.float32(0.25)], 0.5, 1),
    ],
)
def test_the_best_value_of_the_primary_metric(start, mode, values, best, step):
    run = start()
    run.set_primary_metric("acc", mode)
    for value in values:
        run.log(acc=value)
    assert document(run.run_dir, "summary.json") == {
        "best_metric_value": None,
        "best_metric_name": "acc",
        "best_metric_step": None,
        "best_metric_mode": mode,
    }
    run.finish()
    assert document(run.run_dir, "summary.json") == {
        "best_metric_value": best,
        "best_metric_name": "acc",
        "best_metric_step": step,
        "best_metric_mode": mode,
    }


def test_naming_the_primary_metric_again_forgets_the_best(start):
    run = start()
    run.set_primary_metric("acc")
    run.log(acc=0.9)
    run.set_primary_metric("acc")
    run.log(acc=0.5)
    run.finish()
    assert document(run.run_dir, "summary.json")["best_metric_value"] == 0.5
    with pytest.raises(ValueError, match="Mode must be 'max' or 'min', got 'best'"):
        run.set_primary_metric("acc", "best")


@pytest.mark.parametrize("step", [2**63 - 1, 2**63, -(2**70), 10**400])
def test_a_step_beyond_64_bits_is_kept_and_does_not_carry_the_count_away(start, step, caplog):
    run = start()
    run.log(acc=1)
    run.log({"acc": 2}, step=step)
    assert "beyond 64 bits" in caplog.text
    run.log(acc=3)
    run.log({"acc": 4}, step=step)
    run.finish()
    again = start(run_id=run.id)
    again.log(acc=5)
    again.finish()
    assert steps(run.run_dir) == [1, step, 2, step, 3]


def test_config_is_recorded_at_init_and_later(start, tmp_path):
    import argparse

    run = start(config=argparse.Namespace(lr=0.1, data=tmp_path))
    run.config.update({"layers": [1, 2]}, seed=np.int64(4))
    run.config["act"] = "relu"
    assert run.config["lr"] == 0.1
    assert document(run.run_dir, "config.json") == {
        "lr": 0.1,
        "data": str(tmp_path),
        "layers": [1, 2],
        "seed": 4,
        "act": "relu",
    }
    assert start(run_id=run.id).config["layers"] == [1, 2]


@pytest.mark.parametrize("bad", ["../x", "a/b", "a\\b", "..", ".hidden", "a\nb", "x" * 101, " a"])
@pytest.mark.parametrize("what", ["project", "name", "run_id"])
def test_names_that_would_leave_the_storage_root_are_refused(start, tmp_path, what, bad):
    with pytest.raises(ValueError, match=f"Invalid {what}"):
        start(**{what: bad})
    assert list(tmp_path.iterdir()) == []


def test_names_may_be_anything_else(start):
    run = start(project="图像分类", name="a b (2)", run_id="seed=3")
    assert run.run_dir.parts[-4:] == ("图像分类", "a b (2)", "runs", "seed=3")
    assert start(project="", name="", run_id="").run_dir.parts[-4:-1] == ("default",) * 2 + (
        "runs",
    )


def test_importing_the_sdk_stays_light():
    heavy = {"django", "numpy", "PIL", "psutil", "filelock", "rest_framework", "subprocess"}
    code = f"import sys, runicorn; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=WITH_SDK
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_public_list_is_honest():
    import runicorn.sdk

    assert runicorn.sdk.Run is rn.Run
    for name in rn.__all__:
        assert getattr(rn, name) is not None
    with pytest.raises(AttributeError):
        rn.nothing_of_the_kind  # noqa: B018
