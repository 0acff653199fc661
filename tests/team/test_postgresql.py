"""What the embedded database answers, a team's answers too: the V2 API's own tests, once more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import servers

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(900)]


def test_v2_answers_the_same_with_postgresql() -> None:
    with servers.postgres() as connection:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/v2", "-q", "-p", "no:cacheprovider"],
            cwd=servers.ROOT,
            env=servers.clean_environment() | {"RUNICORN_TEST_DATABASE_URL": connection},
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout[-5000:]
