"""``runicorn artifacts`` on a storage folder, with no server."""

from __future__ import annotations

import pytest

from runicorn import cli


@pytest.fixture
def run(store, capsys, monkeypatch):
    def command(action: str, *arguments: str, answer: str = "y") -> tuple[int, str]:
        monkeypatch.setattr("builtins.input", lambda question: print(question) or answer)
        code = cli.main(["artifacts", "--storage", str(store.root), "--action", action, *arguments])
        return code, capsys.readouterr().out

    return command


def test_nothing_is_said_to_be_nothing(run):
    assert run("list") == (0, "No artifacts found.\n")
    assert run("versions", "--name", "x") == (1, "Error: Artifact not found: x\n")


def test_artifacts_and_versions_are_listed(run, store):
    store.save(run="20260102_030405_0a1b2c")
    store.save("data", "dataset", a=b"x" * 3 * 2**20)
    _, text = run("list")
    assert text.startswith("Found 2 artifact(s):\n\nName                           Type       Ver")
    assert "-" * 85 in text
    row = "data                           dataset    1                3.00 MB   v1"
    assert row in text
    assert "Found 1" in run("list", "--type", "model")[1]
    _, text = run("versions", "--name", "net")
    assert "20260102_030405_0a1b..." in text and "v1 " in text


def test_a_version_is_shown(run, store):
    store.save(**{f"f{n}": b"x" for n in range(12)})
    run("alias-set", "--name", "net", "--version", "1", "--alias", "best")
    run("tag", "--name", "net", "--version", "1", "--tags", "a,b")
    code, text = run("info", "--name", "net", "--version", "1")
    assert code == 0 and "Artifact: net:v1" in text and "Status: ready" in text
    assert "Aliases: best, latest" in text and "Tags: a, b" in text
    assert "Files (12):" in text and "  f0 (0.0 KB)" in text and "  ... and 2 more files" in text
    assert run("info", "--name", "net", "--version", "7") == (
        1,
        "Error: Version not found: net:v7\n",
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["versions"], "--name is required for 'versions' action"),
        (["info", "--name", "x"], "--name and --version are required for 'info' action"),
        (["delete"], "--name and --version are required for 'delete' action"),
        (["alias-set"], "--name, --version and --alias are required for 'alias-set' action"),
    ],
)
def test_what_is_missing_is_named(run, arguments, error):
    assert run(*arguments) == (1, f"Error: {error}\n")


def test_deleting_asks_first(run, store):
    store.save()
    chosen = ("--name", "net", "--version", "1")
    assert run("delete", *chosen, answer="n") == (0, "Delete net:v1? [y/N] \nCancelled.\n")
    assert run("delete", *chosen)[1].endswith("✅ Soft deleted net:v1\n")
    assert "Status: deleted" in run("info", *chosen)[1]
    assert run("restore", *chosen)[0] == 0
    assert "Status: ready" in run("info", *chosen)[1]
    assert "✅ Permanently deleted net:v1" in run("delete", *chosen, "--permanent")[1]
    assert run("delete", *chosen)[0] == 1


def test_damage_is_found(run, store):
    store.save()
    assert run("verify") == (0, "✅ 1 version(s) verified\n")
    (store.folder() / "v1/files/w.bin").unlink()
    code, text = run("verify", "--name", "net")
    assert code == 1 and "net:v1: w.bin: missing" in text


def test_statistics_and_cleaning_up(run, store):
    store.save()
    assert "Total Artifacts: 1" in run("stats")[1] and "By Type:" in run("stats")[1]
    run("delete", "--name", "net", "--version", "1", "--permanent")
    assert run("gc") == (0, "✅ Removed 0 content(s), 0.00 MB freed\n")
    run("alias-remove", "--name", "net", "--alias", "x")
