"""``runicorn generate-manifest``."""

from __future__ import annotations

import json
import re

import pytest

from runicorn import manifest
from runicorn.cli import main


def test_it_says_what_it_wrote(root, capsys):
    root.run()
    assert main(["generate-manifest", "--root", str(root.path)]) == 0
    line = "=" * 60
    path = root.path / ".runicorn/full_manifest.json"
    told = capsys.readouterr().out
    identifier = json.loads(path.read_bytes())["snapshot_id"]
    assert told.splitlines() == [
        "Generating full manifest...",
        line,
        "Manifest Generation Complete",
        line,
        "Type:          full",
        f"Output:        {path}",
        f"Compressed:    {path}.gz",
        "Revision:      1",
        f"Snapshot ID:   {identifier}",
        "Experiments:   1",
        "Files:         3",
        "Total Size:    0.00 MB",
        line,
    ]


def test_every_flag_is_taken(root, tmp_path, capsys):
    root.run()
    flags = ["--active", "--full", "--active-window", "60", "--no-incremental", "--verbose"]
    output = tmp_path / "x.out"
    command = ["generate-manifest", "--root", str(root.path), "--output", str(output)]
    assert main([*command, *flags]) == 0
    assert re.search(r"^Type: +active$", capsys.readouterr().out, re.MULTILINE)
    assert json.loads(output.read_bytes())["manifest_type"] == "active"
    assert (tmp_path / "x.out.gz").exists()


def test_its_failures_are_explained(tmp_path, capsys):
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.write_text("")
    assert main(["generate-manifest", "--root", str(missing)]) == 1
    assert capsys.readouterr().out == f"Error: Root directory does not exist: {missing}\n"
    assert main(["generate-manifest", "--root", str(file)]) == 1
    assert capsys.readouterr().out == f"Error: Root path is not a directory: {file}\n"
    output = str(missing / "x.json")
    assert main(["generate-manifest", "--root", str(tmp_path), "--output", output]) == 1
    assert "Error: Manifest generation failed: " in capsys.readouterr().out


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt, 130), (RuntimeError("full"), 1)])
def test_an_interruption_and_a_failure_have_their_codes(root, capsys, monkeypatch, error, code):
    def stop(*args):
        raise error

    monkeypatch.setattr(manifest.ManifestGenerator, "generate", stop)
    assert main(["generate-manifest", "--root", str(root.path)]) == code
    wanted = "Interrupted by user" if code == 130 else "Error: Manifest generation failed: full"
    assert wanted in capsys.readouterr().out
