"""Artifacts in the admin: lists, a version's page, actions with their confirmation, aliases."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from artifacts import index
from artifacts.models import Artifact, Version

VERSIONS = reverse("admin:artifacts_version_changelist")
ARTIFACTS = reverse("admin:artifacts_artifact_changelist")


@pytest.fixture
def browser() -> Client:
    return Client(headers={"host": "127.0.0.1:23300"})


@pytest.fixture
def versions(store) -> list[Version]:
    store.save(w_bin=b"a" * 1000, shared=b"s" * 500)
    store.save(w_bin=b"b" * 2000, shared=b"s" * 500)
    index.catch_up()
    return list(Version.objects.order_by("number"))


def text(response) -> str:
    assert response.status_code == 200, response
    return response.content.decode()


def act(browser: Client, name: str, chosen: list[Version]) -> str:
    """Choose an action and press the button of its confirmation; the page that follows."""
    data = {"action": name, "_selected_action": [version.pk for version in chosen]}
    question = text(browser.post(VERSIONS, data))
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', question))
    fields.pop("csrfmiddlewaretoken", None)
    return question + text(browser.post(VERSIONS, fields, follow=True))


def test_the_list_says_what_storing_once_saves(browser, versions):
    page = text(browser.get(ARTIFACTS))
    assert "net" in page and "latest</bdi> → v2" in page
    assert "3.9\xa0KB of files take 3.4\xa0KB: 500\xa0bytes saved" in page


def test_versions_are_deleted_restored_and_purged(browser, versions):
    first = versions[0]
    assert "1 version deleted." in act(browser, "soft_delete", [first])
    assert Version.objects.get(pk=first.pk).is_deleted
    assert "1 version restored." in act(browser, "restore", [first])
    assert not Version.objects.get(pk=first.pk).is_deleted
    page = act(browser, "purge", [first])
    assert "1000\xa0bytes will be freed." in page
    assert "1 version deleted for good. 1000\xa0bytes freed." in page
    assert list(Version.objects.values_list("number", flat=True)) == [2]


def test_a_versions_page_shows_files_and_edits_words(browser, versions, store):
    page = reverse("admin:artifacts_version_change", args=[versions[0].pk])
    shown = text(browser.get(page))
    assert "w.bin" in shown and "1000\xa0bytes" in shown and "shared" in shown
    browser.post(page, {"description": "better", "tags": "x, y"})
    metadata = Version.objects.get(pk=versions[0].pk).metadata()
    assert (metadata.description, metadata.tags) == ("better", ["x", "y"])
    assert "better" in text(browser.get(page))  # in its history, too
    assert browser.post(page, {"description": "", "tags": "x" * 300}).status_code == 200


def test_a_versions_metadata_is_edited_and_its_history_kept(browser, versions):
    page = reverse("admin:artifacts_version_change", args=[versions[0].pk])

    def kept() -> Version:
        return Version.objects.get(pk=versions[0].pk)

    browser.post(page, {"description": "", "metadata": '{"准确率": 0.9, "deep": [1, null]}'})
    assert kept().metadata().metadata == {"准确率": 0.9, "deep": [1, None]}
    assert "&quot;准确率&quot;: 0.9" in text(browser.get(page))
    for wrong in ("[1]", "{", '{"a": NaN}', "null and void", "3"):
        answer = browser.post(page, {"description": "", "metadata": wrong})
        assert answer.status_code == 200 and "errorlist" in text(answer), wrong
    assert kept().metadata().metadata == {"准确率": 0.9, "deep": [1, None]}
    browser.post(page, {"description": "", "metadata": ""})
    assert kept().metadata().metadata == {}
    fields = [entry["field"] for entry in kept().kept_changes()["history"]]
    assert fields == ["metadata", "metadata"]


def test_aliases_are_set_moved_and_removed(browser, versions):
    artifact = Artifact.objects.get()
    page = reverse("admin:artifacts_artifact_change", args=[artifact.pk])
    for aliases, expected in (
        ("best=1", {"best": 1, "latest": 2}),
        ("best=v2, old=1", {"best": 2, "old": 1, "latest": 2}),
        ("", {"latest": 2}),
    ):
        browser.post(page, {"aliases": aliases})
        found = {a.name: a.version.number for a in artifact.aliases.all()}
        assert found == expected
    for wrong in ("best", "best=9", "v3=1", "latest=1", "=1"):
        assert "does not name a version" in text(browser.post(page, {"aliases": wrong}))


def test_contents_and_usages_are_listed(browser, versions, store):
    run = store.run()
    run.use_artifact("net:v1")
    run.finish()
    from runs.ingest.indexer import Indexer

    Indexer(store.root).catch_up()
    assert run.id in text(browser.get(reverse("admin:artifacts_usage_changelist")))
    assert "2.0\xa0KB" in text(browser.get(reverse("admin:artifacts_blob_changelist")))
    assert run.id in text(
        browser.get(reverse("admin:artifacts_version_change", args=[versions[0].pk]))
    )


def test_nothing_is_added_or_removed_by_hand(browser, versions):
    for name in ("artifact", "version", "blob", "usage"):
        assert browser.get(reverse(f"admin:artifacts_{name}_add")).status_code == 403
    assert (
        browser.get(
            reverse("admin:artifacts_artifact_delete", args=[versions[0].artifact_id])
        ).status_code
        == 403
    )
