"""Uploads over HTTP: announce, send missing contents, commit."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.exceptions import Conflict, InvalidInput, TooLarge
from core.http.permissions import SeeOrChange
from core.http.rest import load_json_object
from runicorn.artifacts.chunking import AVERAGE, SMALLEST_FILE
from runicorn.artifacts.names import parse_digest

from .. import encodings, serializers, uploads
from ..exceptions import ContentsMissing, NameTaken, UploadMismatch, UploadNotFound, WrongOffset


class UploadView(APIView):
    permission_classes = [SeeOrChange]

    def upload(self, upload_id: str) -> uploads.Upload:
        try:
            return uploads.get(upload_id, by=self.request.user)
        except UploadNotFound:
            raise NotFound(f"Upload not found: {upload_id}") from None


def document(request: Request) -> dict[str, Any]:
    """Return the body, which may be larger than others: it lists very many files or chunks."""
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
        """Announce a version; the response says which of its contents are missing here.

        At most 64 MiB, which is some 300,000 files, also zstd-encoded. With a ``key`` of your
        choice, an unfinished upload of the same contents is continued.
        """
        try:
            plan = serializers.Plan.check(document(request))
            upload = uploads.start(plan, by=request.user)
        except NameTaken as error:
            raise Conflict(str(error)) from None
        return Response(state(upload), status=201)


@extend_schema(tags=["artifacts"])
class UploadDetail(UploadView):
    @extend_schema(operation_id="get_artifact_upload", responses=serializers.UploadState)
    def get(self, request: Request, upload_id: str) -> Response:
        """Return the contents that are still missing, and the offset to continue each from."""
        upload = self.upload(upload_id)
        return Response(state(upload))

    @extend_schema(operation_id="cancel_artifact_upload", responses={204: None})
    def delete(self, request: Request, upload_id: str) -> HttpResponse:
        """Discard the upload."""
        uploads.discard(self.upload(upload_id), by=request.user)
        return HttpResponse(status=204)


@extend_schema(tags=["artifacts"])
class UploadPart(UploadView):
    @extend_schema(
        operation_id="upload_artifact_part",
        parameters=[serializers.OffsetQuery],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=serializers.PartWritten,
    )
    def put(self, request: Request, upload_id: str, digest: str) -> Response:
        """Append bytes to a content at an offset, at most 64 MiB at once, also zstd-encoded."""
        upload = self.upload(upload_id)
        digest = content_of(upload, digest)
        offset = serializers.OffsetQuery.read(request)["offset"]
        read = body_reader(request)
        try:
            reached = uploads.write_part(upload, digest, offset, read)
        except WrongOffset as error:
            raise Conflict(str(error)) from None
        except UploadMismatch as error:
            raise InvalidInput(str(error), ["body"]) from None
        return Response({"offset": reached, "complete": reached == upload.sizes[digest]})


def content_of(upload: uploads.Upload, text: str) -> str:
    """Return the digest *text* of an address; 404 if the upload has no such content."""
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
        """Receive many small contents at once: a tar of files named by their digests, at most
        64 MiB, also zstd-encoded. Complete contents are kept even if the tar ends early."""
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
        responses=serializers.MissingChunks,
    )
    def put(self, request: Request, upload_id: str, digest: str) -> Response:
        """Announce the chunks of a content; the response says which of them are missing here.

        Send those in packs and repeat the request: without missing chunks the content is built.
        Chunks that files of the newest version contain need not be sent.
        """
        upload = self.upload(upload_id)
        digest = content_of(upload, digest)
        recipe = serializers.Recipe.check(document(request))
        try:
            missing = uploads.build(upload, digest, recipe["chunks"], by=request.user)
        except UploadMismatch as error:
            raise InvalidInput(str(error), ["body", "chunks"]) from None
        return Response({"missing": [chunk.digest for chunk in missing], "complete": not missing})


@extend_schema(tags=["artifacts"])
class UploadCommit(UploadView):
    @extend_schema(
        operation_id="commit_artifact_upload",
        request=None,
        responses={201: serializers.VersionDetail},
    )
    def post(self, request: Request, upload_id: str) -> Response:
        """Make the upload a version, once; a repeated request returns the same version."""
        try:
            version = uploads.commit(upload_id, by=request.user)
        except UploadNotFound:
            raise NotFound(f"Upload not found: {upload_id}") from None
        except (ContentsMissing, NameTaken) as error:
            raise Conflict(str(error)) from None
        except ValueError as error:
            raise InvalidInput(str(error), ["body"]) from None
        return Response(serializers.detail(version), status=201)
