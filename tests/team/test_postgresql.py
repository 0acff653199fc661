"""What the embedded database answers, a team's answers too: some tests once more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import servers

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    "tests",
    [
        ["tests/v2"],
        ["tests/runs/test_annotations.py", "tests/runs/test_layouts.py"],
        ["tests/runs/test_lost_runs.py", "tests/runs/test_hidden_values.py"],
        ["tests/runs/test_one_search.py", "tests/site/test_hostile_input.py"],
    ],
    ids=["v2", "runs", "lives", "doors"],
)
def test_answers_are_the_same_with_postgresql(tests: list[str]) -> None:
    with servers.postgres() as connection:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *tests, "-q", "-k", "not watcher"],
            cwd=servers.ROOT,
            env=servers.clean_environment() | {"RUNICORN_TEST_DATABASE_URL": connection},
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout[-5000:]
