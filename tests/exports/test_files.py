"""One run as a table, as TensorBoard's events and as a report; many runs as a zip."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import struct
import zipfile
from pathlib import Path

import pytest

from runicorn import export
from runicorn.experiments import ExperimentManager
from runicorn.export import MetricsExporter
from tests import v04
from tests.runs.conftest import Root


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return v04.unpack_storage(tmp_path_factory.mktemp("recorded"))


def run_of(recorded: Path, run_id: str) -> Path:
    return next(recorded.glob(f"**/{run_id}"))


def recorded_exports() -> list[dict]:
    return [
        record
        for record in v04.golden()
        if record["path"].startswith("/api/export/")
        and record["status"] == 200
        and "_text" in record["response"]
        and record["query"].get("format") != "html"
    ]


def undated(text: str) -> str:
    return re.sub(r"(Generated:|Export -) .*", "", text)


NUMBERS_THAT_MISLED = {"export.report.nan_inf", "export.report.mixed_types"}
"""0.4 let one NaN or infinity spoil min, max and mean, and wrote 1e308 with 309 digits."""


def test_tables_and_reports_are_those_of_v04(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    compared = 0
    for record in recorded_exports():
        if record["name"] not in NUMBERS_THAT_MISLED:
            run = run_of(recorded, record["path"].split("/")[3])
            kind = "csv" if record["path"].endswith("csv") else "markdown"
            export.write(run, kind, tmp_path / "made")
            made = (tmp_path / "made").read_bytes().decode()
            assert undated(made) == undated(record["response"]["_text"]), record["name"]
            compared += 1
    assert compared > 20


BEGINNINGS = {
    "csv": b"",
    "excel": b"PK",
    "parquet": b"PAR1",
    "tensorboard": b"",
    "markdown": b"# ",
    "html": b"<!",
    "pdf": b"%PDF-",
}


@pytest.mark.slow
def test_every_format_takes_every_recorded_run(recorded, tmp_path):
    from runicorn import layout

    assert BEGINNINGS.keys() == export.FORMATS.keys()
    runs = [directory for directory, _ in layout.iter_run_dirs(recorded)]
    assert len(runs) >= 25
    for directory in runs:
        if "steps-20k" in directory:
            continue
        events = recorded / directory / "events.jsonl"
        has_metrics = events.exists() and b'"type": "metrics"' in events.read_bytes()
        for kind, beginning in BEGINNINGS.items():
            export.write(recorded / directory, kind, tmp_path / "made")
            made = (tmp_path / "made").read_bytes()
            assert made.startswith(beginning), (directory, kind)
            if has_metrics or kind not in ("csv", "tensorboard"):
                assert made.strip(), (directory, kind)
            if kind in ("markdown", "html"):
                assert directory.rpartition("/")[2].encode() in made, (directory, kind)


def test_excel_keeps_numbers_as_numbers_and_formulas_as_text(tmp_path):
    from openpyxl import load_workbook

    run = Root(tmp_path).run()
    run.log(
        {"loss": 0.5, "note": "=HYPERLINK(1)", "bad\x01": "\x02x", "big": 1e18, "global_step": 1},
        {"loss": math.nan, "note": "@x", "big": 2**80, "global_step": 2},
        {"loss": 1e308, "note": 10**400, "big": 2**53, "global_step": 3},
    )
    assert MetricsExporter(run.path).to_excel(tmp_path / "made.xlsx")
    book = load_workbook(tmp_path / "made.xlsx")
    assert book.sheetnames == ["Metrics", "Metadata", "Statistics", "Charts"]
    rows = list(book["Metrics"].iter_rows(values_only=True))
    assert rows == [
        ("global_step", "bad", "big", "loss", "note"),
        (1, "x", 1e18, 0.5, "=HYPERLINK(1)"),
        (2, None, 1208925819614629e9, "nan", "@x"),
        (3, None, 2**53, 1e308, str(10**400)),
    ]
    assert book["Metrics"]["E2"].data_type == "s"
    assert len(book["Charts"]._charts) == 2  # of the metrics with a number that can be drawn
    statistics = {row[0]: row[1:] for row in book["Statistics"].iter_rows(values_only=True)}
    mean = (2**53 + 1e18 + 2**80) / 3
    assert statistics["big"] == pytest.approx((3, 2**53, 2**80, mean, 2**53))
    assert statistics["note"] == (1, *[str(10**400)] * 4)
    assert statistics["loss"] == (3, 0.5, 1e308, 5e307, 1e308)


def rows_of(report: str) -> dict[str, list[str]]:
    """Metric, min, max, mean, last of a report in Markdown."""
    table = report.partition("### Metric Statistics")[2]
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) == 5}


@pytest.mark.parametrize("format", ["markdown", "html"])
def test_no_number_is_missing_from_a_report_nor_cut(tmp_path, format):
    run = Root(tmp_path).run()
    run.log(
        {"nan": math.nan, "inf": math.inf, "both": math.inf, "diverged": 1.0, "global_step": 1},
        {"nan": math.nan, "inf": math.inf, "both": -math.inf, "diverged": 2.0, "global_step": 2},
        {"diverged": math.nan, "tokens": 123456789012345, "id": 2**62 + 1, "global_step": 3},
        {"tokens": 9876543210.5, "id": 2**80 + 1, "huge": 1e300, "beyond": 10**400},
    )
    export.write(run.path, "markdown", tmp_path / "made")
    rows = rows_of((tmp_path / "made").read_text())
    assert rows["nan"] == ["nan"] * 4
    assert rows["inf"] == ["inf"] * 4
    assert rows["both"] == ["-inf", "inf", "nan", "-inf"]
    assert rows["diverged"] == ["1.000000", "2.000000", "1.500000", "nan"]
    assert rows["tokens"][:2] == ["9876543210.500000", "123456789012345.000000"]
    assert rows["id"][:2] == [str(2**62 + 1), str(2**80 + 1)]
    assert rows["huge"] == ["1e+300"] * 4
    assert rows["beyond"] == ["1e+400"] * 4
    export.write(run.path, format, tmp_path / "made")
    assert str(2**80 + 1) in (tmp_path / "made").read_text()
    export.write(run.path, "pdf", tmp_path / "made")  # whatever they are


def test_the_last_value_is_that_of_the_greatest_step(tmp_path):
    run = Root(tmp_path).run()
    run.log(*({"loss": v, "global_step": s, "time": t} for s, t, v in LATE))
    export.write(run.path, "markdown", tmp_path / "made")
    assert rows_of((tmp_path / "made").read_text())["loss"][-1] == "0.250000"


LATE = [(1, 10, 0.5), (9, 30, 0.25), (9, 20, 0.75), (3, 40, 1.0)]
"""Step, time and value; the third and fourth came late."""


def test_metrics_of_odd_numbers_are_in_tensorboard(tmp_path):
    run = Root(tmp_path).run()
    run.log({"nan": math.nan, "beyond": 10**400, "below": -(10**400), "global_step": 1})
    assert MetricsExporter(run.path).to_tensorboard(tmp_path / "tb")
    data = next((tmp_path / "tb").iterdir()).read_bytes()
    assert b"nan" in data and b"beyond" in data and b"below" in data
    assert struct.pack("<f", math.inf) in data and struct.pack("<f", -math.inf) in data


def test_parquet_has_the_type_that_every_value_of_a_column_fits(tmp_path):
    from pyarrow import parquet

    run = Root(tmp_path).run()
    run.log(
        {"i": 1, "f": 1, "b": True, "t": "x", "n": None, "m": 1, "global_step": 1},
        {"i": 2**62, "f": 0.5, "b": False, "t": [1], "m": "x", "global_step": 2},
    )
    assert MetricsExporter(run.path).to_parquet(tmp_path / "made.parquet")
    table = parquet.read_table(tmp_path / "made.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "global_step": "int64",
        "i": "int64",
        "f": "double",
        "b": "bool",
        "t": "string",
        "n": "null",
        "m": "string",
    }
    assert table.column("i").to_pylist() == [1, 2**62]
    assert table.column("t").to_pylist() == ["x", "[1]"]
    assert table.schema.metadata[b"run_id"] == run.id.encode()


def test_tensorboard_events_are_framed_and_checked(tmp_path):
    """CRC-32C of ``123456789`` is known; the frames are read here as the format says."""
    from runicorn.export import _tensorboard

    masked = struct.unpack("<I", _tensorboard._checksum(b"123456789"))[0]
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == 0xE3069283

    run = Root(tmp_path).run()
    run.log({"loss": 0.5, "global_step": 7, "time": 12.5}, {"loss": math.inf, "note": "x"})
    assert MetricsExporter(run.path).to_tensorboard(tmp_path / "tb")
    (file,) = (tmp_path / "tb").iterdir()
    data, messages = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == _tensorboard._checksum(data[:8])
        messages.append(data[12 : 12 + length])
        assert data[12 + length : 16 + length] == _tensorboard._checksum(messages[-1])
        data = data[16 + length :]
    assert len(messages) == 3
    assert messages[0].endswith(b"brain.Event:2")
    assert messages[1].startswith(b"\x09" + struct.pack("<d", 12.5) + b"\x10\x07")
    assert b"loss" in messages[1] and messages[1].endswith(struct.pack("<f", 0.5))
    assert messages[2].endswith(struct.pack("<f", math.inf))


def test_a_report_shows_what_was_logged_and_runs_none_of_it(tmp_path):
    evil = "<script>alert(1)</script>"
    run = Root(tmp_path).run("p", "e", platform=evil)
    run.write("summary.json", {evil: evil, "line": "a\nb|c"})
    run.log(*({"loss": 1 / n, evil: n, "global_step": n} for n in range(1, 50)))
    exporter = MetricsExporter(run.path)
    assert exporter.generate_report(tmp_path / "r.html", "html")
    page = (tmp_path / "r.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 2
    assert not re.search(r"(src|href)=", page)
    assert exporter.generate_report(tmp_path / "r.md", "markdown")
    assert "| line | a b\\|c |" in (tmp_path / "r.md").read_text()
    assert exporter.generate_report(tmp_path / "r.pdf")
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF-1")
    assert not exporter.generate_report(tmp_path / "r.doc", "doc")


def test_parameters_tags_and_notes_are_in_reports_and_excel(tmp_path):
    from openpyxl import load_workbook

    run = Root(tmp_path / "root").run("p", "e")
    run.write("config.json", {"optimizer": {"name": "adam", "lr": 0.1}, "宽": "长" * 9000})
    run.log({"loss": 0.5, "global_step": 1})
    manager = ExperimentManager(tmp_path / "root")
    manager.tag_experiment(run.id, ["paper", "最好"])
    manager.describe_experiment(run.id, "The run that <b>counts</b>")
    exporter = MetricsExporter(run.path)
    assert exporter.generate_report(tmp_path / "r.md", "markdown")
    assert "| optimizer.lr | 0.1 |" in (tmp_path / "r.md").read_text()
    assert exporter.generate_report(tmp_path / "r.html", "html")
    page = (tmp_path / "r.html").read_text()
    assert "<th>optimizer.name</th><td>adam</td>" in page
    assert "The run that &lt;b&gt;counts" in page and "paper, 最好" in page
    assert exporter.generate_report(tmp_path / "r.pdf")  # though one value would fill pages
    assert exporter.to_excel(tmp_path / "r.xlsx")
    book = load_workbook(tmp_path / "r.xlsx")
    assert ("optimizer.lr", 0.1) in list(book["Parameters"].iter_rows(values_only=True))
    assert ("tags", "paper, 最好") in list(book["Metadata"].iter_rows(values_only=True))


def test_a_run_that_logged_nothing_makes_no_csv(tmp_path):
    exporter = MetricsExporter(Root(tmp_path).run().path)
    assert exporter.to_csv() is None
    assert exporter.to_csv(tmp_path / "made.csv") is None
    assert not (tmp_path / "made.csv").exists()


def test_a_run_that_goes_on_is_exported_as_long_as_it_was(tmp_path):
    run = Root(tmp_path).run()
    run.log(*({"a": n} for n in range(3)))
    parts = export.csv_text(export.Record(run.path), include_metadata=False)
    first = next(parts)
    record = export.Record(run.path)
    assert record.columns() == ["a"]
    run.log({"b": 1})
    assert [event.data for event in record.events()] == [{"a": 0}, {"a": 1}, {"a": 2}]
    assert list(csv.reader(io.StringIO(first + "".join(parts)))) == [["a"], ["0"], ["1"], ["2"]]


def test_many_runs_are_one_zip(tmp_path):
    root = Root(tmp_path)
    runs = [root.run("p/q".replace("/", ""), "e"), root.run("other", "图像")]
    for run in runs:
        run.log({"loss": 0.5})
    parts = list(export.zip_runs([run.path for run in runs], "csv"))
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"pq/e/{runs[0].id}.csv", f"other/图像/{runs[1].id}.csv"]
        assert "loss" in archive.read(archive.namelist()[0]).decode()


def test_json_of_metadata_is_not_needed(tmp_path):
    """A folder with damaged documents is exported all the same."""
    run = Root(tmp_path).run()
    run.write("meta.json", b"{")
    run.write("summary.json", json.dumps([1]).encode())
    run.log({"loss": 0.5})
    assert "loss" in (MetricsExporter(run.path).to_csv() or "")


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "＝1+1", "-")


def test_csv_for_spreadsheets_has_no_formula(tmp_path):
    run = Root(tmp_path).run(project="p,=1+1", name="=e")
    run.log(*({"=key": text, "number": -1.5, "nested": {"a": [1]}} for text in FORMULAS))
    run.log({"=key": "'quoted", "number": math.nan, "nested": ["=x"]}, {"=key": "plain", "n": "中"})
    exporter = MetricsExporter(run.path)
    text = exporter.to_csv(spreadsheet=True)
    assert text.startswith("\ufeff# Runicorn")
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell != "-1.5" and cell.strip()[:1] in tuple("=+-@＝")]
    assert [row for row in rows if row[0].startswith("# Project")] == [["# Project: p,=1+1"]]
    header = next(row for row in rows if not row[0].startswith("#"))
    assert header == ["'=key", "n", "nested", "number"]
    body = rows[rows.index(header) + 1 :]
    assert [row[0] for row in body] == [*(f"'{text}" for text in FORMULAS), "'quoted", "plain"]
    assert body[0][2:] == ['{"a": [1]}', "-1.5"]
    exporter.to_csv(tmp_path / "made.csv", spreadsheet=True)
    assert (tmp_path / "made.csv").read_bytes().startswith(b"\xef\xbb\xbf# Runicorn")


def test_csv_is_that_of_v04_unless_asked(tmp_path):
    run = Root(tmp_path).run()
    run.log({"a": "=1+1", "b": {"x": [1, "中"]}})
    text = MetricsExporter(run.path).to_csv(include_metadata=False)
    assert list(csv.reader(io.StringIO(text))) == [["a", "b"], ["=1+1", "{'x': [1, '中']}"]]
