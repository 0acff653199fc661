"""Several programs change the documents of the configuration folder at once: nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.servers import ROOT, clean_environment

CHANGES = {
    "ui_preferences.json": (
        "config.change(lambda data: {**data, 'column_widths': {**data.get('column_widths', {}), "
        "f'{writer}@{number}': {}}}, layout.user_config_dir() / 'ui_preferences.json')"
    ),
    "config.json": (
        "config.change(lambda data: {**data, f'{writer}@{number}': {}}, config.config_file())"
    ),
    "rate_limits.json": (
        "main(['rate-limit', '--action', 'set', '--endpoint', f'/{writer}@{number}', "
        "'--max-requests', '5'])"
    ),
}
SCRIPT = """
import sys
from runicorn import config, layout
from runicorn.cli import main
writer = sys.argv[1]
for number in range(8):
    {change}
"""


@pytest.mark.parametrize("writers", [2, 8])
@pytest.mark.parametrize("name", CHANGES)
def test_many_writers_lose_nothing(tmp_path, name, writers):
    environment = clean_environment() | {"XDG_CONFIG_HOME": str(tmp_path)}
    script = SCRIPT.format(change=CHANGES[name])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(writer)],
            cwd=ROOT / "src",
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for writer in range(writers)
    ]
    assert [process.wait(60) for process in running] == [0] * writers
    text = (tmp_path / "runicorn" / name).read_text()
    json.loads(text)
    for writer in range(writers):
        for number in range(8):
            assert f"{writer}@{number}" in text


@pytest.mark.parametrize("content", ['{"endpoints": {', "", "[]", "\x00"])
def test_limits_that_cannot_be_read_are_not_written_over(tmp_path, content):
    path = tmp_path / "runicorn" / "rate_limits.json"
    path.parent.mkdir()
    path.write_text(content)

    def command(*options):
        return subprocess.run(
            [sys.executable, "-m", "runicorn", "rate-limit", *options],
            cwd=ROOT / "src",
            env=clean_environment() | {"XDG_CONFIG_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    refused = command("--action", "set", "--endpoint", "/api/runs", "--max-requests", "5")
    assert refused.returncode == 1
    assert "is damaged" in refused.stdout + refused.stderr
    assert path.read_text() == content
    assert command("--action", "reset", "--yes").returncode == 0
    assert json.loads(path.read_text())["default"]["max_requests"] == 60
