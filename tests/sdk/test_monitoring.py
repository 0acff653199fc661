"""Rules, anomalies, and what a run says by itself of a loss that is no number."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import runicorn as rn
from runicorn import config, layout, telemetry
from tests.servers import wait_until

NAN, INF = math.nan, math.inf


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = rn.Run(storage=tmp_path, capture_env=False, system_metrics=False)
    yield run
    run.finish()


def log_of(run: rn.Run) -> list[str]:
    path = run.run_dir / layout.LOGS
    return [line.split(" | ")[1] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    ("condition", "threshold", "value", "is_alert"),
    [
        ("gt", 1, 1.5, True),
        ("gt", 1, 1, False),
        ("lt", 1, 0.5, True),
        ("eq", 1, 1 + 1e-10, True),
        ("ne", 1, 1 + 1e-10, False),
        ("ne", 1, 2, True),
        ("nan", None, NAN, True),
        ("inf", None, -INF, True),
        ("inf", None, 3, False),
        ("gt", 1, "text", False),
        ("gt", 1, None, False),
        ("gt", 1, NAN, False),
    ],
)
def test_a_rule_holds(condition: str, threshold: Any, value: Any, is_alert: bool) -> None:
    monitor = rn.MetricMonitor()
    monitor.add_rule(rn.AlertRule("acc", condition, threshold))
    assert bool(monitor.check_metrics({"acc": value})) == is_alert


def test_a_rule_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="Condition must be one of"):
        rn.AlertRule("acc", "above", 1)
    with pytest.raises(ValueError, match="needs a threshold"):
        rn.AlertRule("acc", "gt")


def test_messages_are_those_of_0_4() -> None:
    monitor = rn.MetricMonitor()
    monitor.add_rule(rn.AlertRule("acc", "gt", 0.5))
    assert monitor.check_metrics({"loss": NAN}) == ["⚠️ Alert: loss is NAN"]
    assert monitor.check_metrics({"acc": 0.9}) == ["⚠️ Alert: acc=0.9 gt 0.5"]


def test_a_rule_counts_what_comes_in_a_row_and_then_anew() -> None:
    monitor = rn.MetricMonitor()
    monitor.add_rule(rn.AlertRule("x", "gt", 0, consecutive_count=2))
    values = [1, 1, 1, 0, 1, 1]
    assert [len(monitor.check_metrics({"x": x})) for x in values] == [0, 1, 0, 0, 0, 1]


def test_a_callback_is_told_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    told = []

    def callback(message: str, value: float) -> None:
        told.append((message, value))
        raise RuntimeError("mail server down")

    monitor = rn.MetricMonitor()
    monitor.add_rule(rn.AlertRule("x", "lt", 1, callback=callback))
    assert monitor.check_metrics({"x": 0}) == ["⚠️ Alert: x=0.0 lt 1"]
    assert told == [("⚠️ Alert: x=0.0 lt 1", 0)]
    assert "mail server down" in caplog.text


def test_statistics_are_of_the_window_and_of_what_is_finite() -> None:
    monitor = rn.MetricMonitor(window_size=3)
    for value in (100, 1, NAN, 3):
        monitor.check_metrics({"x": value, "bad": NAN})
    expected = {"mean": 2, "min": 1, "max": 3, "last": 3, "count": 3, "valid_count": 2}
    assert monitor.get_statistics("x") == expected
    assert monitor.get_statistics("bad") == {"has_nan": True, "has_inf": False}
    assert monitor.get_statistics("unknown") == {}


def test_an_anomaly_is_far_from_what_was_seen() -> None:
    detector = rn.AnomalyDetector(sensitivity=2)
    detector.update_baseline("x", [1, 3, NAN])  # mean 2, deviation 1
    assert [detector.is_anomaly("x", value) for value in (0, 4, 4.1, NAN)] == [
        False,
        False,
        True,
        True,
    ]
    assert not detector.is_anomaly("unknown", 10**9)
    assert detector.detect_trend_anomaly([1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    assert not detector.detect_trend_anomaly([1, 1, 1, 1, 1, 1.1, 1.1, 1.1, 1.1, 1.1])
    assert not detector.detect_trend_anomaly([1, 9])


def test_a_framework_hook_warns(caplog: pytest.LogCaptureFixture) -> None:
    check = rn.create_monitor_callback(rn.MetricMonitor())
    assert check({"loss": INF}) == ["⚠️ Alert: loss is INF"]
    assert "loss is INF" in caplog.text


def test_a_run_notices_a_loss_that_is_no_number_without_being_asked(run: rn.Run) -> None:
    run.log(loss=1.0)
    run.log(loss=NAN, note="null")
    run.log(accuracy=NAN)
    run.log(val_loss=None)
    run.log(loss=-INF)
    assert log_of(run) == ["⚠️ Alert: loss is NAN", "⚠️ Alert: loss is INF"]


def test_a_run_checks_its_own_rules_through_both_doors(tmp_path: Path) -> None:
    run = rn.init(storage=tmp_path, capture_env=False, system_metrics=False)
    run.monitor.add_rule(rn.AlertRule("acc", "gt", 0.5))
    run.log(acc=0.4, loss=NAN)
    rn.log({"acc": 0.9}, step=7)
    assert log_of(run) == ["⚠️ Alert: loss is NAN", "⚠️ Alert: acc=0.9 gt 0.5"]
    assert run.monitor.get_statistics("acc")["max"] == 0.9
    assert set(run.monitor.metrics_history) == {"acc", "loss"}
    run.finish()


def test_the_machine_is_sampled_beside_the_training(tmp_path: Path) -> None:
    run = rn.Run(storage=tmp_path, capture_env=False, system_metrics=0.05)
    run.log(loss=1)
    file = run.run_dir / layout.SYSTEM
    deadline = time.monotonic() + 20
    while not file.exists() or file.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.log(loss=2)
    run.finish()
    size = file.stat().st_size
    time.sleep(0.3)
    assert file.stat().st_size == size
    samples = [layout.parse_json(line)["data"] for line in file.read_bytes().splitlines()]
    assert 0 < samples[0]["system/memory_percent"] <= 100
    assert samples[0]["process/memory_mib"] > 1
    assert all(rate >= 0 for s in samples for key, rate in s.items() if key.endswith("mib_s"))
    # What the script logs stays as it is: nothing of this is among it.
    lines = (run.run_dir / layout.EVENTS).read_bytes().splitlines()
    events = [layout.parse_json(line) for line in lines]
    assert [event["data"]["global_step"] for event in events] == [1, 2]


def sampling() -> int:
    return sum(thread.name == "runicorn-system" for thread in threading.enumerate())


def test_sampling_is_on_unless_turned_off(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RUNICORN_SYSTEM_METRICS")
    before = sampling()  # of runs that other tests never finished

    def samples(**arguments: Any) -> bool:
        run = rn.Run(storage=tmp_path, capture_env=False, **arguments)
        is_sampling = sampling() > before
        run.finish()
        wait_until(lambda: sampling() == before, "the end of the thread")
        assert not (run.run_dir / layout.SYSTEM).exists()  # it ended before the first was due
        return is_sampling

    assert samples() and samples(system_metrics=30)
    assert not samples(system_metrics=False)
    config.change(lambda data: {**data, "system_metrics": False})
    assert not samples() and samples(system_metrics=True)
    monkeypatch.setenv("RUNICORN_SYSTEM_METRICS", "60")
    assert samples()
    monkeypatch.setenv("RUNICORN_SYSTEM_METRICS", "off")
    assert not samples()


def test_the_end_of_a_run_does_not_wait_for_a_tool(tmp_path: Path, monkeypatch: Any) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    asked = tmp_path / "asked"
    tool.write_text(f"#!/bin/sh\ntouch {asked}\nexec sleep 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.setattr(telemetry, "gpus", telemetry._Kept(telemetry._ask_gpus))
    run = rn.Run(storage=tmp_path, capture_env=False, system_metrics=0.05)
    deadline = time.monotonic() + 20
    while not asked.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.finish()
    assert any(thread.name == "runicorn-system" for thread in threading.enumerate())
    assert not (run.run_dir / layout.SYSTEM).exists()
