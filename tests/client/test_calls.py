"""Every documented call against a live server."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import runicorn as rn
from runicorn import api
from tests import servers

from .conftest import Site


def test_runs_come_newest_first_and_can_be_filtered_and_cut(client, site: Site) -> None:
    runs = client.list_experiments()
    assert [run["id"] for run in runs] == site.ids[::-1]
    assert {"id", "project", "name", "status", "created_at", "summary", "tags"} <= runs[0].keys()
    assert [r["id"] for r in client.list_experiments(project="vision", limit=1)] == [site.ids[1]]
    assert [r["id"] for r in client.list_experiments(offset=1, limit=1)] == [site.ids[1]]
    assert client.list_experiments(limit=0) == []
    assert client.list_experiments(status="running") == []
    assert len(client.list_experiments(name="resnet", status="finished")) == 2


def test_one_run(client, site: Site) -> None:
    run = client.get_experiment(site.ids[0])
    assert (run["project"], run["status"]) == ("vision", "finished")
    assert api.Experiment.from_dict(run).created_datetime.year >= 2020
    assert client.get_run(site.ids[0])["id"] == site.ids[0]
    with pytest.raises(api.NotFoundError, match="Resource not found: /api/runs/nobody"):
        client.get_run("nobody")


def test_projects_are_counted(client) -> None:
    projects = client.list_projects()
    assert [(p["name"], p["experiment_count"]) for p in projects] == [("nlp", 1), ("vision", 2)]
    assert projects[0]["latest_update"] > 1e9


def test_metrics_are_numbers_by_name(client, site: Site) -> None:
    answer = client.get_metrics(site.ids[0])
    assert answer["run_id"] == site.ids[0]
    assert set(answer["metrics"]) == {"loss", "accuracy"}
    assert len(answer["metrics"]["accuracy"]) == 5
    series = api.MetricSeries.from_dict("loss", answer["metrics"]["loss"])
    assert series.steps == [1, 2, 3, 4, 5, 6]
    assert (series.last_value(), series.max_value(), series.min_value()) == (0.1, 1, 0.1)
    assert series.points[0].timestamp > 1e9
    cut = client.get_metrics(site.ids[0], ["loss", "unknown"], limit=2)["metrics"]
    assert [point["step"] for point in cut["loss"]] == [5, 6]
    assert set(cut) == {"loss"}


def test_metrics_come_as_dataframes_on_arrow_memory(client, site: Site) -> None:
    frame = client.get_metrics(site.ids[0], as_dataframe=True)
    assert list(frame.columns) == ["step", "timestamp", "accuracy", "loss"]
    assert {str(kind) for kind in frame.dtypes} == {"int64[pyarrow]", "double[pyarrow]"}
    assert frame["accuracy"].isna().sum() == 1
    polars = client.get_metrics(site.ids[0], ["loss"], limit=2, as_dataframe="polars")
    assert polars["loss"].to_list() == [0.2, 0.1]


def test_tables_for_pandas(client, site: Site, tmp_path: Path) -> None:
    frame = api.utils.metrics_to_dataframe(client.get_metrics(site.ids[0]))
    assert list(frame.columns) == ["step", "accuracy", "loss"]
    assert list(frame["step"]) == [1, 2, 3, 4, 5, 6]
    frame = api.utils.experiments_to_dataframe(client.list_experiments())
    assert str(frame["created_at"].dtype).startswith("datetime64")
    assert api.utils.experiments_to_dataframe([]).empty
    both = api.utils.compare_runs(client, [*site.ids[:2]], "loss")
    assert list(both.columns) == ["step", *site.ids[:2]]
    path = tmp_path / "metrics.csv"
    assert api.utils.export_metrics_to_csv(client, site.ids[0], path, ["loss"]) == str(path)
    assert path.read_text().splitlines()[:2] == ["step,loss", "1,1.0"]


def test_the_recycle_bin(client, site: Site) -> None:
    assert client.soft_delete(site.ids[0]) == {site.ids[0]: {"success": True}}
    assert [run["id"] for run in client.list_recycle_bin()] == [site.ids[0]]
    assert client.restore([site.ids[0]]) == {site.ids[0]: {"success": True}}
    assert client.soft_delete([]) == {}
    with pytest.raises(api.BadRequestError, match="confirm"):
        client.empty_recycle_bin()
    assert client.empty_recycle_bin(confirm=True) == 0


def test_more_runs_than_one_request_takes(client, site: Site) -> None:
    many = [f"20200101_000000_{number:06x}" for number in range(250)]
    results = client.soft_delete(many)
    assert list(results) == many
    assert results[many[0]] == {"success": False, "error": "run not found"}


def test_tags(client, site: Site) -> None:
    assert client.tag_experiment(site.ids[1], ["paper", "best"])
    assert [r["id"] for r in client.search_experiments(tags=["paper"])] == [site.ids[1]]
    assert client.search_experiments(project="nlp", tags="paper") == []
    assert not client.tag_experiment("nobody", "x")
    assert client.delete_experiments(["nobody"]) == {"nobody": False}


def test_notes_and_tags_are_set_and_read(client, site: Site) -> None:
    run = client.set_notes(site.ids[1], "the one\nwith warm-up")
    assert run["notes"] == client.get_run(site.ids[1])["notes"] == "the one\nwith warm-up"
    assert client.set_tags(site.ids[1], ["b", "a"])["tags"] == ["b", "a"]
    assert client.search_experiments(text="WARM-UP")[0]["description"] == run["notes"]
    assert [r["id"] for r in client.iter_experiments(search="warm-up")] == [site.ids[1]]
    assert client.set_notes(site.ids[1], "")["notes"] == ""
    with pytest.raises(api.NotFoundError):
        client.set_notes("nobody", "x")
    with pytest.raises(api.BadRequestError, match="notes"):
        client.patch(f"/api/runs/{site.ids[1]}", {"notes": ["x"]})
    assert client.get_run(site.ids[1])["notes"] == ""


def test_an_archived_run_means_the_same_to_folder_and_server(client, site: Site) -> None:
    manager = rn.ExperimentManager(site.storage)
    manager.archive_experiment(site.ids[1])
    try:
        for archived in (False, True):
            there = {r.id for r in manager.search_experiments(archived=archived)}
            assert (site.ids[1] in there) == archived
            servers.wait_until(
                lambda there=there, archived=archived: (
                    {r["id"] for r in client.search_experiments(archived=archived)} == there
                ),
                "the server has seen what was noted",
            )
    finally:
        manager.archive_experiment(site.ids[1], False)


def test_old_runs_are_removed_for_good(client, site: Site) -> None:
    run = rn.Run("old", site.storage, capture_env=False)
    run.finish()
    (run.run_dir / "status.json").write_text('{"status": "finished", "ended_at": 1000.0}')
    meta = json.loads((run.run_dir / "meta.json").read_text()) | {"created_at": 900.0}
    (run.run_dir / "meta.json").write_text(json.dumps(meta))
    servers.wait_until(
        lambda: run.id in client.cleanup_experiments(days=9999, dry_run=True), "it is listed as old"
    )
    assert client.cleanup_experiments(days=9999) == [run.id] and run.run_dir.exists()
    assert client.cleanup_experiments(days=9999, dry_run=False) == [run.id]
    assert not run.run_dir.exists()
    assert client.cleanup_experiments(days=9999) == []


def test_samples_of_the_machine_are_read(client, site: Site) -> None:
    run = rn.Run("sampled", site.storage, capture_env=False, system_metrics=0.05)
    servers.wait_until((run.run_dir / "system.jsonl").exists, "the first sample")
    run.finish()
    servers.wait_until(
        lambda: run.id in [r["id"] for r in client.list_experiments()], "it is listed"
    )
    table = client.get_system_metrics(run.id, downsample=100)
    assert table["columns"][0] == "time" and "system/memory_percent" in table["columns"]
    assert 0 < table["rows"][0]["system/memory_percent"] <= 100
    client.delete_experiments([run.id])


def test_the_machine_and_the_configuration(client, site: Site) -> None:
    assert client.health_check()["status"] == "ok"
    config = client.get_config()
    assert config["storage"] == str(site.storage)
    assert config["user_root"] == config["user_root_dir"]
    gpus = client.get_gpu_info()
    assert isinstance(gpus["available"], bool)
    assert isinstance(gpus["devices"], list)
    assert client.check_status()["checked"] == 0
    assert client.get_environment(site.ids[0]) == {"available": False}
    with pytest.raises(api.BadRequestError):
        client.update_config({"port": 1})


def test_exports(client, site: Site) -> None:
    document = json.loads(client.export_experiment(site.ids[0]))
    assert document["run"]["id"] == site.ids[0]
    assert len(document["metrics"]["rows"]) == 6
    assert b"global_step" in client.export_experiment(site.ids[0], "csv")
    assert client.export_experiment(site.ids[0], "parquet")[:4] == b"PAR1"
    assert b"# " in client.export_report(site.ids[0])
    assert client.export_report(site.ids[0], "pdf")[:5] == b"%PDF-"
    with pytest.raises(api.BadRequestError, match="format must be one of"):
        client.export_experiment(site.ids[0], "docx")
    with pytest.raises(api.BadRequestError, match="download_runs"):
        client.export_experiment(site.ids[0], include_media=True)


def test_an_archive_there_and_back(client, site: Site, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    archive = tmp_path / "a" / "runs.tar.gz"
    got = client.download_runs(
        archive, project="vision", progress=lambda done, total: told.append((done, total))
    )
    assert got == str(archive)
    assert told[-1][0] == archive.stat().st_size
    assert [path.name for path in archive.parent.iterdir()] == ["runs.tar.gz"]
    told.clear()
    answer = client.import_archive(archive, lambda *step: told.append(step), dry_run=True)
    assert answer["ok"]
    assert told[-1] == (archive.stat().st_size,) * 2
    with pytest.raises(FileNotFoundError):
        client.import_archive(tmp_path / "none.zip")
    with pytest.raises(api.NotFoundError):
        client.download_runs(tmp_path / "none", project="nobody")
    assert not (tmp_path / "none").exists()


def test_artifacts(client, site: Site, tmp_path: Path) -> None:
    [artifact] = client.artifacts.list_artifacts()
    assert artifact["name"] == "net"
    assert client.artifacts.list_artifacts(type="dataset") == []
    assert client.artifacts.list_artifacts(offset=1) == []
    for spelling in ("net:v1", "net:1", "net:latest"):
        detail = client.artifacts.get_artifact(spelling)
        assert (detail["version"], detail["size_bytes"]) == (1, 300_000)
    assert api.Artifact.from_dict(detail).id == "net:v1"
    assert [v["version"] for v in client.artifacts.list_versions("net")] == [1]
    assert client.artifacts.get_artifact_lineage("net:v1")["created_by"] == site.ids[0]
    [made] = client.artifacts.list_experiment_artifacts(site.ids[0])
    assert made["relation"] == "created"
    assert client.artifacts.list_experiment_artifacts(site.ids[0], "used") == []
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "net"
    path = client.artifacts.download_artifact("net:v1", target, lambda *s: told.append(s))
    assert path == str(target)
    assert (target / "weights.bin").read_bytes() == b"w" * 300_000
    assert told[-1] == (300_000, 300_000)
    told.clear()
    client.artifacts.download_artifact("net:v1", target, lambda *s: told.append(s))
    assert told == [(300_000, 300_000)]  # it was there
    assert client.artifacts.get_stats()["total_versions"] == 1
    with pytest.raises(api.BadRequestError):
        client.artifacts.get_artifact("net")
    with pytest.raises(api.NotFoundError):
        client.artifacts.get_artifact("net:nightly")


def test_a_run_is_followed_while_it_goes_on(client, site: Site) -> None:
    run = rn.Run("live", site.storage, capture_env=False, system_metrics=False)
    run.log(loss=3, step=1)
    run.log_text("one")

    def train() -> None:
        servers.wait_until(lambda: points != [], "the first point")
        run.log(loss=2, step=2)
        run.log({"loss": 1, "accuracy": 1}, step=3)
        run.log_text("two")
        run.finish()

    points: list[tuple[str, int]] = []
    servers.wait_until(
        lambda: run.id in [r["id"] for r in client.list_experiments()], "it is listed"
    )
    thread = threading.Thread(target=train)
    thread.start()
    for point in client.follow_metrics(run.id, interval=0.2):
        points.append((point["name"], point["step"]))
    thread.join()
    assert sorted(points) == [("accuracy", 3), ("loss", 1), ("loss", 2), ("loss", 3)]
    lines = client.follow_logs(run.id)
    assert [next(lines).split(" | ")[1] for _ in range(2)] == ["one", "two"]
    lines.close()
    with pytest.raises(api.NotFoundError):
        next(client.follow_logs("nobody"))


def test_the_asynchronous_client_has_the_same_shape(site: Site) -> None:
    for blocking, awaiting in (
        (api.RunicornClient, api.AsyncRunicornClient),
        (api.ArtifactsAPI, api.AsyncArtifactsAPI),
        (api.RemoteAPI, api.AsyncRemoteAPI),
    ):
        names = {name for name in dir(blocking) if not name.startswith("_")}
        assert names == {name for name in dir(awaiting) if not name.startswith("_")}
        for name in names:
            one, other = getattr(blocking, name), getattr(awaiting, name)
            if callable(one) and name != "get_metrics":
                ours = list(inspect.signature(one).parameters)
                assert ours == list(inspect.signature(other).parameters), name

    async def ask() -> None:
        async with api.AsyncRunicornClient(site.url) as client:
            listed, run = await asyncio.gather(
                client.list_experiments(limit=1), client.get_run(site.ids[0])
            )
            assert (len(listed), run["id"]) == (1, site.ids[0])
            metrics = await client.get_metrics(site.ids[0], ["loss"])
            assert len(metrics["metrics"]["loss"]) == 6
            frame = await client.get_metrics(site.ids[0], as_dataframe="polars")
            assert frame.height == 6
            points = [point async for point in client.follow_metrics(site.ids[0], ["loss"])]
            assert len(points) == 6
            async for line in client.follow_logs(site.ids[0]):
                assert line.endswith("hello")
                break
            assert len(await client.artifacts.list_artifacts()) == 1
            with pytest.raises(api.NotFoundError):
                await client.get_run("nobody")

    asyncio.run(ask())


def test_utilities_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas is required for this function"):
        api.utils.experiments_to_dataframe([])


def test_asking_loads_neither_pandas_nor_websockets() -> None:
    code = "import sys, runicorn.api; print({'pandas', 'polars', 'websockets', 'numpy', 'django'}"
    command = [sys.executable, "-I", "-c", f"{code} & set(sys.modules))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
