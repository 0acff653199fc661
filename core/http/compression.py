"""Gzip for clients that accept it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from .client_address import is_from_this_machine
from .doors import PageDoor, door_of

SMALLEST = 1024
LARGEST_ON_LOOPBACK = 2**20
"""Within one machine, compressing more than this takes longer than sending it."""


def compression(get_response: Any) -> Any:
    """Middleware: compress JSON. Streams compress themselves (``gzipped``)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        if not response.streaming and _is_worth_it(request, response):
            response.content = gzip.compress(response.content, compresslevel=1, mtime=0)
            response["Content-Encoding"] = "gzip"
            response["Content-Length"] = str(len(response.content))
        if not isinstance(door_of(request), PageDoor) or _is_json(response):
            patch_vary_headers(response, ("Accept-Encoding",))
        return response

    return middleware


def wants_gzip(request: HttpRequest, content_type: str) -> bool:
    """Return whether a response longer than ``LARGEST_ON_LOOPBACK`` should be compressed."""
    accepts_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
    return "json" in content_type and accepts_gzip and not is_from_this_machine(request)


def gzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


def _is_json(response: HttpResponse) -> bool:
    return "json" in response.get("Content-Type", "")


def _is_worth_it(request: HttpRequest, response: HttpResponse) -> bool:
    if not _is_json(response) or response.has_header("Content-Encoding"):
        return False
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return False
    size = len(response.content)
    return size >= SMALLEST and (size <= LARGEST_ON_LOOPBACK or not is_from_this_machine(request))
