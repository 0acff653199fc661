"""What the tests of the SDK share: run directories to look into and real training processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runicorn as rn
from runicorn import _lifecycle, sdk

WITH_SDK = {**os.environ, "PYTHONPATH": str(Path(rn.__file__).parents[1])}
"""The environment of a process that shall find this very SDK."""


@pytest.fixture(autouse=True)
def no_active_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sdk, "_active", None)
    yield
    _lifecycle._unfinished.clear()  # the end of the test session is not the end of a training


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., rn.Run]:
    """``rn.init`` below the test's folder, without the environment."""

    def init(**kwargs: Any) -> rn.Run:
        return rn.init(**{"storage": tmp_path, "capture_env": False, **kwargs})

    return init


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a training script; it finds ``rn`` and the storage root in ``root``."""
    started: list[subprocess.Popen[str]] = []

    def popen(body: str, **kwargs: Any) -> subprocess.Popen[str]:
        code = f"import runicorn as rn\nroot = {str(tmp_path)!r}\n" + textwrap.dedent(body)
        # A file of its own: the one started before may not have read its own yet.
        path = tmp_path / f"train-{len(started)}.py"
        path.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(path)],
            **{
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "env": WITH_SDK,
                **kwargs,
            },
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        with process:  # closes its pipes, so that no later test is told of them
            pass


@pytest.fixture
def train(script: Callable[..., subprocess.Popen[str]]) -> Callable[..., int]:
    """Run a training script to its end; return its exit code."""

    def run(body: str) -> int:
        with script(body) as process:
            process.communicate(timeout=60)
        return process.returncode

    return run


def only_run(root: Path) -> Path:
    (run_dir,) = root.glob("*/*/runs/*")
    return run_dir


def document(run_dir: Path, name: str) -> Any:
    return json.loads((run_dir / name).read_text("utf-8"))


def events(run_dir: Path) -> list[dict[str, Any]]:
    """Every line of the run's events; one that is no JSON fails the test."""
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_bytes().splitlines()]


def steps(run_dir: Path) -> list[int]:
    return [event["data"]["global_step"] for event in events(run_dir)]
