"""The published clients of other versions pointed at our server, each as its package has it.

Version 0.5 insists on a health of ``healthy``, which no server of its time said, and calls routes
that none had: it gets both under the address ``http://runicorn:0.5@…``, all others the documented
``ok``. The client of 0.7 needs nothing special.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import servers

from .conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASK_0_5 = """
import json, sys
from runicorn import api

url, run_id, other = sys.argv[1:]
try:
    api.connect(url)
except api.ConnectionError as error:
    refusal = str(error)
with api.connect(url.replace("://", "://runicorn:0.5@")) as client:
    try:
        client.get_run("nobody")
    except api.NotFoundError as error:
        missing = str(error)
    artifacts = client.artifacts
    print(json.dumps({
        "refusal": refusal,
        "missing": missing,
        "experiments": [e["id"] for e in client.list_experiments(project="vision", limit=1)],
        "run": client.get_run(run_id)["id"],
        "projects": [[p["name"], p["experiment_count"]] for p in client.list_projects()],
        "metrics": client.get_metrics(run_id, ["loss"], limit=2),
        "csv": client.export_experiment(run_id, "csv").decode()[:8],
        "json": json.loads(client.export_experiment(run_id))["run"]["id"],
        "config": client.get_config()["storage"],
        "health": client.health_check()["status"],
        "gpus": type(client.get_gpu_info()["devices"]).__name__,
        "artifacts": [a["name"] for a in artifacts.list_artifacts(type="model")],
        "artifact": [
            artifacts.get_artifact(f"net:{which}")["version"] for which in ("v1", "1", "latest")
        ],
        "versions": [v["version"] for v in artifacts.list_versions("net")],
        "lineage": artifacts.get_artifact_lineage("net:v1")["root_artifact"],
        "made": [a["relation"] for a in artifacts.list_experiment_artifacts(run_id)],
        "sessions": client.remote.list_sessions(),
        "changed": other and client.update_config({"user_root": other})["ok"],
    }))
"""

ASK_0_7 = """
import json, sys
from runicorn import client as runicorn_client

url, run_id, other = sys.argv[1:]
with runicorn_client.connect(url) as client:
    client.export_report(run_id, "html")
    client.check_status()
    print(json.dumps({
        "runs": len(client.list_runs()),
        "run": client.get_run(run_id)["id"],
        "paths": client.list_paths(include_stats=True),
        "at": [r["path"] for r in client.list_runs_by_path("vision")],
        "exactly": client.list_runs_by_path("vision", exact=True),
        "metrics": len(client.get_metrics(run_id, downsample=100)["rows"]),
        "csv": client.export_csv(run_id).decode()[:8],
        "config": client.get_config()["storage"],
        "health": client.health_check()["status"],
        "gpus": client.get_gpu_info()["available"],
        "storage": client.get_storage_stats()["storage_root"],
        "sessions": client.remote.list_sessions(),
        "viewers": client.remote.list_viewer_sessions(),
    }))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with what the published packages need, and nothing of ours."""
    folder = tmp_path_factory.mktemp("published")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "requests", "filelock", "psutil"], check=True)
    for version in ("0.5.3", "0.7.2"):
        target = folder / version
        command = [*install, "--no-deps", "--target", target, f"runicorn=={version}"]
        subprocess.run(command, check=True)
    return python


def ask(python: Path, version: str, script: str, site: Site, other: str = "") -> dict[str, Any]:
    command = [python, "-c", script, site.url, site.ids[0], other]
    env = servers.clean_environment() | {"PYTHONPATH": str(python.parents[1] / version)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_client_of_0_5_works(python: Path, site: Site) -> None:
    told = ask(python, "0.5.3", ASK_0_5, site)
    assert told["refusal"].startswith("Viewer is not healthy: {'status': 'ok'")
    assert told["missing"] == "Resource not found: /api/runs/nobody"
    assert told["experiments"] == [site.ids[1]]
    assert told["run"] == told["json"] == told["metrics"]["run_id"] == site.ids[0]
    assert told["projects"] == [["nlp", 1], ["vision", 2]]
    [(name, points)] = told["metrics"]["metrics"].items()
    assert (name, [p["step"] for p in points]) == ("loss", [5, 6])
    assert points[-1]["timestamp"] > 1.7e9
    assert (told["csv"], told["config"]) == ("# Runico", str(site.storage))
    assert (told["health"], told["gpus"], told["sessions"]) == ("healthy", "list", [])
    assert (told["artifacts"], told["artifact"], told["versions"]) == (["net"], [1, 1, 1], [1])
    assert (told["lineage"], told["made"]) == ("net:v1", ["created"])


def test_the_client_of_0_7_works(python: Path, site: Site) -> None:
    told = ask(python, "0.7.2", ASK_0_7, site)
    assert (told["runs"], told["run"], told["health"]) == (3, site.ids[0], "ok")
    assert told["paths"]["tree"]["vision"].keys() == {"resnet"}
    assert told["paths"]["stats"]["vision"] == {
        "total": 2,
        "running": 0,
        "finished": 2,
        "failed": 0,
    }
    assert (told["at"], told["exactly"]) == (["vision/resnet"] * 2, [])
    assert (told["metrics"], told["csv"]) == (6, "# Runico")
    assert told["config"] == told["storage"] == str(site.storage)
    assert told["sessions"] == told["viewers"] == []
