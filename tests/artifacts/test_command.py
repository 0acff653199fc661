"""``runicorn artifacts`` on a storage folder, with no server."""

from __future__ import annotations

import io

import pytest

from runicorn import cli
from runicorn.artifacts import LineageTracker

V04 = ("list", "versions", "info", "delete", "stats")


@pytest.fixture
def run(store, capsys, monkeypatch):
    def command(action: str, *arguments: str, answer: str = "y") -> tuple[int, str]:
        monkeypatch.setattr("builtins.input", lambda question: print(question) or answer)
        chosen = ["--action", action] if action in V04 else [action]
        code = cli.main(["artifacts", "--storage", str(store.root), *chosen, *arguments])
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
    assert run("alias", "set", "net", "best", "v1") == (0, "✅ net:best is v1\n")
    assert run("tag", "net", "best", "a", "b") == (0, "✅ Tags of net:v1: a, b\n")
    code, text = run("info", "--name", "net", "--version", "1")
    assert code == 0 and "Artifact: net:v1" in text and "Status: ready" in text
    assert "Aliases: best, latest" in text and "Tags: a, b" in text
    assert "Files (12):" in text and "  f0 (0.0 KB)" in text and "  ... and 2 more files" in text
    assert run("info", "--name", "net", "--version", "7") == (
        1,
        "Error: Version not found: net:v7\n",
    )


def test_a_version_with_unreadable_metadata_is_shown(run, store):
    store.save(a=b"x" * 2**20)
    (store.folder() / "v1/metadata.json").write_text("{")
    code, text = run("info", "--name", "net", "--version", "1")
    assert code == 0 and "Status: corrupted" in text and "1.00 MB" in text
    graph = LineageTracker(store.root).build_lineage_graph("net", "model", 1)
    assert [node.metadata["size"] for node in graph.nodes] == [2**20]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["versions"], "--name is required for 'versions' action"),
        (["info", "--name", "x"], "--name and --version are required for 'info' action"),
        (["delete"], "--name and --version are required for 'delete' action"),
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
    assert run("restore", "net", "1")[0] == 0
    assert "Status: ready" in run("info", *chosen)[1]
    assert "✅ Permanently deleted net:v1" in run("delete", *chosen, "--permanent")[1]
    assert run("delete", *chosen)[0] == 1


def test_damage_is_found(run, store):
    store.save()
    assert run("verify") == (0, "✅ 1 version(s) verified\n")
    (store.folder() / "v1/files/w.bin").unlink()
    code, text = run("verify", "net")
    assert code == 1 and "net:v1: w.bin: missing" in text


def test_statistics_and_cleaning_up(run, store):
    store.save()
    assert "Total Artifacts: 1" in run("stats")[1] and "By Type:" in run("stats")[1]
    run("delete", "--name", "net", "--version", "1", "--permanent")
    assert run("gc") == (0, "✅ Removed 0 content(s), 0.00 MB freed\n")
    assert run("alias", "remove", "net", "x") == (1, "Error: Alias not found: x\n")


def test_verbs_work_on_a_folder_and_on_a_server_alike(site, tmp_path, capsys):
    def run(*arguments: str) -> tuple[int, str]:
        code = cli.main(["artifacts", *arguments])
        return code, capsys.readouterr().out

    (tmp_path / "w.bin").write_bytes(b"weights")
    on_server = ("--server", site.url)
    made = run("upload", "cli", str(tmp_path / "w.bin"), "--type", "dataset", *on_server)
    assert made == (0, "✅ Uploaded cli:v1\n")
    assert run("upload", "cli-net", str(tmp_path / "w.bin"), *on_server)[0] == 0  # another type
    for where in (on_server, ("--storage", str(site.storage.root))):
        assert run("alias", "set", "cli", "best", "1", *where) == (0, "✅ cli:best is v1\n")
        assert run("tag", "cli", "best", "x,y", *where)[1] == "✅ Tags of cli:v1: x, y\n"
        assert run(*where, "verify", "cli") == (0, "✅ 1 version(s) verified\n")
        assert run("verify", "cli", "best", *where)[0] == 0
        assert run("verify", "other", *where)[0] == 1
        folder = tmp_path / f"got{where[0]}"
        assert run("download", "cli", "best", str(folder), *where)[0] == 0
        assert (folder / "w.bin").read_bytes() == b"weights"
        assert run("alias", "remove", "cli", "best", *where)[0] == 0
        assert run("alias", "remove", "cli", "best", *where)[0] == 1
        assert run("alias", "set", "cli", "latest", "1", *where)[0] == 1
        site.storage.soft_delete(site.storage.find("cli"), 1)
        assert run("restore", "cli", "1", *where) == (0, "✅ Restored cli:v1\n")
        assert run("gc", *where)[0] == 0
    assert run("upload", "cli", str(tmp_path / "w.bin"))[0] == 1
    for asked in (
        "list",
        "versions --name cli",
        "info --name cli --version 1",
        "info --name cli --version 9",
        "info --name other --version 1",
        "stats",
    ):
        here, there = (run("--action", *asked.split(), *place) for place in (where, on_server))
        assert here == there
    for asked in (
        "verify cli v9",
        "verify other",
        "alias set cli best v9",
        "alias set cli best nobody",
        "alias remove cli nobody",
        "alias set cli latest v1",
        "tag other v1 x",
        "restore cli v9",
        "download cli v9 never",
    ):
        here, there = (run(*asked.split(), *place) for place in (where, on_server))
        assert here == there and here[0] == 1 and here[1].startswith("Error: ")


def test_a_token_may_come_from_a_file_or_the_input(site, tmp_path, capsys, monkeypatch):
    listing = ["artifacts", "--action", "list", "--server", site.url]
    (tmp_path / "token").write_text("secret\n")
    assert cli.main([*listing, "--token-file", str(tmp_path / "token")]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert cli.main([*listing, "--token-file", "-"]) == 0
    for missing in ("", "nowhere"):
        (tmp_path / "empty").write_text("")
        with pytest.raises(SystemExit) as stopped:
            cli.main([*listing, "--token-file", str(tmp_path / (missing or "empty"))])
        assert stopped.value.code == 1
    with pytest.raises(SystemExit) as stopped:
        cli.main(["rate-limit", "--server", site.url])
    assert stopped.value.code == 2
    assert "limits are set on the machine of the server" in capsys.readouterr().err


def test_nothing_to_do_is_a_wrong_argument(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["artifacts"])
    assert stopped.value.code == 2
