"""The samples of a run's machine: indexed, answered and shown beside what the run logged."""

from __future__ import annotations

import json
import re

import pytest

from metrics.models import EventLog

START = 1_700_000_000


def sample(at: float, **values: object) -> bytes:
    data = {key.replace("__", "/"): value for key, value in values.items()}
    return json.dumps({"ts": START + at, "type": "system", "data": data}).encode() + b"\n"


@pytest.fixture
def run(root):
    run = root.run()
    run.write("status.json", {"status": "running", "started_at": START})
    run.log(*({"loss": 1 / n, "global_step": n, "time": START + n} for n in range(1, 4)))
    return run


def test_samples_are_a_table_over_time(run, root, api):
    run.append("system.jsonl", sample(5, cpu=10, gpu__10__x=1.5) + sample(20, cpu=30.5))
    root.scan()
    rows = [
        {"time": START + 5.0, "cpu": 10.0, "gpu/10/x": 1.5},
        {"time": START + 20.0, "cpu": 30.5, "gpu/10/x": None},
    ]
    found = api.get(f"/runs/{run.id}/system")
    assert found == {"columns": ["time", "cpu", "gpu/10/x"], "rows": rows}
    run.append("system.jsonl", sample(35, cpu=40))
    assert len(api.get(f"/runs/{run.id}/system")["rows"]) == 3
    assert api.get("/runs/20200101_000000_000000/system", 404)["detail"] == "Run not found"


def test_a_run_without_samples_has_an_empty_table(run, root, api):
    root.scan()
    assert api.get(f"/runs/{run.id}/system") == {"columns": [], "rows": []}


def test_samples_never_mix_with_what_was_logged(run, root, api):
    root.scan()
    before = api.get(f"/runs/{run.id}/metrics_step")
    run.append("system.jsonl", sample(5, cpu=10) + sample(6, cpu=11))
    assert api.get(f"/runs/{run.id}/metrics_step") == before
    assert EventLog.objects.get().is_ascending


def test_a_cursor_gives_what_came_since(run, root, api):
    address = f"/runs/{run.id}/system"
    torn = sample(35, cpu=30)
    run.append("system.jsonl", sample(5, cpu=10) + sample(20, cpu=20) + torn[:20])
    root.scan()
    first = api.client.get(f"/api{address}")
    assert len(first.json()["rows"]) == 2
    known = api.client.get(f"/api{address}", headers={"If-None-Match": first["ETag"]})
    assert known.status_code == 304
    run.append("system.jsonl", torn[20:] + sample(50, cpu=40))
    more = api.get(f"{address}?since={first['X-Cursor']}")
    assert [row["cpu"] for row in more["rows"]] == [30, 40]
    assert api.get(f"{address}?since={more['cursor']}")["rows"] == []


def test_many_samples_are_downsampled_with_their_extremes(run, root, api):
    lines = [sample(15 * n, cpu=(n * 7919) % 97, mem=50) for n in range(5000)]
    lines[1234] = sample(15 * 1234, cpu=999, mem=50)
    run.append("system.jsonl", b"".join(lines))  # several chunks
    root.scan()
    assert len(api.get(f"/runs/{run.id}/system")["rows"]) == 5000
    found = api.get(f"/runs/{run.id}/system?downsample=200")
    assert (found["total"], found["sampled"], len(found["rows"])) == (5000, 200, 200)
    assert max(row["cpu"] for row in found["rows"]) == 999


def test_lines_that_are_no_sample_are_passed_over(run, root, api):
    junk = b'\xff\n{"ts": "x", "data": {}}\n[1]\n\n{"ts": 1}\nnull\n{"ts": 1, "data": 3}\n'
    run.append("system.jsonl", junk + sample(5, cpu="no", mem=1, flag=True) + b'{"ts": 1')
    root.scan()
    assert api.get(f"/runs/{run.id}/system")["rows"] == [{"time": START + 5.0, "mem": 1.0}]


def test_a_file_written_anew_is_read_anew(run, root, api):
    run.append("system.jsonl", sample(5, cpu=10) * 3)
    root.scan()
    run.write("system.jsonl", sample(7, cpu=20))
    assert [row["cpu"] for row in api.get(f"/runs/{run.id}/system")["rows"]] == [20]


def test_the_page_has_a_section_for_them(run, root, client, api):
    root.scan()
    page = client.get(f"/runs/{run.id}").content.decode()
    assert re.search(r'<section[^>]* id="system"[^>]* hidden>', page)
    run.append("system.jsonl", sample(5, system__cpu_percent=10) + sample(20, gpu__0__power_w=1))
    root.scan()
    page = client.get(f"/runs/{run.id}").content.decode()
    section = page[page.index('id="system"') : page.index('id="images"')]
    assert re.findall(r'aria-label="([^"]+)" data-points', section) == [
        "gpu/0/power_w",
        "system/cpu_percent",
    ]
    assert 'data-points="5:10"' in section and 'data-text="after {} s"' in section
