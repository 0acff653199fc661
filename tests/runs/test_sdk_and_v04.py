"""A run that our SDK wrote and one that Runicorn 0.4.0 wrote give the same answers."""

from __future__ import annotations

import json
import shutil

import pytest

import runicorn as rn
from tests import v04

RUNS = ["sgd_a", "sgd_b", "mlp_ok", "mlp_failed", "mlp_interrupted", "nan_inf", "sparse"]
RUNS += ["mixed_types", "unicode", "steps_3k", "no_metrics"]
OWN = ("run_dir", "logs", "metrics", "metrics_step", "pid", "created_time", "created_at")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return v04.unpack_storage(tmp_path_factory.mktemp("v04"))


@pytest.mark.parametrize("name", RUNS)
def test_the_same_training_gives_the_same_answers(name, recorded, root, api, tmp_path):
    run = json.loads((v04.DATA / "catalog.json").read_text())["runs"][name]
    theirs = recorded / run["dir"]
    log_again(theirs, root.path, run)
    root.scan()
    ours = answers(api, run["id"])
    shutil.rmtree(root.path / run["project"])
    shutil.copytree(theirs, root.path / run["dir"])
    root.scan()
    assert ours == answers(api, run["id"])


def log_again(theirs, storage, run):
    """Log through our SDK what the run logged through the one of 0.4.0."""
    ours = rn.init(run["project"], storage, run["id"], name=run["name"], capture_env=False)
    summary = v04.read_json(theirs / "summary.json")
    if "best_metric_name" in summary:
        ours.set_primary_metric(summary["best_metric_name"], summary["best_metric_mode"])
    for _, data in v04.read_events(theirs / "events.jsonl"):
        data = dict(data)
        data.pop("time")
        ours.log(data, step=data.pop("global_step"), stage=data.pop("stage", None))
    ours.summary({k: v for k, v in summary.items() if not k.startswith("best_metric_")})
    ours.finish(json.loads((theirs / "status.json").read_text())["status"])


def answers(api, run_id):
    """What the API says of the run, without what every run has of its own (paths and times)."""
    detail = api.get(f"/runs/{run_id}")
    tables = [api.get(f"/runs/{run_id}/{route}") for route in ("metrics_step", "metrics")]
    for table in tables:
        for row in table["rows"]:
            row.pop("time")
    [listed] = api.get("/runs")
    return (
        {key: value for key, value in detail.items() if key not in OWN},
        {key: value for key, value in listed.items() if key not in OWN},
        tables,
    )
