"""What the documents tell people to type works, and what they point at is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from runicorn import cli, layout
from tests import servers

ROOT = servers.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
PROMISES = ["docs/durability.md", "docs/durability.zh.md"]
TRANSLATIONS = [
    ("README.md", "README.zh.md"),
    ("docs/deployment.md", "docs/deployment.zh.md"),
    ("docs/durability.md", "docs/durability.zh.md"),
    ("docs/logging.md", "docs/logging.zh.md"),
    ("docs/remote.md", "docs/remote.zh.md"),
]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[list[str]]:
    """Every command of the bash blocks, without comments, in words."""
    lines = "".join(blocks(document, "bash")).splitlines()
    parts = [part for line in lines for part in line.split("&&")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_command_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = commands(document)
    assert found
    for program, *arguments in found:
        if program == "make":
            assert arguments[0] in targets
        elif program == "pip":
            extras = re.fullmatch(r"\.\[(.*)\]", arguments[1])
            assert arguments[0] == "install"
            assert extras
            assert set(extras[1].split(",")) <= EXTRAS.keys()
        elif program == "python":
            assert (ROOT / arguments[0]).is_file(), arguments[0]
        elif program == "runicorn":
            cli._parser().parse_args(arguments)  # exits with 2 if there is no such flag
        else:
            assert program == "pytest", program


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2))
def test_the_readmes_scripts_log_a_run(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", blocks("README.md", "python")[number]]
    subprocess.run(command, cwd=tmp_path, env=servers.clean_environment(), check=True)
    [(directory, _)] = layout.iter_run_dirs(tmp_path / ".runicorn")
    run_dir = tmp_path / ".runicorn" / directory
    assert layout.read_json(run_dir / layout.STATUS)["status"] == "finished"
    assert (run_dir / layout.EVENTS).stat().st_size


@pytest.mark.parametrize(("original", "translation"), TRANSLATIONS)
def test_a_translation_says_the_same_to_type(original: str, translation: str) -> None:
    for language in ("bash", "python"):
        assert blocks(translation, language) == blocks(original, language)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_deployment_names_every_variable_that_the_settings_read() -> None:
    read = set()
    for path in (ROOT / "settings" / "team.py", ROOT / "settings" / "env.py"):
        read |= set(re.findall(r'env_\w+\("(RUNICORN_\w+)"', path.read_text()))
    example = (ROOT / "deploy" / "runicorn.env").read_text()
    assert {name for name in read if name not in example} == set()


def test_the_changelog_begins_with_this_version() -> None:
    [first, *_] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first == cli.__version__


def test_the_lock_holds_what_the_project_asks_for() -> None:
    lock = (ROOT / "requirements" / "team.lock").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==([^ ]+)", lock, re.MULTILINE))
    assert "runicorn[client]" in EXTRAS["viewer"]  # the first example of the API's documents
    extras = (*EXTRAS["client"], *EXTRAS["viewer"], *EXTRAS["team"])
    for line in [*PROJECT["dependencies"], *extras]:
        wanted = Requirement(line)
        if wanted.name != "runicorn":
            assert wanted.specifier.contains(pinned[wanted.name]), line
    assert "file:" not in lock


@pytest.mark.parametrize("document", PROMISES)
def test_every_promise_names_tests_that_exist(document: str) -> None:
    rows = re.findall(r"^\| (.*) \| (.*) \|$", (ROOT / document).read_text(), re.MULTILINE)
    promises = [row for row in rows if "::" in row[1]]
    assert len(promises) > 20
    for promise, proofs in promises:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", proofs)
        assert named, promise
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


def test_both_languages_promise_the_same() -> None:
    english, chinese = (re.findall(r"`[\w/]+\.py::\w+`", (ROOT / d).read_text()) for d in PROMISES)
    assert english == chinese
