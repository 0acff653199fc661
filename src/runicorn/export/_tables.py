"""The events of a run as a table: CSV, Excel and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from ._record import Event, Record, all_series, cell, is_finite

_ROWS_AT_ONCE = 2_000
_ROWS_OF_A_GROUP = 65_536
_ROWS_OF_A_SHEET = 1_048_575
_CHARTS = 12
_CHARTED_ROWS = 5_000
"""A chart of more rows takes a spreadsheet minutes to draw."""


# -- CSV ---------------------------------------------------------------------------------------


def csv_text(
    record: Record, *, include_metadata: bool = True, spreadsheet: bool = False
) -> Iterator[str]:
    """Yield the CSV text in parts, as Runicorn 0.4 writes it; nothing at all without events.

    With *spreadsheet* it is safe to be opened by one: text that would be a formula begins with an
    apostrophe, nested values are JSON, and a byte order mark says that it is UTF-8.
    """
    columns = record.columns()
    if not columns:
        return
    rows = _Rows()
    writer = csv.writer(rows)
    if spreadsheet:
        rows.write("\ufeff")
    if include_metadata:
        lines = (
            f"# Runicorn Export - {datetime.now().isoformat()}",
            f"# Project: {_line(record.project)}",
            f"# Experiment: {_line(record.name)}",
            f"# Run ID: {_line(record.run_id)}",
            "#",
        )
        for line in lines:
            if spreadsheet:
                writer.writerow([line])  # in one cell, whatever commas it has
            else:
                rows.write(f"{line}\n")
    writer.writerow(map(_harmless, columns) if spreadsheet else columns)
    for event in record.events():
        row = [event.data.get(column) for column in columns]
        writer.writerow(map(_harmless, row) if spreadsheet else row)
        if len(rows.written) >= _ROWS_AT_ONCE:
            yield rows.take()
    yield rows.take()


def _harmless(value: object) -> object:
    """Return the cell for *value*, as text where a spreadsheet would calculate it."""
    value = cell(value)
    is_formula = isinstance(value, str) and value.lstrip().startswith(_FORMULA)
    return f"'{value}" if is_formula else value


_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a formula begins; Excel takes the full-width forms for the others."""


class _Rows:
    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)

    def take(self) -> str:
        text, self.written = "".join(self.written), []
        return text


def _line(text: str) -> str:
    return " ".join(text.splitlines())


# -- Excel -------------------------------------------------------------------------------------


def write_excel(record: Record, path: Path, *, include_charts: bool = True) -> None:
    """Sheets ``Metrics``, ``Metadata``, ``Parameters`` if there are any, ``Statistics`` and
    ``Charts``. Needs openpyxl."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    columns = record.columns()
    sheet = book.create_sheet("Metrics")
    sheet.freeze_panes = "B2"
    first, rows = sheet, 0
    sheet.append([_excel(sheet, column) for column in columns])
    for event in record.events():
        if rows and rows % _ROWS_OF_A_SHEET == 0:
            sheet = book.create_sheet(f"Metrics {rows // _ROWS_OF_A_SHEET + 1}")
            sheet.append([_excel(sheet, column) for column in columns])
        sheet.append([_excel(sheet, event.data.get(column)) for column in columns])
        rows += 1

    sheet = book.create_sheet("Metadata")
    sheet.column_dimensions["A"].width, sheet.column_dimensions["B"].width = 28, 60
    noted = {"tags": ", ".join(record.tags), "notes": record.notes}
    noted = {key: text for key, text in noted.items() if text}
    for part in (record.meta, record.status, record.summary, noted):
        for key, value in part.items():
            sheet.append([_excel(sheet, key), _excel(sheet, value)])

    if record.params:
        sheet = book.create_sheet("Parameters")
        sheet.column_dimensions["A"].width, sheet.column_dimensions["B"].width = 28, 60
        for key, value in record.params.items():
            sheet.append([_excel(sheet, key), _excel(sheet, value)])

    sheet = book.create_sheet("Statistics")
    sheet.append(["Metric", "Count", "Min", "Max", "Mean", "Last"])
    _, series = all_series(record)
    for metric in series:
        numbers = (metric.count, metric.low, metric.high, metric.mean, metric.last)
        sheet.append([_excel(sheet, cell) for cell in (metric.key, *numbers)])

    if include_charts and rows:
        sheet = book.create_sheet("Charts")
        drawable = [metric for metric in series if metric.values]
        for index, metric in enumerate(drawable[:_CHARTS]):
            chart = _excel_chart(first, columns, metric.key, min(rows, _CHARTED_ROWS))
            sheet.add_chart(chart, f"{'AJ'[index % 2]}{1 + index // 2 * 16}")
    book.save(path)


def _excel_chart(sheet: Any, columns: list[str], key: str, rows: int) -> Any:
    from openpyxl.chart import Reference, ScatterChart
    from openpyxl.chart import Series as Curve

    chart = ScatterChart(style=2, scatterStyle="lineMarker")
    chart.title, chart.legend = _excel_text(key), None
    chart.width, chart.height = 15, 7.5
    chart.x_axis.delete = chart.y_axis.delete = False
    axis = next((c for c in ("global_step", "step", "time") if c in columns), columns[0])
    across, up = columns.index(axis) + 1, columns.index(key) + 1
    curve = Curve(
        Reference(sheet, min_col=up, min_row=2, max_row=rows + 1),
        Reference(sheet, min_col=across, min_row=2, max_row=rows + 1),
    )
    curve.marker.symbol = "none"
    curve.smooth = False
    chart.series.append(curve)
    return chart


def _excel(sheet: Any, value: object) -> Any:
    """A cell for *value*. Text stays text: a formula that was logged is never calculated."""
    value = cell(value)
    if isinstance(value, bool) or value is None:
        return value
    if is_finite(value):  # of which a sheet keeps 16 digits
        return value
    from openpyxl.cell import WriteOnlyCell

    made = WriteOnlyCell(sheet, value=_excel_text(str(value)))
    made.data_type = "s"
    return made


def _excel_text(text: str) -> str:
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    text = text.encode("utf-8", "replace").decode()
    return str(ILLEGAL_CHARACTERS_RE.sub("", text))[:32_767]


# -- Parquet -----------------------------------------------------------------------------------


def write_parquet(record: Record, path: Path) -> None:
    """One row an event; a column holds integers, numbers, booleans, or else text. Needs pyarrow."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds: dict[str, str] = {}
    for event in record.events():
        for key, value in event.data.items():
            kinds[key] = _wider(kinds.get(key), value)
    types = {"": pa.null(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    schema = pa.schema(
        [(key, types.get(kinds[key], pa.string())) for key in record.columns()],
        metadata={"run_id": record.run_id, "project": record.project, "name": record.name},
    )
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(record):
            columns = [
                pa.array([_typed(event.data.get(key), kinds[key]) for event in group], of_type)
                for key, of_type in zip(schema.names, schema.types, strict=True)
            ]
            if columns:
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _groups(record: Record) -> Iterator[list[Event]]:
    group: list[Event] = []
    for event in record.events():
        group.append(event)
        if len(group) == _ROWS_OF_A_GROUP:
            yield group
            group = []
    if group:
        yield group


def _wider(kind: str | None, value: object) -> str:
    """The narrowest kind of column that holds what was of *kind* so far, and *value*."""
    if value is None:
        return kind or ""
    if isinstance(value, bool):
        new = "bool"
    elif isinstance(value, int):
        new = "int" if -(2**63) <= value < 2**63 else "text"
    else:
        new = "float" if isinstance(value, float) else "text"
    if kind in (None, "", new):
        return new
    return "float" if {kind, new} == {"int", "float"} else "text"


def _typed(value: Any, kind: str) -> Any:
    if value is None or kind in ("int", "bool", ""):
        return value
    if kind == "float":
        return float(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
