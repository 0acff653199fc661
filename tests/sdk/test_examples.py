"""The examples run as they are and leave what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .conftest import WITH_SDK, document, events, only_run

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, storage, *arguments):
    command = [sys.executable, EXAMPLES / name, "--storage", storage, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=WITH_SDK)
    return only_run(storage)


def test_create_test_run(tmp_path):
    run_dir = run("create_test_run.py", tmp_path, "--sleep", "0")
    assert run_dir.parts[-4:-2] == ("demo", "dummy-run")
    logged = [event["data"] for event in events(run_dir)]
    assert [data["global_step"] for data in logged] == list(range(1, 61))
    stages = [data["stage"] for data in logged]
    assert stages == ["warmup"] * 20 + ["train"] * 20 + ["eval"] * 20
    assert document(run_dir, "status.json")["status"] == "finished"
    assert document(run_dir, "summary.json")["best_metric_name"] == "accuracy"


def test_quickstart_demo_really_learns(tmp_path):
    run_dir = run("quickstart_demo.py", tmp_path, "--epochs", "5")
    assert document(run_dir, "summary.json")["best_metric_value"] > 0.8
    assert document(run_dir, "config.json")["lr"] == 0.1
    assert [event["type"] for event in events(run_dir)].count("image") == 2
    assert "epoch  5:" in (run_dir / "logs.txt").read_text()
