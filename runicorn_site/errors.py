"""The error shape: ``{"detail": "<sentence>"}``; invalid input adds ``errors: [{loc, msg}]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import DisallowedHost, RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    MethodNotAllowed,
    NotFound,
    ValidationError,
)
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from metrics.exceptions import CorruptBlock

from .exceptions import InvalidInput, TooLarge

NOT_FOUND = "Not Found"
METHOD_NOT_ALLOWED = "Method Not Allowed"

_MESSAGES = {"required": "Field required", "not_a_list": "Input should be a valid list"}
"""What v0.4 says where Django REST framework has words of its own, by its error code."""


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to an exception that a view raised; None makes it a 500 (always a bug)."""
    if isinstance(error, MethodNotAllowed):
        # v0.4 mounts its web pages behind the API: what no route serves is a page not found.
        method = context["request"].method
        error = NotFound(NOT_FOUND) if method in ("GET", "HEAD") else _method_not_allowed(context)
    elif isinstance(error, RequestDataTooBig):
        error = TooLarge()
    elif isinstance(error, CorruptBlock):
        error = APIException(f"{error} The run has no folder to read it from again.")
    response = drf_exception_handler(error, context)
    if response is not None:
        if isinstance(error, InvalidInput):
            response.data["errors"] = error.errors
        elif isinstance(error, ValidationError):
            place = "query" if context["request"].method in ("GET", "HEAD") else "body"
            errors = list(_flatten(error.detail, (place,)))
            response.data = {"detail": _sentence(errors), "errors": errors}
    return response


def _method_not_allowed(context: dict[str, Any]) -> MethodNotAllowed:
    view = context["view"]
    # Written to the view because its default headers, set last, would name OPTIONS.
    view.headers["Allow"] = ", ".join(m for m in view.allowed_methods if m != "OPTIONS")
    return MethodNotAllowed(context["request"].method, detail=METHOD_NOT_ALLOWED)


def _flatten(detail: Any, loc: tuple[str | int, ...]) -> Iterator[dict[str, Any]]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from _flatten(value, loc if key == "non_field_errors" else (*loc, key))
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            # A list of messages belongs to its field; a list of anything else has places.
            yield from _flatten(value, loc if isinstance(value, ErrorDetail) else (*loc, index))
    else:
        yield {"loc": list(loc), "msg": _MESSAGES.get(detail.code, str(detail))}


def _sentence(errors: list[dict[str, Any]]) -> str:
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, error["loc"][1:])), error["msg"])))
        for error in errors
    )


# -- outside Django REST framework ---------------------------------------------------------------


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def json_error(status_code: int, detail: str, **more: Any) -> JsonResponse:
    return JsonResponse(
        {"detail": detail, **more},
        status=status_code,
        json_dumps_params={"separators": (",", ":"), "ensure_ascii": False},
    )


def no_head(get_response: Any) -> Any:
    """Middleware: the v0.4 API serves no HEAD."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method == "HEAD" and is_api(request):
            return json_error(404, NOT_FOUND)
        return get_response(request)

    return middleware


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.bad_request(request, exception)
    if isinstance(exception, DisallowedHost):
        return json_error(400, "This Host is not served: use the server's own name or address.")
    return json_error(400, "The request is malformed.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.permission_denied(request, exception)
    return json_error(403, str(exception) or "You may not do this.")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.page_not_found(request, exception)
    if request.method in ("GET", "HEAD"):
        return json_error(404, NOT_FOUND)
    response = json_error(405, METHOD_NOT_ALLOWED)
    response["Allow"] = "GET, HEAD"
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    if not is_api(request):
        return defaults.server_error(request)
    return json_error(500, "Internal Server Error: the server's log says why.")
