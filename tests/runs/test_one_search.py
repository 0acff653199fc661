"""Words and questions mean the same at every door: V1, V2, the page and the admin."""

from __future__ import annotations

import re

import pytest

from runs import actions
from runs.models import Run


@pytest.fixture
def runs(root):
    """Three runs: one that is found by its notes, one by its tags, one by its names."""
    made = [root.run("vision", "resnet"), root.run("vision", "vit"), root.run("übung", "unet")]
    root.scan()
    noted, tagged = (Run.objects.get(run_id=run.id) for run in made[:2])
    actions.set_notes(noted, "the big model, 学习率", by=None)
    actions.set_tags(tagged, ["Baseline", "big batch"], by=None)
    return [run.id for run in made]


def v1(client, words: str) -> set[str]:
    answer = client.get("/api/experiments/search", {"text": words}).json()
    return {run["id"] for run in answer["experiments"]}


def v2(client, words: str) -> set[str]:
    answer = client.get("/api/v2/experiments", {"search": words}).json()
    return {run["id"] for run in answer["experiments"]}


def page(client, words: str) -> set[str]:
    return links(client.get("/", {"search": words}))


def admin(client, words: str) -> set[str]:
    listed = client.get("/admin/runs/run/", {"q": words}).context["cl"].result_list
    return {run.run_id for run in listed}


def links(response) -> set[str]:
    return set(re.findall(r'href="/runs/(\w+)"', response.content.decode()))


@pytest.mark.parametrize("door", [v1, v2, page, admin])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("big", [0, 1]),
        ("BASELINE", [1]),
        ("batch vit", [1]),
        ('"big model"', [0]),
        ('"big batch"', [1]),
        ("学习", [0]),
        ("ÜBUNG", [2]),
        ("vision", [0, 1]),
        ("vision nowhere", []),
        ("%", []),
        ("", [0, 1, 2]),
    ],
)
def test_the_same_words_find_the_same_runs(client, api, runs, door, words, expected):
    assert door(client, words) == {runs[index] for index in expected}


@pytest.mark.parametrize("door", [v1, v2, page, admin])
def test_what_is_found_follows_the_tags(client, api, runs, door):
    run = Run.objects.get(run_id=runs[1])
    actions.set_tags(run, ["学完"], by=None)
    assert door(client, "baseline") == set()
    assert door(client, "学完") == {run.run_id}
    actions.set_notes(run, "noted", by=None)
    assert door(client, "学完 noted") == {run.run_id}
    actions.set_tags(run, [], by=None)
    assert door(client, "学完") == set()


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ('tag = Baseline or project = "übung"', [1, 2]),
        ("experiment ~ RES", [0]),
        ("not project = vision", [2]),
    ],
)
def test_a_question_means_the_same_on_the_page(client, api, runs, question, expected):
    found = {runs[index] for index in expected}
    answer = client.get("/api/v2/experiments", {"q": question}).json()
    assert {run["id"] for run in answer["experiments"]} == found
    assert links(client.get("/", {"q": question})) == found
