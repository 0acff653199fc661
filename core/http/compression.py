"""Gzip for clients that accept it, and which compression a client accepts."""

from __future__ import annotations

import gzip
import re
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

_WEIGHT = re.compile(
    r"\s*;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.ASCII | re.IGNORECASE
)


def accepts(request: HttpRequest, coding: str) -> bool:
    """Return whether the client accepts *coding*, and not rather none (RFC 9110, 12.5.3).

    ``*`` counts for gzip alone: few who send it can read anything else. A member that cannot be
    understood is not accepted. Contents as they are (``identity``) are sent even to who refuses
    them and accepts nothing else.
    """
    weights: dict[str, float] = {}
    for member in request.headers.get("Accept-Encoding", "").split(","):
        name = member.partition(";")[0]
        match = _WEIGHT.fullmatch(member, len(name))
        weights[name.strip().lower()] = float(match[1]) if match else float(name == member)
    any_weight = weights.get("*", 0.0) if coding == "gzip" else 0.0
    weight = weights.get(coding, any_weight)
    return weight > 0 and weight >= weights.get("identity", 0.0)


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
    is_accepted = "json" in content_type and accepts(request, "gzip")
    return is_accepted and not is_from_this_machine(request)


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
    if not accepts(request, "gzip"):
        return False
    size = len(response.content)
    return size >= SMALLEST and (size <= LARGEST_ON_LOOPBACK or not is_from_this_machine(request))
