"""Every snippet of the client's and the command line's documents, against a live server."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import runicorn as rn
from runicorn import cli
from tests import servers

from .conftest import Site, make_runs

pytestmark = pytest.mark.slow  # each starts programs

DOCS = servers.ROOT / "docs"
ADDRESS = "http://127.0.0.1:23300"
IDS = ("20260102_030405_0a1b2c", "20260102_040506_1b2c3d")
"""The runs that the command line's document speaks of."""


def blocks(name: str, language: str) -> list[str]:
    text = (DOCS / name).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", ["python-client", "cli"])
def test_both_languages_show_the_same(document: str) -> None:
    for language in ("python", "bash"):
        assert blocks(f"{document}.md", language) == blocks(f"{document}.zh.md", language)


def test_the_clients_snippets_run(site: Site, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = blocks("python-client.md", "python")
    assert len(snippets) > 10
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet.replace(ADDRESS, site.url), "snippet", "exec"), names)
    told = capsys.readouterr().out
    assert "vision 2" in told
    assert "loss 6 0.1" in told
    assert "Resource not found: /api/runs/20200101_000000_000000 Run not found" in told
    assert Path("net/weights.bin").stat().st_size == 300_000
    assert {path.name for path in tmp_path.iterdir()} >= {"vision.tar.gz", "metrics.csv"}


def test_the_command_lines_snippets_run(tmp_path: Path) -> None:
    root = tmp_path / "experiments"
    root.mkdir()
    make_runs(root)
    for run_id in IDS:
        with rn.Run("vision", root, run_id, "a", False, system_metrics=False) as run:
            run.log(loss=1)
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "runicorn"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m runicorn "$@"\n')
    program.chmod(0o755)
    env = servers.clean_environment() | {"HOME": str(tmp_path)}
    env |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": f"{programs}:{env['PATH']}"}
    lines = "".join(blocks("cli.md", "bash")).splitlines()
    shown = set()
    with servers.viewer(root) as viewer:
        for line in lines:
            words = shlex.split(line.replace(">", "#"), comments=True)
            if words[0] == "runicorn":
                cli._parser().parse_args(words[1:])
                shown.add(words[1])
            if words[:2] == ["runicorn", "viewer"]:
                continue  # it would serve until somebody stops it
            command = line.replace(ADDRESS, viewer.url)
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert {"config", "export", "import", "export-data", "manage", "rate-limit"} <= shown
    assert (tmp_path / "metrics.csv").read_text().startswith("# Runicorn Export")
    assert (tmp_path / ".local/share/bash-completion/completions/runicorn").stat().st_size > 1000
