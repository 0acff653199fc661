"""Reading and writing JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from email.message import Message
from typing import IO, Any

import orjson
from django.http import HttpRequest
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

from .exceptions import InvalidInput

_encode_other = JSONEncoder().default


def dump_json(data: Any) -> bytes:
    """Return compact JSON: non-ASCII as it is, NaN and infinities as null, integers of any size."""
    try:
        return orjson.dumps(data, default=_encode_other)
    except TypeError:  # integers beyond 64 bits, lone surrogates, keys that are not text
        text = json.dumps(_finite(data), cls=JSONEncoder, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")  # writes the surrogate's JSON escape


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data


def load_json_object(content: bytes, content_type: str) -> dict[str, Any]:
    """Return the JSON object in a request's body. Raises InvalidInput for anything else.

    As in v0.4, a body without a content type counts as JSON.
    """
    return _load(content, content_type, dict, "object", "dictionary")


def _load(content: bytes, content_type: str, kind: type, name: str, msg: str) -> Any:
    if not content:
        raise InvalidInput(
            f"The request body is missing: send a JSON {name}.", ["body"], "Field required"
        )
    try:
        data = json.loads(content) if _is_json(content_type) else None
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", getattr(error, "start", 0))
        raise InvalidInput(
            f"The request body is not valid JSON (at character {position}).",
            ["body", position],
            "JSON decode error",
        ) from error
    if not isinstance(data, kind):
        raise InvalidInput(
            f"The request body must be a JSON {name}, sent as application/json.",
            ["body"],
            f"Input should be a valid {msg}",
        )
    return data


def _is_json(content_type: str) -> bool:
    if not content_type:
        return True
    message = Message()
    message["Content-Type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )


def json_object(request: Request | HttpRequest) -> dict[str, Any]:
    """Return the JSON object in the body of *request*. Raises InvalidInput if it has none.

    Unlike ``request.data``, it refuses an absent body, and reads a chunked one.
    """
    return load_json_object(request.body, request.META.get("CONTENT_TYPE", ""))


def json_list(request: Request | HttpRequest) -> list[Any]:
    """Return the JSON list in the body of *request*. Raises InvalidInput if it has none."""
    content_type = request.META.get("CONTENT_TYPE", "")
    items: list[Any] = _load(request.body, content_type, list, "list", "list")
    return items


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        # Not from the stream: DATA_UPLOAD_MAX_MEMORY_SIZE limits the request's ``body``.
        return json_object((parser_context or {})["request"])


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return dump_json(data)


class FirstOfEach(BaseContentNegotiation):
    """Ignore ``Accept`` and ``?format=`` as v0.4 does, which has neither 406 nor 415."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        first = next(iter(renderers))
        return first, first.media_type
