"""Exports and imports over HTTP."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers as fields
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.exceptions import InvalidInput, TooLarge
from core.http.fields import Choice, CommaSeparated, Flag, Form, OptionalText, Query
from core.http.streams import attachment, streamed
from runicorn import archive, export
from runs import archives
from runs.finding.filters import RunFilter
from runs.ingest import folder_source
from runs.querysets import RunQuerySet

from .views import RunView

ARCHIVE = "archive"
SUFFIXES = {
    "csv": "metrics.csv",
    "excel": "metrics.xlsx",
    "parquet": "metrics.parquet",
    "tensorboard": "events.out.tfevents.0.runicorn",
    "pdf": "report.pdf",
}
"""The formats of ``/export/{run_id}/…`` beside the report, and the names of the files."""


class SpreadsheetQuery(Query):
    spreadsheet = Flag(
        default=False, help_text="CSV in which no text is a formula, marked as UTF-8."
    )


class NotInstalled(APIException):
    status_code = 503
    default_detail = "Export functionality not available: pip install 'runicorn[export]'"


def download(
    request: Request, parts: Iterator[bytes], name: str, content_type: str
) -> StreamingHttpResponse:
    """Return a response with a file that is made while it is sent."""
    response = streamed(request, parts, content_type=content_type)
    response["Content-Disposition"] = attachment(name)
    return response


class ExportView(RunView):
    def record(self, run_id: str) -> Path:
        """Return the folder of the run; 404 if there is none."""
        path = self.run(run_id, f"Run {run_id} not found").path
        if path is None:
            raise NotFound(f"Run {run_id} has no folder on this server")
        return path

    def export(self, run_dir: Path, format: str, name: str) -> StreamingHttpResponse:
        if not export.is_available(format):
            raise NotInstalled
        with tempfile.TemporaryDirectory(prefix="runicorn-export-") as folder:
            path = Path(folder, "export")
            export.write(run_dir, format, path)
            file = path.open("rb")  # remains readable after its folder is removed
        return download(self.request, _chunks_of(file), name, export.FORMATS[format][1])


def _chunks_of(file: Any) -> Iterator[bytes]:
    with file:
        while data := file.read(export.READ_BYTES):
            yield data


@extend_schema(tags=["export"])
class ExportRun(ExportView):
    @extend_schema(
        operation_id="export_run",
        parameters=[
            OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=sorted(SUFFIXES)),
            SpreadsheetQuery,
        ],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, run_id: str, kind: str) -> StreamingHttpResponse:
        """Return the logged data of the run as a file."""
        if kind not in SUFFIXES:
            raise NotFound("Not Found")
        run_dir = self.record(run_id)
        name = f"{run_id}_{SUFFIXES[kind]}"
        if kind != "csv":
            return self.export(run_dir, kind, name)
        spreadsheet = SpreadsheetQuery.read(request)["spreadsheet"]
        parts = export.csv_text(export.Record(run_dir), spreadsheet=spreadsheet)
        first = next(parts, None)
        if first is None:
            raise NotFound("No metrics to export")
        return download(
            request,
            (data.encode("utf-8", "replace") for data in itertools.chain([first], parts)),
            name,
            export.FORMATS["csv"][1],
        )


class ReportQuery(Query):
    format = Choice(
        ["markdown", "html"],
        default="markdown",
        error_messages={"invalid_choice": "Format must be markdown or html"},
    )


@extend_schema(tags=["export"])
class ExportReport(ExportView):
    @extend_schema(
        operation_id="export_report",
        parameters=[ReportQuery],
        responses={(200, "text/html"): OpenApiTypes.STR, (200, "text/markdown"): OpenApiTypes.STR},
    )
    def get(self, request: Request, run_id: str) -> StreamingHttpResponse:
        """Return a report of the run for people. As PDF: ``/export/{run_id}/pdf``."""
        format = ReportQuery.read(request)["format"]
        return self.export(self.record(run_id), format, f"{run_id}_report.{format}")


class ExportQuery(SpreadsheetQuery):
    format = Choice(
        [ARCHIVE, *export.FORMATS],
        default=ARCHIVE,
        error_messages={"invalid_choice": "Unsupported format: {input}"},
    )
    run_ids = CommaSeparated(default=list, help_text="Comma-separated.")
    project = OptionalText(default="")
    name = OptionalText(default="", help_text="An experiment of the project.")
    artifacts = Flag(default=False, help_text="Put artifacts into the archive.")


@extend_schema(tags=["export"])
class ExportMany(ExportView):
    @extend_schema(
        operation_id="export_runs",
        parameters=[ExportQuery],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Return many runs: an archive that another server can import, or a zip of files."""
        params = ExportQuery.read(request)
        format = params["format"]
        if not export.is_available(format):
            raise NotInstalled
        runs = self._selected(params).in_listing_order()
        directories = list(runs.directories())
        if not directories:
            raise NotFound("No runs found to export")
        root = settings.RUNICORN_STORAGE_ROOT
        if format == ARCHIVE:
            parts = archive.export_runs(root, directories, artifacts=params["artifacts"])
            return download(request, parts, archive.default_name(), "application/gzip")
        return download(
            request,
            export.zip_runs(
                [root / directory for directory in directories],
                format,
                spreadsheet=params["spreadsheet"],
            ),
            f"runicorn_export_{int(time.time())}.zip",
            "application/zip",
        )

    def _selected(self, params: dict[str, Any]) -> RunQuerySet:
        runs = RunFilter.narrow(
            self.runs(), {key: params[key] or "" for key in ("project", "name")}
        )
        ids = params["run_ids"]
        if not ids and not params["project"]:
            raise InvalidInput("Say which: run_ids or project", ["query", "run_ids"])
        if ids:
            folder_source.index_unknown(ids)
            pks = [run.pk for run_id in ids if (run := runs.by_id(run_id))]
            runs = runs.filter(pk__in=pks)
        return runs


# -- import ------------------------------------------------------------------------------------


NO_FILE = "Send the archive as the field 'file' of a multipart form."


class ImportRequest(Form):
    file = fields.FileField(
        allow_empty_file=True,
        help_text="zip, tar.gz or tar, as exported.",
        error_messages={"invalid": NO_FILE},
    )
    dry_run = Flag(default=False, help_text="Only say what would come in.")
    replace = Flag(default=False, help_text="Replace runs that differ.")


class Refused(fields.Serializer):
    member = fields.CharField()
    reason = fields.CharField()


class Imported(fields.Serializer):
    ok = fields.BooleanField()
    imported_files = fields.IntegerField()
    new_run_dirs = fields.ListField(child=fields.CharField())
    new_run_ids = fields.ListField(child=fields.CharField())
    storage = fields.CharField()
    dry_run = fields.BooleanField()
    imported_bytes = fields.IntegerField()
    new_artifacts = fields.ListField(child=fields.CharField())
    replaced = fields.ListField(child=fields.CharField())
    unchanged = fields.ListField(child=fields.CharField())
    kept = fields.ListField(child=fields.CharField(), help_text="There with other content.")
    skipped_members = Refused(many=True, help_text="The first hundred.")
    skipped_count = fields.IntegerField()


@extend_schema(tags=["import"])
class ImportArchive(RunView):
    parser_classes = [MultiPartParser]

    @extend_schema(operation_id="import_archive", request=ImportRequest, responses=Imported)
    def post(self, request: Request) -> Response:
        """Import the runs of an archive. Existing runs are not changed."""
        params = _read_form(request)
        dry_run = params["dry_run"]
        try:
            report = archives.import_archive(
                params["file"].file, by=request.user, dry_run=dry_run, replace=params["replace"]
            )
        except archive.ArchiveTooLarge as error:
            raise TooLarge(f"Archive too large: {error}") from error
        except archive.ArchiveError as error:
            raise InvalidInput(
                f"Unsupported or corrupted archive: {error}", ["body", "file"]
            ) from error
        return Response(_report_json(report, dry_run))


def _report_json(report: archive.Report, dry_run: bool) -> dict[str, Any]:
    root = settings.RUNICORN_STORAGE_ROOT
    return {
        "ok": True,
        "imported_files": report.files,
        "new_run_dirs": sorted(str(root / directory) for directory in report.new_runs),
        "new_run_ids": sorted(directory.rpartition("/")[2] for directory in report.new_runs),
        "storage": str(root),
        "dry_run": dry_run,
        "imported_bytes": report.bytes,
        "new_artifacts": [d for d in report.new if not archive.is_run(d)],
        "replaced": report.replaced,
        "unchanged": report.unchanged,
        "kept": report.kept,
        "skipped_members": [{"member": name, "reason": why} for name, why in report.refused],
        "skipped_count": report.refused_count,
    }


def _read_form(request: Request) -> dict[str, Any]:
    largest = settings.RUNICORN_IMPORT_MAX_BYTES
    if int(request.META.get("CONTENT_LENGTH") or 0) > largest:
        raise TooLarge(f"Archive too large: at most {largest:,} bytes are taken")
    try:
        return ImportRequest.read(request)
    except ParseError as error:
        raise InvalidInput(NO_FILE, ["body", "file"]) from error
