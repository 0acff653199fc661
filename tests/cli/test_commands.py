"""The command line as it is typed: output, exit codes, files."""

from __future__ import annotations

import getpass
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runicorn as rn
from runicorn import cli
from tests import servers

pytestmark = pytest.mark.slow  # each starts programs

Runicorn = Callable[..., "Done"]


class Done:
    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code, self.raw = done.returncode, done.stdout
        self.out, self.err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in self.err, self.err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def runicorn(tmp_path: Path) -> Runicorn:
    """Types a command in an empty folder of a user without any configuration."""

    def type(*arguments: object, answer: str = "", **env: str) -> Done:
        command = [sys.executable, "-m", "runicorn", *map(str, arguments)]
        home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}
        env = servers.clean_environment() | home | env
        return Done(
            subprocess.run(
                command, cwd=tmp_path, env=env, input=answer.encode(), capture_output=True
            )
        )

    return type


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs in the storage folder that is taken without being told."""
    root = tmp_path / ".runicorn"
    for project in ("nlp", "vision"):
        with rn.Run(project, root, name="e", capture_env=False, system_metrics=False) as run:
            for step in range(1, 4):
                run.log(loss=1 / step, step=step)
    return root


def run_id(root: Path, project: str = "vision") -> str:
    [folder] = (root / project / "e" / "runs").iterdir()
    return folder.name


# -- in general --------------------------------------------------------------------------------


def test_version_help_and_wrong_arguments(runicorn: Runicorn) -> None:
    assert runicorn("--version").out == f"runicorn {cli.__version__}\n"
    told = runicorn("--help")
    assert told.code == 0
    for command in ("viewer", "config", "export", "import", "export-data", "manage", "rate-limit"):
        assert f"    {command} " in told.out
        explained = runicorn(command, "--help")
        assert explained.code == 0
        assert "examples:\n  runicorn " in explained.out
    for wrong in ((), ("fly",), ("export", "--nonsense"), ("manage",), ("import",)):
        told = runicorn(*wrong)
        assert (told.code, told.out) == (2, "")
        assert told.err.startswith("usage: runicorn")


def test_every_example_of_the_help_can_be_parsed(runicorn: Runicorn) -> None:
    parser = cli._parser()
    found = 0
    for command in cli.COMMANDS:
        name = command.__name__.rpartition(".")[2].strip("_").replace("_", "-")
        told = runicorn(name, "--help").out
        for line in re.findall(r"^  runicorn (.*?)(?: >.*)?$", told, re.MULTILINE):
            parser.parse_args(line.split())
            found += 1
    assert found > 15


def test_both_spellings_of_the_module_work(tmp_path: Path) -> None:
    for module in ("runicorn", "runicorn.cli"):
        command = [sys.executable, "-m", module, "--version"]
        assert subprocess.run(command, capture_output=True).returncode == 0


def test_starting_loads_nothing_heavy() -> None:
    heavy = {"django", "numpy", "httpx", "psutil", "asyncio", "runicorn.export", "tarfile"}
    code = f"import sys; from runicorn import cli; cli._parser(); print({heavy} & set(sys.modules))"
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_colours_are_for_terminals(runicorn: Runicorn, tmp_path: Path) -> None:
    assert "\033" not in runicorn("import", "--archive", "none").out

    def at_a_terminal(**env: str) -> bytes:
        main, terminal = pty.openpty()
        command = [sys.executable, "-m", "runicorn", "import", "--archive", "none"]
        env = servers.clean_environment() | {"TERM": "xterm"} | env
        subprocess.run(command, cwd=tmp_path, env=env, stdout=terminal)
        os.close(terminal)
        try:
            return os.read(main, 1000)
        finally:
            os.close(main)

    assert at_a_terminal() == b"\033[31mArchive not found: none\033[0m\r\n"
    assert at_a_terminal(NO_COLOR="1") == b"Archive not found: none\r\n"


def typed(tmp_path: Path, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """A command that is still running, as at a terminal."""
    env = servers.clean_environment() | {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "runicorn", *map(str, arguments)]
    return subprocess.Popen(command, cwd=tmp_path, env=env, **options)


def test_long_work_shows_how_far_it_is_at_a_terminal(root: Path, tmp_path: Path) -> None:
    def at_terminal(*arguments: object) -> str:
        ours, theirs = pty.openpty()
        with typed(tmp_path, *arguments, stdout=subprocess.DEVNULL, stderr=theirs) as process:
            os.close(theirs)
            shown = b""
            try:
                while piece := os.read(ours, 4096):
                    shown += piece
            except OSError:  # Linux says so when the other end is closed
                pass
            os.close(ours)
        assert process.returncode == 0
        return shown.decode()

    assert at_terminal("export", "--out", "a.tar.gz").startswith("\rExporting ")
    shown = at_terminal("import", "--archive", "a.tar.gz", "--storage", "other")
    assert re.match(r"\rImporting \[[#.]{30}\] +\d+% of 0\.\d MB", shown)
    assert shown.endswith("\r\x1b[K")  # and nothing of it stays


def test_an_interrupted_command_says_so(root: Path, tmp_path: Path) -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with typed(tmp_path, "rate-limit", "--action", "reset", **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        question = b""
        while not question.endswith(b"[y/N] "):
            question += process.stdout.read(1)
        servers.wait_until(lambda: interrupt(process), "it ends")
        assert process.stderr.read() == b"Interrupted.\n"
    assert process.returncode == 130


def interrupt(process: subprocess.Popen[bytes]) -> bool:
    """Ctrl-C, whether that ends it. One that comes just before it begins to wait is not seen."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_a_terminal_without_check_marks_is_no_error(runicorn: Runicorn) -> None:
    done = runicorn("rate-limit", "--action", "validate", PYTHONIOENCODING="ascii")
    assert (done.code, done.out) == (0, "? Configuration is valid\n")


def test_completion_for_shells(runicorn: Runicorn) -> None:
    for shell in ("bash", "zsh", "tcsh"):
        done = runicorn("completion", shell)
        assert done.code == 0
        assert "export-data" in done.out
    script = runicorn("completion", "bash").out
    check = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert check.stderr == ""


# -- config ------------------------------------------------------------------------------------


def test_config(runicorn: Runicorn, tmp_path: Path) -> None:
    file = tmp_path / "config/runicorn/config.json"
    shown = runicorn("config").lines
    assert shown[:3] == [
        "Runicorn user config:",
        f"  File          : {file}",
        "  user_root_dir : (not set)",
    ]
    assert "--set-user-root" in shown[4]
    done = runicorn("config", "--set-user-root", "data")
    assert (done.code, done.out) == (0, f"Set user_root_dir to: {tmp_path / 'data'}\n")
    assert (tmp_path / "data").is_dir()
    both = runicorn("config", "--set-user-root", "more", "--show").lines
    assert both[0] == f"Set user_root_dir to: {tmp_path / 'more'}"
    assert both[3] == f"  user_root_dir : {tmp_path / 'more'}"
    told = json.loads(runicorn("config", "--json").out)
    assert told == {"config_file": str(file), "user_root_dir": str(tmp_path / "more")}
    (tmp_path / "file").write_text("")
    assert runicorn("config", "--set-user-root", "file/x").code == 1


# -- export, import ----------------------------------------------------------------------------


def test_export_and_import(runicorn: Runicorn, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "a.tar.gz"
    done = runicorn("export", "--project", "vision", "--out", "deep/a.tar.gz")
    assert (done.code, done.lines) == (0, [f"Exporting 1 run(s) to {out} ...", "Done."])
    assert list(out.parent.iterdir()) == [out]
    with tarfile.open(out) as archive:
        assert f"vision/e/runs/{run_id(root)}/events.jsonl" in archive.getnames()

    there = tmp_path / "there"
    dry = runicorn("import", "--archive", out, "--storage", there, "--dry-run")
    assert dry.lines[0].startswith("Would import ")
    assert not (there / "vision").exists()
    done = runicorn("import", "--archive", out, "--storage", there)
    assert done.code == 0
    assert re.fullmatch(r"Imported [1-9]\d* files into .*/there", done.lines[0])
    told = json.loads(runicorn("import", "--archive", out, "--storage", there, "--json").out)
    assert told["unchanged"] == [f"vision/e/runs/{run_id(root)}"]
    again = runicorn("export", "--storage", there, "--out", "b.tar.gz")
    assert again.code == 0
    assert (tmp_path / "b.tar.gz").read_bytes() == out.read_bytes()


def test_export_chooses(runicorn: Runicorn, root: Path, tmp_path: Path) -> None:
    nothing = "No runs matched the given filters. Nothing to export.\n"
    for wrong in (("--project", "x"), ("--name", "x"), ("--run-id", "x")):
        done = runicorn("export", *wrong)
        assert (done.code, done.out) == (0, nothing)
    done = runicorn("export", "--json", "--run-id", run_id(root), "--run-id", run_id(root, "nlp"))
    told = json.loads(done.out)
    assert len(told["runs"]) == 2
    assert re.fullmatch(r"runicorn_export_\d+\.tar\.gz", Path(told["archive"]).name)
    assert Path(told["archive"]).stat().st_size == told["size_bytes"]
    (tmp_path / "file").write_text("")
    done = runicorn("export", "--out", "file/x.tar.gz")
    assert (done.code, done.lines[-1].startswith("Export failed: ")) == (1, True)


def test_import_says_what_is_wrong(runicorn: Runicorn, tmp_path: Path) -> None:
    done = runicorn("import", "--archive", "none.zip")
    assert (done.code, done.out) == (1, "Archive not found: none.zip\n")
    (tmp_path / "bad.tar.gz").write_bytes(b"\x1f\x8bnothing")
    done = runicorn("import", "--archive", "bad.tar.gz")
    assert (done.code, done.out.startswith("Import failed: ")) == (1, True)


def test_export_data(runicorn: Runicorn, root: Path, tmp_path: Path) -> None:
    run = run_id(root)
    done = runicorn("export-data", "--run-id", run)
    assert done.code == 0
    assert done.raw.count(b"\r\n") == 4
    done = runicorn("export-data", "--run-id", run, "--output", "m.csv")
    assert (done.code, done.out) == (0, "Exported to m.csv\n")
    assert (tmp_path / "m.csv").read_bytes().count(b"\r\n") == 4
    for format, name, told in [
        ("excel", f"{run}_metrics.xlsx", "Exported to"),
        ("markdown", f"{run}_report.markdown", "Report generated:"),
        ("html", f"{run}_report.html", "Report generated:"),
        ("pdf", f"{run}_report.pdf", "Report generated:"),
        ("parquet", f"{run}_metrics.parquet", "Exported to"),
        ("tensorboard", f"{run}_tensorboard", "Exported to"),
    ]:
        done = runicorn("export-data", "--run-id", run, "--format", format)
        assert (done.code, done.out) == (0, f"{told} {name}\n")
        assert (tmp_path / name).exists()


def test_export_data_fails_aloud(runicorn: Runicorn, root: Path, tmp_path: Path) -> None:
    done = runicorn("export-data", "--run-id", "x")
    assert (done.code, done.out) == (1, "Run x not found\n")
    done = runicorn("export-data", "--run-id", "x", "--storage", "nowhere")
    assert (done.code, done.out) == (1, "Run x not found\n")
    (root / "vision/e/runs" / run_id(root) / "events.jsonl").write_text("")
    for format in ("csv", "excel"):
        done = runicorn("export-data", "--run-id", run_id(root), "--format", format)
        assert (done.code, done.out) == (1, "Export failed: the run has logged no metrics\n")
    done = runicorn("export-data", "--run-id", run_id(root, "nlp"), "--output", "no/such/m.csv")
    assert (done.code, done.out.startswith("Export failed: ")) == (1, True)


# -- manage ------------------------------------------------------------------------------------


def test_manage(runicorn: Runicorn, root: Path) -> None:
    run = run_id(root)
    done = runicorn("manage", "--action", "tag", "--run-id", run, "--tags", "b, a")
    assert (done.code, done.out) == (0, f"Tagged {run}: True\n")
    assert runicorn("manage", "--action", "tag", "--run-id", "x").out == "Tagged x: False\n"
    done = runicorn("manage", "--action", "search", "--text", "VISION")
    assert done.lines == ["Found 1 experiments:", f"  - {run}: vision/e [b, a]"]
    told = json.loads(runicorn("manage", "--action", "search", "--tags", "a", "--json").out)
    assert [record["id"] for record in told] == [run]
    done = runicorn("manage", "--action", "cleanup", "--dry-run")
    assert (done.code, done.out) == (0, "Would delete 0 old experiments:\n")
    done = runicorn("manage", "--action", "cleanup", "--days", "-1", "--dry-run")
    assert done.lines[0] == "Would delete 2 old experiments:"
    done = runicorn("manage", "--action", "delete", "--run-id", run)
    assert (done.code, done.out) == (0, f"Deleted: {{'{run}': True}}\n")
    marker = json.loads((root / "vision/e/runs" / run / ".deleted").read_text())
    assert marker["deleted_by"] == getpass.getuser()
    done = runicorn("manage", "--action", "cleanup", "--days", "-1")
    assert done.out == "Deleted 1 old experiments\n"
    assert [path.name for path in (root / "vision/e/runs").iterdir()] == [run]
    for action, answer in (
        ("delete", "Deleted: {RUN: False}"),  # it is in the bin already
        ("restore", "Restored: {RUN: True}"),
        ("restore", "Restored: {RUN: False}"),
        ("purge", "Purged: {RUN: False}"),
        ("delete", "Deleted: {RUN: True}"),
        ("purge", "Purged: {RUN: True}"),
        ("purge", "Purged: {RUN: False}"),
        ("restore", "Restored: {RUN: False}"),
    ):
        done = runicorn("manage", "--action", action, "--run-id", run)
        assert (done.code, done.out) == (0, answer.replace("RUN", repr(run)) + "\n"), action
    assert list((root / "vision/e/runs").iterdir()) == []


def test_a_run_is_moved(runicorn: Runicorn, root: Path) -> None:
    run = run_id(root)
    move = ("manage", "--action", "move", "--run-id", run)
    done = runicorn(*move, "--project", "speech", "--name", "b")
    assert (done.code, done.out) == (0, f"Moved {run} to speech/b/runs/{run}\n")
    done = runicorn("manage", "--action", "search", "--project", "speech")
    assert done.lines[1:] == [f"  - {run}: speech/b []"]
    done = runicorn(*move, "--project", "../x", "--name", "b")
    assert (done.code, done.out.startswith("Management failed: Invalid project")) == (1, True)
    assert runicorn(*move, "--project", "p").code == 1


def test_a_copied_run_is_named_by_its_folder(runicorn: Runicorn, root: Path) -> None:
    run = run_id(root)
    shutil.copytree(root / "vision/e/runs" / run, root / "vision/copy/runs" / run)
    for action in ("tag", "note", "delete", "restore", "purge"):
        manage = ("manage", "--action", action, "--run-id", run, "--notes", "n", "--tags", "t")
        done = runicorn(*manage)
        assert done.code == 1
        assert f"vision/copy/runs/{run} or vision/e/runs/{run}" in done.out
    done = runicorn("manage", "--action", "search", "--project", "vision")
    assert sorted(done.lines[1:]) == [f"  - {run}: vision/e []"] * 2  # as meta.json says
    copy = ("--run-id", run, "--dir", f"vision/copy/runs/{run}")
    assert runicorn("manage", "--action", "delete", *copy).out == f"Deleted: {{{run!r}: True}}\n"
    assert not (root / "vision/e/runs" / run / ".deleted").exists()
    assert runicorn("manage", "--action", "purge", *copy).out == f"Purged: {{{run!r}: True}}\n"
    assert (root / "vision/e/runs" / run / "meta.json").exists()


def test_a_run_is_noted(runicorn: Runicorn, root: Path) -> None:
    note = ("manage", "--action", "note", "--run-id")
    done = runicorn(*note, run_id(root), "--notes", "the one")
    assert (done.code, done.out) == (0, f"Noted {run_id(root)}: True\n")
    assert runicorn(*note, "x", "--notes", "y").out == "Noted x: False\n"
    done = runicorn("manage", "--action", "search", "--text", "THE ONE")
    assert done.lines[0] == "Found 1 experiments:"
    done = runicorn(*note, run_id(root))
    assert (done.code, done.out) == (1, "--run-id and --notes are required for noting\n")


def test_manage_asks_for_what_it_needs(runicorn: Runicorn, root: Path) -> None:
    done = runicorn("manage", "--action", "tag")
    assert (done.code, done.out) == (1, "--run-id is required for tagging\n")
    done = runicorn("manage", "--action", "delete")
    assert (done.code, done.out) == (1, "--run-id is required for deletion\n")
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    done = runicorn("manage", "--action", "search", "--server", nobody)
    assert (done.code, done.out.startswith("Management failed: ")) == (1, True)


# -- rate-limit --------------------------------------------------------------------------------


def test_rate_limits(runicorn: Runicorn, tmp_path: Path) -> None:
    def limit(*arguments: object, **options: str) -> tuple[int, list[str]]:
        done = runicorn("rate-limit", *arguments, **options)
        return done.code, done.lines

    shown = json.loads(runicorn("rate-limit").out)
    assert shown["default"]["max_requests"] == 60
    default = ["Default:", "  60/60s", ""]
    none = "No endpoint-specific limits configured."
    assert limit("--action", "list") == (0, [*default, none])
    set_it = ("--action", "set", "--endpoint", "/api/runs", "--max-requests", 9, "--window", 3)
    assert limit(*set_it, "--burst", 2, "--description", "few") == (
        0,
        ["✓ Updated rate limit for /api/runs", "  Max Requests: 9/3s", "  Burst Size: 2"],
    )
    listed = ["Endpoints:", "  /api/runs: 9/3s (burst: 2) - few"]
    assert limit("--action", "list") == (0, [*default, *listed])
    values = ["  Max Requests: 9", "  Window: 3s", "  Burst Size: 2", "  Description: few"]
    get = ("--action", "get", "--endpoint")
    assert limit(*get, "/api/runs") == (0, ["Endpoint: /api/runs", *values])
    assert limit(*get, "/x") == (
        0,
        [
            "Endpoint: /x (using default)",
            "  Max Requests: 60",
            "  Window: 60s",
            "  Burst Size: None",
        ],
    )
    remove = ("--action", "remove", "--endpoint", "/api/runs")
    assert limit(*remove) == (0, ["✓ Removed rate limit for /api/runs"])
    assert limit(*remove) == (0, ["⚠ No specific rate limit found for /api/runs"])
    for action, needed in [
        ("get", "--endpoint is required for 'get' action"),
        ("set", "--endpoint and --max-requests are required for 'set' action"),
        ("remove", "--endpoint is required for 'remove' action"),
    ]:
        assert limit("--action", action) == (1, [f"Error: {needed}"])
    assert limit("--action", "settings", "--disable", "--whitelist-localhost") == (
        0,
        [
            "✓ Updated settings:",
            "  Rate Limiting: Disabled",
            "  Log Violations: Yes",
            "  Whitelist Localhost: Yes",
        ],
    )
    both = limit("--action", "settings", "--enable", "--disable")[1]
    assert both[1] == "  Rate Limiting: Enabled"
    limit(*set_it)
    assert limit("--action", "reset")[1][-1].endswith("Cancelled.")
    code, told = limit("--action", "reset", answer="y\n")
    assert (code, told[-1].endswith("✓ Reset to default configuration")) == (0, True)
    assert limit("--action", "list") == (0, [*default, none])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "Configuration must be a dictionary"),
        ({"default": {"max_requests": "x"}}, "max_requests must be an integer"),
        ({"endpoints": {"/a": {"window_seconds": 0}}}, "/a: window_seconds must be positive"),
        ({"endpoints": {"a": {}}}, "Endpoint 'a' must start with /"),
        ({"endpoints": []}, "endpoints must be a dictionary"),
        ({"endpoints": {"/a": {"max_requests": 5}}}, None),
    ],
)
def test_rate_limits_are_validated(runicorn, tmp_path: Path, content, reason) -> None:
    file = tmp_path / "config/runicorn/rate_limits.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    done = runicorn("rate-limit", "--action", "validate")
    expected = f"✗ Configuration error: {reason}" if reason else "✓ Configuration is valid"
    assert (done.code, done.lines) == (1 if reason else 0, [expected])


# -- against a server --------------------------------------------------------------------------


@pytest.fixture
def server(root: Path) -> Iterator[str]:
    with servers.viewer(root) as viewer:
        yield viewer.url


def test_commands_act_on_a_server(runicorn, root: Path, server: str, tmp_path: Path) -> None:
    run, at = run_id(root), ("--server", server)
    done = runicorn("config", *at)
    assert (done.code, done.lines[0]) == (0, "Runicorn user config:")
    done = runicorn("export", "--project", "vision", "--out", "a.tar.gz", *at)
    assert (done.code, done.out) == (0, f"Exported to {tmp_path / 'a.tar.gz'}\n")
    done = runicorn("export", "--project", "nobody", *at)
    assert (done.code, done.lines[0]) == (
        0,
        "No runs matched the given filters. Nothing to export.",
    )
    assert runicorn("export", *at).code == 1
    done = runicorn("import", "--archive", "a.tar.gz", *at)
    assert (done.code, done.lines[0]) == (0, f"Imported 0 files into {root}")
    done = runicorn("import", "--archive", runicorn_file(tmp_path), *at)
    assert (done.code, done.out.startswith("Import failed: ")) == (1, True)
    done = runicorn("export-data", "--run-id", run, *at)
    assert (done.code, done.raw.count(b"\r\n")) == (0, 4)
    done = runicorn("export-data", "--run-id", run, "--format", "html", *at)
    assert (done.code, done.out) == (0, f"Report generated: {run}_report.html\n")
    done = runicorn("export-data", "--run-id", "x", *at)
    assert (done.code, done.out) == (1, "Run x not found\n")
    done = runicorn("manage", "--action", "tag", "--run-id", run, "--tags", "t", *at)
    assert (done.code, done.out) == (0, f"Tagged {run}: True\n")
    done = runicorn("manage", "--action", "search", "--tags", "t", *at)
    assert done.lines == ["Found 1 experiments:", f"  - {run}: vision/e [t]"]
    for known, answer in ((run, "True"), ("x", "False")):
        done = runicorn("manage", "--action", "note", "--run-id", known, "--notes", "one", *at)
        assert (done.code, done.out) == (0, f"Noted {known}: {answer}\n")
    cleanup = ("manage", "--action", "cleanup", "--days", 0, *at)
    done = runicorn(*cleanup, "--dry-run")
    nlp = run_id(root, "nlp")
    assert done.lines == ["Would delete 2 old experiments:", f"  - {nlp}", f"  - {run}"]
    rn.ExperimentManager(root).pin_experiment(run)
    servers.wait_until(
        lambda: runicorn(*cleanup, "--dry-run", "--json").lines == ["[", f'  "{nlp}"', "]"],
        "the pinned one is left out",
    )
    assert runicorn(*cleanup).out == "Deleted 1 old experiments\n"
    assert list((root / "nlp/e/runs").iterdir()) == []
    rn.ExperimentManager(root).pin_experiment(run, False)
    done = runicorn("manage", "--action", "delete", "--run-id", run, *at)
    assert done.out == f"Deleted: {{'{run}': True}}\n"
    assert (root / "vision/e/runs" / run / ".deleted").exists()
    done = runicorn("manage", "--action", "restore", "--run-id", run, *at)
    assert done.out == f"Restored: {{'{run}': True}}\n"
    done = runicorn("manage", "--action", "purge", "--run-id", run, *at)
    assert done.out == f"Purged: {{'{run}': False}}\n"
    assert runicorn("manage", "--action", "delete", "--run-id", run, *at).code == 0
    done = runicorn("manage", "--action", "purge", "--run-id", run, *at)
    assert done.out == f"Purged: {{'{run}': True}}\n"
    assert not (root / "vision/e/runs" / run).exists()


def runicorn_file(folder: Path) -> Path:
    path = folder / "bad.zip"
    path.write_bytes(b"no archive")
    return path


def test_a_server_that_is_not_there_is_one_line(runicorn: Runicorn) -> None:
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    done = runicorn("config", "--server", nobody)
    assert done.code == 1
    assert done.out.startswith(f"Error: Failed to connect to Runicorn Viewer at {nobody}")
    assert len(done.lines) == 1
