"""Uploads over HTTP: announce, send what is missing, commit."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.exceptions import InvalidInput, TooLarge
from core.http.rest import load_json_object
from runicorn.artifacts import ReferenceEntry
from runicorn.artifacts.chunking import AVERAGE, SMALLEST_FILE, Chunk
from runicorn.artifacts.names import check_name, check_path, check_type, parse_digest
from runicorn.artifacts.staging import find_clash
from runicorn.artifacts.validation import EDITABLE, check_size

from .. import encodings, serializers, uploads
from ..exceptions import ContentsMissing, NameTaken, UploadMismatch, UploadNotFound, WrongOffset
from .base import Conflict, LockingView, checked, finite, integer, optional_texts, required

_NOTHING: dict[str, Any] = {"description": "", "metadata": {}, "tags": []}


class UploadView(LockingView):
    def upload(self, upload_id: str) -> uploads.Upload:
        try:
            return uploads.get(upload_id, by=self.request.user)
        except UploadNotFound:
            raise NotFound(f"Upload not found: {upload_id}") from None


def document(request: Request) -> dict[str, Any]:
    """The body, which may be larger than others: it names each of very many files, or chunks."""
    read = encodings.reader(request._request, uploads.LARGEST_PART)
    content = b"".join(iter(partial(read, 1 << 20), b""))
    return load_json_object(content, request.META.get("CONTENT_TYPE", ""))


def state(upload: uploads.Upload) -> dict[str, Any]:
    return {
        "upload_id": upload.id,
        "missing": upload.missing(),
        "encodings": ["zstd"],
        "chunks": {"average": AVERAGE, "smallest_file": SMALLEST_FILE},
    }


@extend_schema(tags=["artifacts"])
class UploadList(UploadView):
    @extend_schema(
        operation_id="start_artifact_upload",
        request=serializers.Plan,
        responses={201: serializers.UploadState},
    )
    def post(self, request: Request) -> Response:
        """Announce a version; the answer says which of its contents are missing here.

        At most 64 MiB, which is some 300,000 files, also zstd-encoded. With a ``key`` of your
        choice, an unfinished upload of the same is gone on with.
        """
        try:
            upload = uploads.start(plan(document(request)), by=request.user)
        except NameTaken as error:
            raise Conflict(str(error)) from None
        return Response(state(upload), status=201)


def plan(body: dict[str, Any]) -> dict[str, Any]:
    """An announced version in the form that is kept. Raises InvalidInput."""

    def listed(key: str) -> list[dict[str, Any]]:
        entries = body.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InvalidInput(f"{key} must be a list of objects.", ["body", key])
        return entries

    required(body, {"name": str})
    optional_texts(body, "description", "created_by_run", "key", "attempt")
    run = body.get("created_by_run") or ""
    files: list[dict[str, Any]] = []
    sizes: dict[str, int] = {}
    for place, entry in enumerate(listed("files")):
        loc = ("body", "files", place)
        size = checked(check_size, entry.get("size"), *loc, "size")
        digest = checked(parse_digest, entry.get("digest"), *loc, "digest")
        if sizes.setdefault(digest, size) != size:
            raise InvalidInput("One digest has two sizes.", [*loc, "size"])
        time = entry.get("modified_at")
        files.append(
            {
                "path": checked(check_path, entry.get("path"), *loc, "path"),
                "size": size,
                "digest": digest,
                "modified_at": None if time is None else finite(time, [*loc, "modified_at"]),
            }
        )
    references = []
    for place, entry in enumerate(listed("references")):
        loc = ("body", "references", place)
        reference = ReferenceEntry(
            entry.get("uri", ""),
            entry.get("checksum"),
            entry.get("size"),
            entry.get("metadata") or {},
        )
        checked(ReferenceEntry.check, reference, *loc)
        references.append(asdict(reference))
    checked(check_size, sum(each["size"] or 0 for each in references), "body", "references")
    if clash := find_clash([file["path"] for file in files]):
        raise InvalidInput(f"Two files cannot both be stored: {clash}", ["body", "files"])
    if not files and not references:
        raise InvalidInput("Artifact has no files or references to save", ["body", "files"])
    return {
        "name": checked(check_name, body["name"], "body", "name"),
        "type": checked(check_type, body.get("type") or "model", "body", "type"),
        "files": files,
        "references": references,
        **{
            key: checked(check, body.get(key) or _NOTHING[key], "body", key)
            for key, check in EDITABLE.items()
        },
        "created_by_run": run and checked(check_name, run, "body", "created_by_run"),
        "key": body.get("key") or "",
        "attempt": body.get("attempt") or "",
    }


@extend_schema(tags=["artifacts"])
class UploadDetail(UploadView):
    @extend_schema(operation_id="get_artifact_upload", responses=serializers.UploadState)
    def get(self, request: Request, upload_id: str) -> Response:
        """Which contents are still missing, and where to continue each."""
        upload = self.upload(upload_id)
        return Response(state(upload))

    @extend_schema(operation_id="cancel_artifact_upload", responses={204: None})
    def delete(self, request: Request, upload_id: str) -> HttpResponse:
        """Give the upload up."""
        uploads.discard(self.upload(upload_id), by=request.user)
        return HttpResponse(status=204)


@extend_schema(tags=["artifacts"])
class UploadPart(UploadView):
    @extend_schema(
        operation_id="upload_artifact_part",
        parameters=[OpenApiParameter("offset", OpenApiTypes.INT)],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=serializers.PartWritten,
    )
    def put(self, request: Request, upload_id: str, digest: str) -> Response:
        """Bytes of a content from an offset on, at most 64 MiB at once, also zstd-encoded."""
        upload = self.upload(upload_id)
        digest = content_of(upload, digest)
        offset = integer(request.query_params.get("offset", "0"), ["query", "offset"])
        read = body_reader(request)
        try:
            reached = uploads.write_part(upload, digest, offset, read)
        except WrongOffset as error:
            raise Conflict(str(error)) from None
        except UploadMismatch as error:
            raise InvalidInput(str(error), ["body"]) from None
        return Response({"offset": reached, "complete": reached == upload.sizes[digest]})


def content_of(upload: uploads.Upload, text: str) -> str:
    """The digest in the address, if the upload has such a content."""
    try:
        digest = parse_digest(text)
    except ValueError as error:
        raise InvalidInput(str(error), ["path", "digest"]) from None
    if digest not in upload.sizes:
        raise NotFound(f"The upload has no content sha256:{digest}")
    return digest


def body_reader(request: Request) -> uploads.Read:
    if int(request.META.get("CONTENT_LENGTH") or 0) > uploads.LARGEST_PART:
        raise TooLarge(f"Send at most {uploads.LARGEST_PART} bytes at once.")
    return encodings.reader(request._request, uploads.LARGEST_PART)


@extend_schema(tags=["artifacts"])
class UploadPack(UploadView):
    @extend_schema(
        operation_id="upload_artifact_pack",
        request={"application/x-tar": OpenApiTypes.BINARY},
        responses=serializers.PackReceived,
    )
    def put(self, request: Request, upload_id: str) -> Response:
        """Many small contents at once: a tar of files named by their digests, at most 64 MiB,
        also zstd-encoded. What has arrived is kept, even if the rest does not."""
        upload = self.upload(upload_id)
        try:
            received = uploads.write_pack(upload, body_reader(request))
        except UploadMismatch as error:
            raise InvalidInput(str(error), ["body"]) from None
        return Response({"received": received})


@extend_schema(tags=["artifacts"])
class UploadChunks(UploadView):
    @extend_schema(
        operation_id="build_artifact_content",
        request=serializers.Recipe,
        responses=serializers.LackingChunks,
    )
    def put(self, request: Request, upload_id: str, digest: str) -> Response:
        """Say of which chunks a content consists; the answer says which of them are missing here.

        Send those in packs and say it again: without missing ones the content is put together.
        Chunks that files of the newest version have need not be sent.
        """
        upload = self.upload(upload_id)
        digest = content_of(upload, digest)
        try:
            lacking = uploads.build(upload, digest, recipe(document(request)), by=request.user)
        except UploadMismatch as error:
            raise InvalidInput(str(error), ["body", "chunks"]) from None
        return Response({"missing": [chunk.digest for chunk in lacking], "complete": not lacking})


def recipe(body: dict[str, Any]) -> list[Chunk]:
    """The chunks in the body: a list of [digest, bytes]. Raises InvalidInput."""
    found = []
    for place, row in enumerate(required(body, {"chunks": list})["chunks"]):
        try:
            digest, length = row
            is_length = isinstance(length, int) and 0 < length <= uploads.LARGEST_PART
            found.append(Chunk(parse_digest(digest), length if is_length else int("")))
        except (TypeError, ValueError):
            loc: list[str | int] = ["body", "chunks", place]
            raise InvalidInput("A chunk is [sha256 digest, bytes].", loc) from None
    return found


@extend_schema(tags=["artifacts"])
class UploadCommit(UploadView):
    @extend_schema(
        operation_id="commit_artifact_upload",
        request=None,
        responses={201: serializers.VersionDetail},
    )
    def post(self, request: Request, upload_id: str) -> Response:
        """Make the upload a version, once: asked again, the answer is the same version."""
        try:
            version = uploads.commit(upload_id, by=request.user)
        except UploadNotFound:
            raise NotFound(f"Upload not found: {upload_id}") from None
        except (ContentsMissing, NameTaken) as error:
            raise Conflict(str(error)) from None
        except ValueError as error:
            raise InvalidInput(str(error), ["body"]) from None
        return Response(serializers.detail(version), status=201)
