"""``runicorn export-data``: one run's metrics as a table or a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import layout
from ._common import Commands, add_command, add_server, add_storage, client, fail

FORMATS = ("csv", "excel", "parquet", "tensorboard", "markdown", "html", "pdf")
REPORTS = ("markdown", "html", "pdf")
EVENT_FILE = "events.out.tfevents.0.runicorn"
SUFFIXES = {"excel": "metrics.xlsx", "parquet": "metrics.parquet"}


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export-data",
        run,
        help="write a run's metrics as a table or a report",
        description="Write what one run logged as a table, or as a report to be read.",
        examples=[
            "runicorn export-data --run-id 20260102_030405_0a1b2c > metrics.csv",
            "runicorn export-data --run-id 20260102_030405_0a1b2c --format pdf",
            "runicorn export-data --run-id 20260102_030405_0a1b2c --format excel --output a.xlsx",
        ],
    )
    add_storage(parser)
    parser.add_argument("--run-id", required=True, metavar="ID")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="default: %(default)s")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="default: CSV to stdout, else <id>_metrics.xlsx, <id>_report.<format> and so on; "
        "TensorBoard's is a folder",
    )
    parser.add_argument(
        "--spreadsheet",
        action="store_true",
        help="CSV for Excel and its like: text is never a formula, and marked as UTF-8",
    )
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    return _from_server(args) if args.server else _here(args)


def _here(args: argparse.Namespace) -> int:
    root = layout.storage_root(args.storage)
    for _, entry in layout.iter_run_dirs(root):
        if entry.name == args.run_id:
            return _write(args, Path(entry.path))
    return fail(f"Run {args.run_id} not found")


def _write(args: argparse.Namespace, run_dir: Path) -> int:
    from .. import export

    exporter = export.MetricsExporter(run_dir)
    try:
        is_empty = next(export.Record(run_dir).events(), None) is None
        if is_empty and args.format not in REPORTS:
            return fail("Export failed: the run has logged no metrics")
        if args.format == "csv" and args.output is None:
            record = export.Record(run_dir)
            for data in export.csv_text(record, spreadsheet=args.spreadsheet):
                _to_stdout(data.encode("utf-8", "replace"))
            return 0
        path = _output(args)
        if args.format == "tensorboard":
            exporter.to_tensorboard(path)
        else:
            export.write(run_dir, args.format, path, spreadsheet=args.spreadsheet)
    except ModuleNotFoundError as error:
        return fail(f"Export failed: {error.name} is not installed: pip install 'runicorn[export]'")
    except OSError as error:
        return fail(f"Export failed: {error}")
    return _done(args, path)


def _from_server(args: argparse.Namespace) -> int:
    from ..api import NotFoundError, RunicornAPIError

    with client(args) as server:
        try:
            if args.format in REPORTS:
                content = server.export_report(args.run_id, args.format)
            else:
                content = server.export_experiment(
                    args.run_id, args.format, spreadsheet=args.spreadsheet
                )
        except NotFoundError as error:
            return fail(str(error.detail or f"Run {args.run_id} not found"))
        except RunicornAPIError as error:
            return fail(f"Export failed: {error.detail or error}")
    if args.format == "csv" and args.output is None:
        _to_stdout(content)
        return 0
    path = _output(args)
    if args.format == "tensorboard":
        path = path / EVENT_FILE  # which wants a folder of its own
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        layout.write_bytes(path, content)
    except OSError as error:
        return fail(f"Export failed: {error}")
    return _done(args, path.parent if args.format == "tensorboard" else path)


def _output(args: argparse.Namespace) -> Path:
    if args.output:
        return Path(args.output)
    if args.format == "tensorboard":
        return Path(f"{args.run_id}_tensorboard")
    return Path(f"{args.run_id}_{SUFFIXES.get(args.format, f'report.{args.format}')}")


def _done(args: argparse.Namespace, path: Path) -> int:
    label = "Report generated:" if args.format in REPORTS else "Exported to"
    print(f"{label} {path}")
    return 0


def _to_stdout(content: bytes) -> None:
    """As it is: its lines end as CSV's do, on every system."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
