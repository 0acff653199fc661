"""The runs in the admin: lists, actions with their confirmation, a run's page."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from core.databases import has_server_database
from runs import actions
from runs.models import Project, Run, Tag

RUNS = reverse("admin:runs_run_changelist")
BIN = reverse("admin:runs_run_recycle_bin")


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def listed(client: Client, address: str = RUNS) -> list[str]:
    return re.findall(r'class="field-run_id"><a [^>]*>([^<]+)<', text(client.get(address)))


def act(client: Client, name: str, runs: list[Run], address: str = RUNS, **more: str):
    data = {"action": name, "_selected_action": [run.pk for run in runs], **more}
    return client.post(address, data)


def confirm(client: Client, question, address: str = RUNS):
    """Press the button of a confirmation page."""
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text(question))
    data = {name: value for name, value in fields if name != "csrfmiddlewaretoken"}
    return client.post(address, data, follow=True)


def change_page(run: Run) -> str:
    return reverse("admin:runs_run_change", args=[run.pk])


@pytest.fixture
def runs(root) -> list[Run]:
    """Of two projects, oldest first: finished, failed, running."""
    folders = [root.run("digits", "mlp"), root.run("digits", "sgd"), root.run("iris", "logreg")]
    folders[1].write("status.json", {"status": "failed"})
    folders[2].write("status.json", {"status": "running"})
    root.scan()
    return [Run.objects.get(run_id=folder.id) for folder in folders]


# -- the list ------------------------------------------------------------------------------------


def test_the_owner_of_the_machine_needs_no_password(client, runs):
    assert listed(client) == [run.run_id for run in reversed(runs)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("project=digits", [1, 0]),
        ("project=digits&experiment=sgd", [1]),
        ("status=failed", [1]),
        ("tag=baseline", [0]),
        ("q=logreg", [2]),
        ("q=base", [0]),
        ("q=digits mlp", [0]),
        ("created_at__year=1970", [2, 1, 0]),
        ("created_at__year=1971", []),
    ],
)
def test_filters_and_search(client, runs, query, expected):
    actions.set_tags(runs[0], ["baseline"], by=None)
    assert listed(client, f"{RUNS}?{query}") == [runs[index].run_id for index in expected]


def test_how_long_a_run_took_is_told_in_its_two_largest_units(client, root):
    folder = root.run()
    folder.write("meta.json", {"id": folder.id, "project": "p", "created_at": 100})
    folder.write("status.json", {"status": "finished", "started_at": 100, "ended_at": 3825})
    root.scan()
    assert '<td class="field-took">1 h 2 min</td>' in text(client.get(RUNS))
    assert "o=6" in text(client.get(RUNS)), "nobody can sort by it"


def test_experiments_are_offered_within_a_project_only(client, runs):
    assert "?experiment=" not in text(client.get(RUNS))
    assert "experiment=mlp" in text(client.get(f"{RUNS}?project=digits"))
    assert "experiment=logreg" not in text(client.get(f"{RUNS}?project=digits"))


def many(count: int) -> None:
    """Rows as a large storage root leaves them, spread over five years."""
    project = Project.objects.create(name=f"project {count}")
    runs = Run.objects.bulk_create(
        Run(
            run_id=f"{count}-{number}",
            project=project,
            name="sweep",
            directory=f"{count}/{number}",
            listing_key=b"",
            search_text="sweep\nswept\n",
            created_at=datetime(2020 + number % 5, 1, 1, tzinfo=UTC),
        )
        for number in range(count)
    )
    Tag.objects.bulk_create(Tag(run=run, key="swept") for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "queries"),
    [
        ("", 7),  # count, runs, tags; projects, tags to filter by; first and last date
        ("?p=3", 7),
        ("?project=project 350", 8),
        ("?q=sweep", 7),  # how many runs have the word, and how many there are, choose the way
    ],
)
def test_the_number_of_queries_does_not_grow_with_the_runs(
    admin_client, query, queries, django_assert_max_num_queries: DjangoAssertNumQueries
):
    login = 0 if has_server_database() else 2  # session and user
    many(350)
    for more in (0, 3000):
        many(more)
        with django_assert_max_num_queries(login + queries):
            assert len(listed(admin_client, RUNS + query)) == 100


def test_pages_are_counted_only_as_far_as_one_can_click(admin_client):
    many(3000)
    page = text(admin_client.get(RUNS))
    assert "more than 2100 runs" in page
    assert "Select all runs of the list" in page
    assert "3000 runs" in text(admin_client.get(f"{RUNS}?p=30"))


def test_dates_are_offered_from_the_first_run_to_the_last(admin_client):
    many(5)
    years = re.findall(r'\?created_at__year=(\d+)"', text(admin_client.get(RUNS)))
    assert years == ["2020", "2021", "2022", "2023", "2024"]
    page = text(admin_client.get(f"{RUNS}?created_at__year=2022"))
    assert "created_at__day=1&amp;created_at__month=1&amp;created_at__year=2022" in page
    assert "All dates" in page


def test_no_run_is_added_by_hand(client, runs):
    assert client.get(reverse("admin:runs_run_add")).status_code == 403
    assert "addlink" not in text(client.get(RUNS))


def test_projects_are_counted_and_read_only(client, runs):
    act(client, "soft_delete", runs[:1], confirmed=str(runs[0].pk))
    page = text(client.get(reverse("admin:runs_project_changelist")))
    assert f'<a href="{RUNS}?project=digits">1</a>' in page
    assert f'<a href="{BIN}?project=digits">1</a>' in page
    assert client.get(reverse("admin:runs_project_add")).status_code == 403


# -- actions -------------------------------------------------------------------------------------


def test_the_stock_deletion_is_not_offered(client, runs):
    assert 'value="delete_selected"' not in text(client.get(RUNS))
    assert 'value="purge"' not in text(client.get(RUNS))
    act(client, "soft_delete", runs, confirmed=",".join(str(run.pk) for run in runs))
    offered = re.findall(r'<option value="(\w+)">', text(client.get(BIN)))
    assert offered == ["restore", "purge"]


def test_soft_deleting_asks_first(client, runs):
    question = act(client, "soft_delete", runs[:2])
    page = text(question)
    assert "Move 2 runs to the recycle bin?" in page
    assert "This frees nothing yet" in page
    assert [run.run_id in page for run in runs] == [True, True, False]
    assert Run.objects.active().count() == 3

    done = confirm(client, question)
    assert "2 runs moved to the recycle bin." in text(done)
    assert [(run.path / ".deleted").exists() for run in runs] == [True, True, False]
    assert listed(client) == [runs[2].run_id]
    assert set(listed(client, BIN)) == {runs[0].run_id, runs[1].run_id}


def test_a_running_run_is_pointed_out(client, runs):
    assert "1 of them is still running" in text(act(client, "soft_delete", runs))


def test_the_actor_is_recorded(admin_client, admin_user, runs):
    confirm(admin_client, act(admin_client, "soft_delete", runs[:1]))
    assert Run.objects.get(pk=runs[0].pk).deleted_by == admin_user.username
    assert "(admin)" in text(admin_client.get(BIN))


def test_restoring(client, runs):
    confirm(client, act(client, "soft_delete", runs[:1]))
    question = act(client, "restore", runs[:1], BIN)
    assert "Restore 1 run?" in text(question)
    assert "1 run restored." in text(confirm(client, question, BIN))
    assert not (runs[0].path / ".deleted").exists()
    assert runs[0].run_id in listed(client)


def test_purging_says_how_much_it_frees(client, runs):
    confirm(client, act(client, "soft_delete", runs[:2]))
    question = act(client, "purge", runs[:1], BIN)
    size = sum(file.stat().st_size for file in runs[0].path.iterdir())
    assert f"{size}\xa0bytes will be freed." in text(question)
    assert f"1 run deleted for good. {size}\xa0bytes freed." in text(confirm(client, question, BIN))
    assert not runs[0].path.exists()
    assert listed(client, BIN) == [runs[1].run_id]


def test_a_long_selection_is_shortened(client, root):
    for _ in range(13):
        root.run()
    root.scan()
    page = text(act(client, "soft_delete", Run.objects.all()[:1], select_across="1"))
    assert "Move 13 runs to the recycle bin?" in page
    assert page.count("<li>") == 10
    assert "and 3 more" in page


def test_only_what_the_question_named_is_changed(client, root, runs):
    question = act(client, "soft_delete", runs[:1], select_across="1")
    later = root.run()
    root.scan()
    confirm(client, question)
    assert listed(client) == [later.id]


def test_an_action_cannot_reach_runs_of_the_other_list(client, runs):
    keys = ",".join(str(run.pk) for run in runs)
    for address in (BIN, RUNS):
        act(client, "purge", runs, address, select_across="1", confirmed=keys)
    assert Run.objects.active().count() == 3


def test_a_failure_is_told(client, runs):
    question = act(client, "soft_delete", runs[:1])
    for file in runs[0].path.iterdir():
        file.unlink()
    runs[0].path.rmdir()
    assert f"{runs[0].run_id}: run not found" in text(confirm(client, question))


def test_deleting_one_run_is_a_soft_deletion_too(client, runs):
    address = reverse("admin:runs_run_delete", args=[runs[0].pk])
    question = client.get(address)
    assert "Move 1 run to the recycle bin?" in text(question)
    confirm(client, question, address)
    assert (runs[0].path / ".deleted").exists()
    assert "Delete 1 run for good?" in text(client.get(address))


def test_permissions_hold(runs):
    looker = User.objects.create_user("looker", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_run"))
    client = Client()
    client.force_login(looker)
    assert len(listed(client)) == 3
    assert "soft_delete" not in text(client.get(RUNS))
    act(client, "soft_delete", runs, confirmed=str(runs[0].pk))
    client.post(change_page(runs[0]), {"tags": "mine"})
    assert client.get(reverse("admin:runs_run_delete", args=[runs[0].pk])).status_code == 403
    assert Run.objects.active().count() == 3
    assert not Tag.objects.exists()
    assert text(client.get(change_page(runs[0])))


# -- a run's page --------------------------------------------------------------------------------


def test_a_run_shows_what_it_logged(client, root):
    folder = root.run("digits", "sgd")
    folder.write("config.json", {"lr": 0.01})
    folder.write("summary.json", {"f1": 0.75})
    folder.write("environment.json", {"python_version": "3.11.7"})
    folder.log({"global_step": 1, "loss": 0.5}, {"global_step": 2, "loss": 0.25})
    folder.append("logs.txt", b"hello\n")
    root.scan()
    page = text(client.get(change_page(Run.objects.get())))
    assert '<svg class="chart"' in page
    for part in (
        "hello",
        "<dd>0.01</dd>",
        "<dd>0.75</dd>",
        "3.11.7",
        "<bdi>digits</bdi> / <bdi>sgd</bdi>",
    ):
        assert part in page
    assert reverse("run", args=[folder.id]) in page


def test_tags_and_notes_can_be_edited_and_nothing_else(client, runs, root):
    run = runs[0]
    sent = {"tags": " a, b,,a ", "notes": "one\r\ntwo", "status": "failed", "name": "x"}
    response = client.post(change_page(run), sent)
    assert response["Location"] == RUNS
    assert sorted(run.tags.values_list("key", flat=True)) == ["a", "b"]
    annotations = json.loads((Path(run.path) / "annotations.json").read_text())
    assert (annotations["tags"], annotations["notes"]) == (["a", "b"], "one\ntwo")
    run.refresh_from_db()
    assert (run.status, run.name, run.notes) == ("finished", "mlp", "one\ntwo")
    assert 'value="a, b"' in text(client.get(change_page(run)))


def test_a_tag_too_long_is_refused(client, runs):
    assert "at most 255" in text(client.post(change_page(runs[0]), {"tags": "x" * 256}))
    assert not runs[0].tags.exists()


def test_a_deleted_run_can_be_restored_from_its_page(client, runs):
    confirm(client, act(client, "soft_delete", runs[:1]))
    page = text(client.get(change_page(runs[0])))
    assert "This run is in the recycle bin." in page
    assert f'<form id="restore" method="post" action="{BIN}">' in page
