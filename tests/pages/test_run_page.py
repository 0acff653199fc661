"""A run's page: facts, charts, log, images, documents."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from django.test.utils import override_script_prefix
from django.urls import reverse

from runs.models import Run
from tests.runs.conftest import event


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def folder(root):
    folder = root.run("digits", "sgd", hostname="trainbox", pid=77)
    folder.write("summary.json", {"best_metric_name": "acc", "best_metric_value": 0.96, "f1": 0.9})
    folder.write("config.json", {"lr": 0.01, "model": {"kind": "mlp"}})
    folder.write("environment.json", {"python_version": "3.11.7", "pip_packages": ["numpy==2"] * 9})
    folder.log({"global_step": 1, "loss": 0.5}, {"global_step": 2, "loss": float("nan")})
    folder.append("logs.txt", b"12:00:00 | \x1b[31mhello\x1b[0m <b>\n")
    return folder


@pytest.fixture
def page(client, root, folder):
    root.scan()
    return text(client.get(f"/runs/{folder.id}"))


def test_facts(page):
    assert "trainbox" in page
    assert "0.96" in page
    assert "<dt>Best acc</dt>" in page


def test_a_chart_for_each_number(page):
    assert page.count('<svg class="chart"') == 1
    assert 'aria-label="loss"' in page
    assert "1 not finite" in page


def test_the_log_without_colours_and_as_text(page, folder):
    assert "12:00:00 | hello &lt;b&gt;" in page
    assert f'data-log="/api/runs/{folder.id}/logs/ws"' in page


def test_parameters_summary_and_environment(page):
    assert "<dt>model.kind</dt><dd>mlp</dd>" in page
    assert "<dt>f1</dt><dd>0.9</dd>" in page
    assert "<dt>best_metric_value</dt>" not in page
    assert "9 entries" in page


def test_unknown_runs_are_a_page_not_found(client, root):
    response = client.get("/runs/nope")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


@pytest.mark.parametrize("run_id", ["läuft gut 100%", "<script>", "a;b&c=d?e#f", "live"])
def test_any_folder_name_has_a_page(client, root, run_id):
    root.run(run_id=run_id)
    root.scan()
    page = text(client.get(reverse("run", args=[run_id])))
    assert f'data-log="/api/runs/{quote(run_id, safe="")}/logs/ws"' in page
    assert "<script>" not in page


def test_the_log_address_follows_a_sub_path(client, root, folder):
    root.scan()
    with override_script_prefix("/lab/"):
        page = text(client.get(f"/runs/{folder.id}"))
    assert f'data-log="/lab/api/runs/{folder.id}/logs/ws"' in page
    assert f'data-live="/lab/runs/{folder.id}/live"' in page


def test_the_fragment_is_sent_again_only_if_the_run_changed(client, root, folder):
    root.scan()
    address = reverse("run-live", args=[folder.id])
    etag = client.get(address)["ETag"]
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 304
    folder.append("events.jsonl", event({"global_step": 3, "accuracy": 0.5}))
    root.scan()
    changed = client.get(address, headers={"If-None-Match": etag})
    assert 'aria-label="accuracy"' in text(changed)

    Run.objects.get().tags.create(key="new")
    tagged = client.get(address, headers={"If-None-Match": changed["ETag"]})
    assert '<bdi class="tag">new</bdi>' in text(tagged)
    other_language = client.get(
        address, headers={"If-None-Match": tagged["ETag"], "Accept-Language": "zh-hans"}
    )
    assert other_language.status_code == 200


def test_a_deleted_run_says_so_and_can_be_restored(client, root, folder):
    root.scan()
    run = Run.objects.get()
    client.post(reverse("soft-delete"), {"run": run.pk})
    page = text(client.get(f"/runs/{folder.id}"))
    assert "This run is in the recycle bin." in page
    assert f'formaction="{reverse("restore")}"' in page
    assert "data-log=" not in page


def test_many_metrics_are_shown_on_demand(client, root):
    folder = root.run()
    folder.log({"global_step": 1, **{f"layer{n}/norm": n for n in range(70)}})
    root.scan()
    page = text(client.get(f"/runs/{folder.id}"))
    assert page.count('<svg class="chart"') == 60
    assert "10 more metrics" in page
    assert text(client.get(f"/runs/{folder.id}?charts=all")).count('<svg class="chart"') == 70


def test_documents_of_any_shape_are_shown(client, root, folder):
    folder.write("environment.json", {"gpu_info": [{"index": 0, "name": "X"}], "a": {"b": [1]}})
    folder.write("summary.json", json.dumps([1]).encode())
    root.scan()
    page = text(client.get(f"/runs/{folder.id}"))
    assert "index: 0, name: X" in page
    assert "b: [1]" in page


def test_a_line_without_end_does_not_fill_the_page(client, root, folder):
    long_line = b"x" * 5_000_000
    folder.write("logs.txt", b"first\n" + long_line + b"\n" + b"y" * 1_000_000)
    folder.write("config.json", {"prompt": "z" * 2_000_000, "stops": ["z" * 2_000_000], "lr": 0.1})
    root.scan()
    for address in (f"/runs/{folder.id}", reverse("admin:runs_run_change", args=[pk_of(folder)])):
        page = text(client.get(address))
        assert len(page) < 500_000
        assert "x" * 4000 in page and "y" * 4000 in page
        assert "more characters)" in page
    response = client.get(f"/runs/{folder.id}/log")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Content-Disposition"] == f"attachment; filename={folder.id}.log.txt"
    assert b"".join(response.streaming_content) == folder.logs.read_bytes()


def test_many_long_lines_do_not_fill_the_page(client, root, folder):
    folder.write("logs.txt", b"".join(b"%d %s\n" % (n, b"x" * 3000) for n in range(300)))
    root.scan()
    page = text(client.get(f"/runs/{folder.id}"))
    assert len(page) < 400_000
    assert "299 xxx" in page


def pk_of(folder):
    return Run.objects.get(run_id=folder.id).pk
