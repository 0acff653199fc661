"""What was logged and no answer shows is counted, and named once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runs.ingest.indexer import Indexer
from tests.servers import ROOT

LONG = "k" * 501
HIDDEN = [
    ({LONG: 1.0}, [LONG[:100]], 1),
    ({"é" * 501: True, "x": 1.0}, ["é" * 100], 1),
    ({"a\x00b": 1.0}, ["a�b"], 1),
    ({"a\ud800": 1.0}, ["a�"], 1),
    ({"nested": {"a": 1}}, ["nested"], 1),
    ({"list": [1, 2], "empty": []}, ["list", "empty"], 2),
    ({f"list{n}": [n] for n in range(12)}, [f"list{n}" for n in range(10)], 12),
]
SHOWN = [
    {"k" * 500: 1.0},
    {"x": None},
    {"x": True},
    {"x": "text"},
    {"x": 10**30},
    {"global_step": []},
]


def hidden(api, run):
    shown = api.get(f"/runs/{run.id}")
    return shown["hidden_keys"], shown["hidden_values"]


@pytest.mark.parametrize(("values", "keys", "count"), HIDDEN)
def test_it_is_counted_and_named(root, api, caplog, values, keys, count):
    run = root.run()
    run.log({"global_step": 1, "loss": 1.0}, {"global_step": 2, **values})
    root.scan()
    assert hidden(api, run) == (keys, count)
    assert [record.getMessage().count(run.id) for record in caplog.records] == [1]
    assert all(repr(key) in caplog.text for key in keys)
    run.log({"global_step": 3, **values})
    assert hidden(api, run) == (keys, 2 * count)
    assert len(caplog.records) == 1
    page = api.client.get(f"/runs/{run.id}/live").content.decode()
    assert f"<dd>{2 * count} " in page and "Values that are not shown" in page


@pytest.mark.parametrize("values", SHOWN, ids=str)
def test_what_is_shown_is_not_counted(root, api, caplog, values):
    run = root.run()
    run.log({"global_step": 1, "loss": 1.0}, {"global_step": 2, **values})
    root.scan()
    assert hidden(api, run) == ([], 0)
    assert not caplog.records
    assert "not shown" not in api.client.get(f"/runs/{run.id}/live").content.decode()


def test_a_file_that_was_replaced_is_counted_anew(root, api):
    run = root.run()
    run.log(*({"global_step": step, "list": [1]} for step in range(9)))
    run.append("events.jsonl", b"no event\n")
    root.scan()
    assert hidden(api, run) == (["list"], 9)
    assert api.get(f"/runs/{run.id}")["unreadable_lines"] == 1
    run.events.unlink()
    run.log({"global_step": 1, "other": [1]})
    assert hidden(api, run) == (["other"], 1)
    assert api.get(f"/runs/{run.id}")["unreadable_lines"] == 0


def test_many_lines_are_counted_once_each(root, api):
    run = root.run()
    run.log(*({"global_step": step, "list": [step], "x": "y" * 50} for step in range(5000)))
    indexer = Indexer(root.path)
    indexer.catch_up()
    indexer.catch_up()
    assert hidden(api, run) == (["list"], 5000)


def test_of_the_sdk(root, api):
    body = (
        "import sys, runicorn as rn\n"
        "with rn.init(storage=sys.argv[1], capture_env=False, system_metrics=False) as run:\n"
        "    run.log({'k' * 600: 1.0, 'nested': {'a': 1}, 'loss': 0.5})\n"
    )
    subprocess.run([sys.executable, "-c", body, str(root.path)], cwd=ROOT, check=True)
    root.scan()
    (run_id,) = api.ids()
    shown = api.get(f"/runs/{run_id}")
    assert (shown["hidden_values"], set(shown["hidden_keys"])) == (2, {"k" * 100, "nested"})
