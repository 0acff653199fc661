"""What a user's strict type checker makes of the client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RIGHT = """
import asyncio
from typing import Any, assert_type
import runicorn as rn
from runicorn import api

with api.connect("http://127.0.0.1:1", timeout=5, token="t") as client:
    assert_type(client.list_experiments(project="p", limit=3), list[dict[str, Any]])
    assert_type(client.get_metrics("id", ["loss"]), dict[str, Any])
    assert_type(client.tag_experiment("id", ["a"]), bool)
    for line in client.follow_logs("id"):
        assert_type(line, str)
    for run in client.iter_experiments(page_size=10):
        assert_type(run, dict[str, Any])
    assert_type(client.artifacts.download_artifact("a:v1", "x"), str)
    assert_type(client.remote.check_remote_path("a@b", "/x"), bool)
    assert_type(api.Experiment.from_dict(client.get_run("id")), api.Experiment)

async def ask() -> list[dict[str, Any]]:
    async with api.AsyncRunicornClient() as client:
        async for point in client.follow_metrics("id"):
            assert_type(point, dict[str, Any])
        return await client.list_experiments()

assert_type(asyncio.run(ask()), list[dict[str, Any]])
assert_type(rn.MetricMonitor().check_metrics({"a": 1}), list[str])
"""
WRONG = """
from runicorn import api
client = api.connect()
client.list_experiments(projekt="p")
client.get_experiment(5)
client.tag_experiment("id")
x: int = client.health_check()
"""


def check(folder: Path, code: str) -> str:
    (folder / "script.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "script.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_what_is_right_passes(tmp_path: Path) -> None:
    assert check(tmp_path, RIGHT) == "Success: no issues found in 1 source file\n"


@pytest.mark.slow
def test_what_is_wrong_does_not(tmp_path: Path) -> None:
    told = check(tmp_path, WRONG)
    assert [line.split(":")[1] for line in told.splitlines() if ": error:" in line] == [
        "4",
        "5",
        "6",
        "7",
    ]
