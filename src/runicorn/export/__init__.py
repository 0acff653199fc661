"""Exports of runs: tables, reports, TensorBoard; one run or many.

>>> MetricsExporter(run_dir).to_csv("metrics.csv")
>>> with open("runs.zip", "wb") as file:
...     file.writelines(zip_runs(run_dirs, "parquet"))

Excel, PDF and Parquet need ``pip install 'runicorn[export]'``; the rest needs nothing.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

from .._drained import Drained
from ._record import Record
from ._report import Report, html, markdown, write_pdf
from ._tables import csv_text, write_excel, write_parquet
from ._tensorboard import write_tensorboard

__all__ = [
    "FORMATS",
    "MetricsExporter",
    "Record",
    "csv_text",
    "is_available",
    "write",
    "zip_runs",
]

READ_BYTES = 2**18


class MetricsExporter:
    """Exports of one run's folder. Methods that return False had nothing to write, or not the
    library to write it with."""

    def __init__(self, run_dir: str | Path) -> None:
        path = Path(run_dir)
        self.run_dir = path.resolve() if path.is_symlink() else path  # the caller's own link

    def to_csv(
        self,
        output_path: str | Path | None = None,
        include_metadata: bool = True,
        *,
        spreadsheet: bool = False,
    ) -> str | None:
        """Return the CSV text, or None if it went to *output_path*; None as well without any event.

        *spreadsheet* makes it safe for Excel and its like: formulas are text, UTF-8 is marked.
        """
        parts = csv_text(
            Record(self.run_dir), include_metadata=include_metadata, spreadsheet=spreadsheet
        )
        if output_path is None:
            return "".join(parts) or None
        if (first := next(parts, None)) is not None:
            with open(output_path, "w", encoding="utf-8", errors="replace", newline="") as file:
                file.write(first)
                file.writelines(parts)
        return None

    def to_excel(self, output_path: str | Path, include_charts: bool = True) -> bool:
        """Sheets ``Metrics``, ``Metadata``, ``Statistics`` and ``Charts``."""
        return _done(
            lambda: write_excel(
                Record(self.run_dir), Path(output_path), include_charts=include_charts
            )
        )

    def to_parquet(self, output_path: str | Path) -> bool:
        """One row an event, typed columns."""
        return _done(lambda: write_parquet(Record(self.run_dir), Path(output_path)))

    def to_tensorboard(self, output_dir: str | Path) -> bool:
        """One event file in *output_dir*, for ``tensorboard --logdir``."""
        write_tensorboard(Record(self.run_dir), Path(output_dir))
        return True

    def generate_report(self, output_path: str | Path, format: str = "pdf") -> bool:
        """A report for reading: ``markdown``, ``html`` or ``pdf``."""
        if format not in ("markdown", "html", "pdf"):
            return False
        return _done(lambda: write(self.run_dir, format, Path(output_path)))


def _done(export: Callable[[], object]) -> bool:
    try:
        export()
    except ModuleNotFoundError:
        return False
    return True


FORMATS = {
    "csv": (".csv", "text/csv; charset=utf-8"),
    "excel": (".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "parquet": (".parquet", "application/vnd.apache.parquet"),
    "tensorboard": (".tfevents", "application/octet-stream"),
    "markdown": (".markdown", "text/markdown; charset=utf-8"),
    "html": (".html", "text/html; charset=utf-8"),
    "pdf": (".pdf", "application/pdf"),
}
"""Name of the format to the suffix and the media type of its file."""


_LIBRARIES = {"excel": "openpyxl", "parquet": "pyarrow", "pdf": "reportlab"}


def is_available(format: str) -> bool:
    """Return whether the library that *format* needs, if any, is installed."""
    return format not in _LIBRARIES or find_spec(_LIBRARIES[format]) is not None


def write(run_dir: Path, format: str, path: Path, *, spreadsheet: bool = False) -> None:
    """Write one run as *format* (a key of ``FORMATS``) to *path*; CSV for *spreadsheet* if wanted.

    Raises ModuleNotFoundError where the library for it is not installed.
    """
    record = Record(run_dir)
    if format == "csv":
        with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            file.writelines(csv_text(record, spreadsheet=spreadsheet))
    elif format == "excel":
        write_excel(record, path)
    elif format == "parquet":
        write_parquet(record, path)
    elif format == "tensorboard":
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            write_tensorboard(record, Path(folder)).replace(path)
    elif format == "pdf":
        write_pdf(Report.of(record), path)
    else:
        text = {"markdown": markdown, "html": html}[format](Report.of(record))
        path.write_text(text, encoding="utf-8", errors="replace", newline="")


def zip_runs(
    run_dirs: Iterable[Path], format: str, *, spreadsheet: bool = False
) -> Iterator[bytes]:
    """A zip of many runs as *format*, in parts: ``<project>/<name>/<run id><suffix>``.

    TensorBoard's files come in a folder for each run, as it wants them. One run at a time is held
    in a temporary file.
    """
    sink = Drained()
    with (
        tempfile.TemporaryDirectory(prefix="runicorn-export-") as folder,
        zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        made = Path(folder) / "export"
        for run_dir in run_dirs:
            write(run_dir, format, made, spreadsheet=spreadsheet)
            with made.open("rb") as source, archive.open(_member(run_dir, format), "w") as member:
                while data := source.read(READ_BYTES):
                    member.write(data)
                    yield sink.take()
        archive.close()
        yield sink.take()


def _member(run_dir: Path, format: str) -> str:
    record = Record(run_dir)
    parts = [part.replace("/", "_").strip(". ") or "_" for part in (record.project, record.name)]
    file = f"{run_dir.name}{FORMATS[format][0]}"
    if format == "tensorboard":
        file = f"{run_dir.name}/events.out.tfevents.0.runicorn"
    return "/".join([*parts, file])
