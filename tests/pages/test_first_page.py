"""The runs at ``/``: listed, filtered, live, deleted and brought back."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from django.test.utils import override_script_prefix
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from runs import actions
from runs.ingest import progress
from runs.models import Run
from tests.runs.conftest import event

LIVE = "/live"


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def shown(client, query: str = "") -> list[str]:
    """The ids of the runs on the page, in order."""
    return re.findall(r'<bdi class="id">([^<]+)</bdi></a>', text(client.get(f"/{query}")))


@pytest.fixture
def three(root):
    """Of two projects, oldest first: finished, failed, running."""
    folders = [root.run("digits", "mlp"), root.run("digits", "sgd"), root.run("iris", "logreg")]
    folders[1].write("status.json", {"status": "failed"})
    folders[2].write("status.json", {"status": "running", "started_at": 5.0})
    root.scan()
    return [folder.id for folder in folders]


def test_an_empty_root_shows_the_lines_that_log_the_first_run(client, root, settings):
    page = text(client.get("/"))
    code = re.search(r"<code>(import.*?)</code>", page, re.DOTALL)[1].replace("&quot;", '"')
    assert code.splitlines() == [
        "import runicorn as rn",
        'run = rn.init(project="demo", name="first-run", '
        f'storage="{settings.RUNICORN_STORAGE_ROOT}")',
        'rn.log({"loss": 0.42, "accuracy": 0.91})',
        "run.finish()",
    ]
    assert 'data-copy="first-run"' in page


def test_a_storage_path_cannot_break_out_of_the_lines(client, root, settings, tmp_path):
    settings.RUNICORN_STORAGE_ROOT = tmp_path / 'a"<b>\\'
    page = text(client.get("/"))
    assert r"a\&quot;&lt;b&gt;\\" in page
    assert "<b>" not in page


def test_runs_are_listed_newest_first_with_a_link_to_each(client, three):
    assert shown(client) == three[::-1]
    assert f'href="{reverse("run", args=[three[0]])}"' in text(client.get("/"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?project=digits", [1, 0]),
        ("?status=failed", [1]),
        ("?search=logreg", [2]),
        ("?search=DIGITS+mlp", [0]),
        ("?search=digits&status=finished", [0]),
        ("?project=nowhere", []),
        ("?page=7", [2, 1, 0]),
        ("?page=x", [2, 1, 0]),
        ("?q=project=digits+and+not+status=failed", [0]),
        ("?q=project=digits&search=mlp&status=failed", []),
    ],
)
def test_filters(client, three, query, expected):
    assert shown(client, query) == [three[index] for index in expected]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?q=metrics.loss=1", "Say which value of the metric"),
        ("?q=project=", "Expected a value, not the end (column 9)"),
    ],
)
@pytest.mark.parametrize("page", ["/", "/live"])
def test_a_question_that_cannot_be_understood_is_said(client, three, page, query, said):
    answer = client.get(f"{page}{query}")
    assert answer.status_code == 200
    assert said in text(answer)
    assert three[0] not in text(answer)


def test_no_match_is_said(client, three):
    assert "No run matches." in text(client.get("/?search=nothing"))


def test_tags_are_shown_and_searched(client, three):
    actions.set_tags(Run.objects.get(run_id=three[0]), ["baseline"], by=None)
    assert shown(client, "?search=basel") == [three[0]]
    assert '<bdi class="tag">baseline</bdi>' in text(client.get("/"))


def test_fifty_runs_a_page(client, root):
    for _ in range(51):
        root.run()
    root.scan()
    assert len(shown(client)) == 50
    assert len(shown(client, "?page=2")) == 1
    assert 'href="?page=2"' in text(client.get("/"))
    assert 'href="?status=finished&amp;page=2"' in text(client.get("/?status=finished"))


def test_the_number_of_queries_does_not_grow_with_the_runs(
    client, root, django_assert_num_queries: DjangoAssertNumQueries
):
    for count in (1, 10):
        for _ in range(count):
            root.run().log({"global_step": 1, "loss": 0.5})
        root.scan()
        client.get("/")
        with django_assert_num_queries(5):  # count, runs, tags, series, copies
            client.get(LIVE)


def test_the_list_shows_what_a_running_run_logs(client, root):
    folder = root.run()
    folder.log({"global_step": 7, "loss": 0.25, "time": 12.0})
    root.scan()
    page = text(client.get("/"))
    assert '<span class="quiet">loss</span> <b>0.25</b>' in page
    assert '<td class="figure step">7</td>' in page


def test_the_fragment_is_sent_again_only_if_it_changed(client, root):
    folder = root.run()
    root.scan()
    first = client.get(LIVE)
    assert client.get(LIVE, headers={"If-None-Match": first["ETag"]}).status_code == 304
    folder.append("events.jsonl", event({"global_step": 1, "loss": 0.125}))
    root.scan()
    second = client.get(LIVE, headers={"If-None-Match": first["ETag"]})
    assert "0.125" in text(second)
    assert second["ETag"] != first["ETag"]


def test_the_progress_of_indexing_is_shown(client, root, monkeypatch):
    monkeypatch.setattr(progress, "current", progress.Progress("scanning", 900, 40, 1))
    page = text(client.get("/"))
    assert '<progress id="progress-bar" max="900" value="40">' in page
    assert "1 run folder could not be read" in page
    assert "Log your first run" not in page


def test_deleting_offers_to_undo_once(client, root, three):
    run = Run.objects.get(run_id=three[0])
    response = client.post(reverse("soft-delete"), {"run": [run.pk], "next": "/?project=digits"})
    assert response["Location"] == "/?project=digits"
    assert (run.path / ".deleted").exists()

    page = text(client.get("/"))
    assert "1 run moved to the recycle bin." in page
    assert f'name="run" value="{run.pk}"' in page
    assert "Undo" not in text(client.get("/"))

    client.post(reverse("restore"), {"run": str(run.pk), "next": "/"})
    assert not (run.path / ".deleted").exists()
    assert shown(client) == three[::-1]


def test_a_failure_to_delete_is_told(client, root, three, monkeypatch):
    run = Run.objects.get(run_id=three[0])
    (run.path / "meta.json").unlink()
    (run.path / "status.json").unlink()
    run.path.rmdir()
    client.post(reverse("soft-delete"), {"run": [run.pk]})
    assert f"{run.run_id}: run not found" in text(client.get("/"))


@pytest.mark.parametrize("address", ["soft-delete", "restore", "purge"])
def test_changes_are_posts_with_a_csrf_token(client, root, address):
    assert client.get(reverse(address)).status_code == 405
    strict = type(client)(enforce_csrf_checks=True)
    assert strict.post(reverse(address), {"run": "1"}).status_code == 403


@pytest.mark.parametrize("target", ["https://elsewhere.example/", "//elsewhere.example", "", "x:y"])
def test_nobody_is_sent_to_another_site(client, root, target):
    assert client.post(reverse("soft-delete"), {"next": target})["Location"] == "/"


def test_every_address_follows_a_sub_path(client, three):
    with override_script_prefix("/lab/"):
        page = text(client.get("/", SCRIPT_NAME="/lab"))
    addresses = re.findall(r'(?:href|action|data-live|value)="(/[^"]*)"', page)
    addresses = [address for address in addresses if not address.startswith("/static/")]
    assert len(addresses) > 10
    assert [address for address in addresses if not address.startswith("/lab/")] == []


def test_pages_hold_no_script_and_no_style_of_their_own(client, three):
    for address in ("/", reverse("run", args=[three[0]]), reverse("recycle-bin")):
        page = text(client.get(address))
        assert "<style" not in page
        assert " style=" not in page
        assert re.findall(r"<script(?! src=)", page) == []
        assert re.findall(r"\son\w+=", page) == []
        assert "default-src 'self'" in client.get(address)["Content-Security-Policy"]


def test_the_static_files_are_served(client, root):
    for address in re.findall(r'(?:href|src)="(/static/[^"]*)"', text(client.get("/"))):
        with closing(client.get(address)) as response:
            assert response.status_code == 200
    assert client.get("/favicon.ico")["Location"] == "/static/runicorn/icon.svg"
