"""The published client of version 0.5 pointed at our server, in an environment of its own.

It insists on a health of ``healthy``, which no server of that time ever said: it could not connect
to its own, and cannot to ours, whose health is the documented ``ok``. Past that check, the calls
that worked with the original's server work with ours. Later versions (0.7) have no client.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers

from .conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASK = """
import json, sys
from runicorn import api

url, run_id = sys.argv[1:]
try:
    api.connect(url)
except api.ConnectionError as error:
    refusal = str(error)
api.RunicornClient._verify_connection = lambda self: None
with api.connect(url) as client:
    try:
        client.get_run("nobody")
    except api.NotFoundError as error:
        missing = str(error)
    print(json.dumps({
        "refusal": refusal,
        "missing": missing,
        "run": client.get_run(run_id),
        "config": client.get_config(),
        "health": client.health_check(),
        "projects": client.list_projects(),
    }))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "requests", "filelock", "psutil"], check=True)
    subprocess.run([*install, "--no-deps", "runicorn==0.5.3"], check=True)
    return python


def test_what_worked_with_the_original_works_with_ours(python: Path, site: Site) -> None:
    command = [python, "-c", ASK, site.url, site.ids[0]]
    env = servers.clean_environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["refusal"].startswith("Viewer is not healthy: {'status': 'ok'")
    assert told["missing"] == "Resource not found: /api/runs/nobody"
    assert told["run"]["id"] == site.ids[0]
    assert told["config"]["storage"] == str(site.storage)
    assert told["health"]["status"] == "ok"
    assert told["projects"] == ["nlp", "vision"]
