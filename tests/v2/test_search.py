"""The V2 list's search for words: the same in SQLite's and PostgreSQL's index of trigrams."""

from __future__ import annotations

import random

import pytest

from runs import actions
from runs.models import Run

NOTES = {
    ("vision", "resnet"): 'the baseline run: 100%_ "a',
    ("vision", "vit"): "学习率减半",
    ("übung", "unet"): "STRASSE, 学完",
}


@pytest.fixture
def noted(root):
    runs = [root.run(*place) for place in NOTES]
    root.scan()
    for run, notes in zip(runs, NOTES.values(), strict=True):
        actions.set_notes(Run.objects.get(run_id=run.id), notes, by=None)
    return [run.id for run in runs]


def found(api, words: str) -> list[str]:
    response = api.client.get("/api/v2/experiments", {"search": words, "order_desc": "false"})
    assert response.status_code == 200, response.content
    answer = response.json()
    assert answer["total"] == len(answer["experiments"])
    return [run["id"] for run in answer["experiments"]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("resnet BASELINE", [0]),  # every word, in any order, wherever each stands
        ('"baseline run"', [0]),
        ('"run baseline"', []),
        ("学习率", [1]),
        ("学", [1, 2]),  # shorter than what the index is made of
        ("学习", [1]),
        ("减半", [1]),  # at the very end
        ("学完 习率", []),
        ("un 学完", [2]),
        ("学习 vit", [1]),
        ("ÜBUNG straße", [2]),
        ('100%_ "a', [0]),
        ("%%%", []),
        ("   ", [0, 1, 2]),
        ("\"'; --", []),
    ],
)
def test_words_are_found_in_any_script(api, noted, words, expected):
    assert found(api, words) == [noted[number] for number in expected]


def test_what_is_found_follows_what_is_kept(api, root, noted):
    run = Run.objects.get(run_id=noted[0])
    actions.set_notes(run, "later", by=None)
    assert found(api, "later") == found(api, "lat resnet") == [noted[0]]
    assert found(api, "baseline") == []
    (root.path / run.directory / "meta.json").write_text('{"project": "speech", "name": "wav"}')
    root.scan()
    assert found(api, "speech wav later") == [noted[0]]
    assert found(api, "resnet") == []
    actions.soft_delete_runs([Run.objects.get(pk=run.pk)], by=None)
    assert found(api, "later") == []
    actions.purge_runs([Run.objects.get(pk=run.pk)], by=None)
    assert found(api, "speech") == []


def test_a_word_of_most_runs_is_found_as_well(api, noted, monkeypatch):
    monkeypatch.setattr("runs.finding.fulltext.MANY", 2)  # in place of ten thousand runs
    monkeypatch.setattr("runs.finding.fulltext.FEW", 0)
    assert found(api, "vision") == noted[:2]
    assert found(api, "vision 学习率") == [noted[1]]


@pytest.mark.slow
def test_the_same_as_looking_into_every_text(api, root, monkeypatch):
    """Words of any length, in runs of which some are deleted."""
    dice = random.Random(0)
    texts = {}
    for _ in range(40):
        folder = root.run(name="e")
        texts[folder.id] = "".join(dice.choices("ab学习半 ", k=dice.randrange(9)))
    root.scan()
    deleted = set(dice.sample(sorted(texts), 8))
    for run in Run.objects.filter(run_id__in=texts):
        actions.set_notes(run, texts[run.run_id], by=None)
        if run.run_id in deleted:
            actions.soft_delete_runs([run], by=None)
    for few, many in ((500, 10_000), (0, 10_000), (0, 5)):
        monkeypatch.setattr("runs.finding.fulltext.FEW", few)
        monkeypatch.setattr("runs.finding.fulltext.MANY", many)
        for _ in range(150):
            words = ["".join(dice.choices("ab学习半", k=dice.randrange(1, 5))) for _ in "12"]
            asked = words[: dice.randrange(1, 3)]
            expected = [
                run_id
                for run_id, text in sorted(texts.items())
                if run_id not in deleted
                and all(word in f"{run_id}\ne\np\n{text}\n" for word in asked)
            ]
            assert found(api, " ".join(asked)) == expected, asked
