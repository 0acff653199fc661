"""The recycle bin's page: restore, delete for good, empty."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from runs.models import Run

BIN = reverse("recycle-bin")


@pytest.fixture
def deleted(client, root):
    """Three runs, of which the first two are in the bin."""
    folders = [root.run() for _ in range(3)]
    root.scan()
    runs = [Run.objects.get(run_id=folder.id) for folder in folders]
    client.post(reverse("soft-delete"), {"run": [run.pk for run in runs[:2]]})
    return runs


def page(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def test_it_says_what_was_deleted_and_why(client, deleted):
    html = page(client.get(BIN))
    assert [run.run_id in html for run in deleted] == [True, True, False]
    assert "by a user" in html


def test_restoring(client, deleted):
    client.post(reverse("restore"), {"run": [deleted[0].pk], "next": BIN})
    html = page(client.get(BIN))
    assert "1 run restored." in html
    assert deleted[0].run_id not in html
    assert not (deleted[0].path / ".deleted").exists()


def test_deleting_for_good_asks_first_and_says_how_much_it_frees(client, deleted):
    question = page(client.post(reverse("purge"), {"run": [deleted[0].pk]}))
    assert "Delete 1 run for good?" in question
    assert deleted[0].run_id in question
    assert re.search(r"\d+\xa0bytes will be freed", question)
    assert deleted[0].path.exists()

    client.post(reverse("purge"), {"run": str(deleted[0].pk), "confirmed": "yes"})
    assert not deleted[0].path.exists()
    assert deleted[1].path.exists()
    html = page(client.get(BIN))
    assert "1 run deleted for good." in html
    assert "freed." in html


def test_emptying_names_the_runs_and_takes_only_those(client, deleted):
    question = page(client.post(reverse("purge"), {"all": "1"}))
    assert "Delete 2 runs for good?" in question
    keys = re.search(r'name="run" value="([\d,]+)"', question)[1]
    client.post(reverse("soft-delete"), {"run": [deleted[2].pk]})
    client.post(reverse("purge"), {"run": keys, "confirmed": "yes"})
    assert [run.path.exists() for run in deleted] == [False, False, True]


def test_a_run_outside_the_bin_cannot_be_purged(client, deleted):
    client.post(reverse("purge"), {"run": str(deleted[2].pk), "confirmed": "yes"})
    assert deleted[2].path.exists()
    assert Run.objects.filter(pk=deleted[2].pk).exists()


def test_an_empty_bin_says_so(client, root):
    assert "The recycle bin is empty." in page(client.get(BIN))
