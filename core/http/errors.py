"""The error shape: ``{"detail": "<sentence>"}``; invalid input adds ``errors: [{loc, msg}]``."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.core.exceptions import DisallowedHost, RequestDataTooBig
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    MethodNotAllowed,
    NotFound,
    ValidationError,
)
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from . import trouble
from .doors import METHOD_NOT_ALLOWED, NOT_FOUND, PageDoor, door_of
from .exceptions import InvalidInput, TooLarge
from .fields import SENTENCE

_MESSAGES = {"required": "Field required", "not_a_list": "Input should be a valid list"}
"""The messages of v0.4 that differ from those of Django REST framework, by its error code."""

translations: dict[type[Exception], Callable[[Any], APIException | None]] = {
    RequestDataTooBig: lambda error: TooLarge(),
    OSError: trouble.of_system,
    DatabaseError: trouble.of_database,
    InterfaceError: trouble.of_database,
    sqlite3.Error: trouble.of_database,
}
"""The response to an exception that a view does not catch; None for a bug.

The entry of the nearest base class counts. Apps add theirs.
"""


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response to an exception of a view; None makes it a 500 (always a bug)."""
    if isinstance(error, MethodNotAllowed):
        # As for an address without a route (see ``Door.page_not_found``).
        method = context["request"].method
        error = NotFound(NOT_FOUND) if method in ("GET", "HEAD") else _method_not_allowed(context)
    else:
        error = translated(error) or error
    response = drf_exception_handler(error, context)
    if response is not None:
        if isinstance(error, InvalidInput):
            response.data["errors"] = error.errors
        elif isinstance(error, ValidationError):
            by_method = "query" if context["request"].method in ("GET", "HEAD") else "body"
            location = getattr(error, "location", by_method)
            errors = list(_flatten(error.detail, (location,)))
            response.data = {
                "detail": "; ".join(sentence for sentence, _ in errors),
                "errors": [entry for _, entry in errors],
            }
    return response


def translated(error: Exception) -> APIException | None:
    """Return the API error that answers *error*, an exception of our own or of a library."""
    if isinstance(error, APIException):
        return error
    translate = next((translations[c] for c in type(error).__mro__ if c in translations), None)
    return translate(error) if translate else None


def refuse(request: HttpRequest, api_error: APIException, error: Exception) -> HttpResponse:
    """Return the response to *error*, translated to *api_error*, in the shape of the door."""
    response = door_of(request).refuse(request, api_error.status_code, str(api_error.detail), error)
    if wait := getattr(api_error, "wait", None):
        response["Retry-After"] = str(wait)
    return response


def _method_not_allowed(context: dict[str, Any]) -> MethodNotAllowed:
    view = context["view"]
    # Set on the view: its default headers are written last and would name OPTIONS.
    view.headers["Allow"] = ", ".join(m for m in view.allowed_methods if m != "OPTIONS")
    return MethodNotAllowed(context["request"].method, detail=METHOD_NOT_ALLOWED)


def _flatten(
    detail: Any, loc: tuple[str | int, ...]
) -> Iterator[tuple[str, dict[str, list[str | int] | str]]]:
    """Yield each error as a sentence, and as its location and message."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from _flatten(value, loc if key == "non_field_errors" else (*loc, key))
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            # A list of messages belongs to its field; the items of any other list have indexes.
            yield from _flatten(value, loc if isinstance(value, ErrorDetail) else (*loc, index))
    else:
        message = _MESSAGES.get(detail.code, str(detail))
        name = "" if detail.code == SENTENCE else ".".join(map(str, loc[1:]))
        yield f"{name}: {message}" if name else message, {"loc": list(loc), "msg": message}


# -- outside Django REST framework ---------------------------------------------------------------


def no_head(get_response: Any) -> Any:
    """Middleware: refuse HEAD where the door does not serve it, as the v0.4 API."""

    def middleware(request: HttpRequest) -> HttpResponse:
        door = door_of(request)
        if request.method == "HEAD" and not door.serves_head:
            return door.refuse(request, 404, NOT_FOUND)
        return get_response(request)

    return middleware


class TranslateErrors:
    """Middleware: translate the errors of pages and the admin, which are not REST views."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        api_error = translated(error)
        return None if api_error is None else refuse(request, api_error, error)


def no_nul(get_response: Any) -> Any:
    """Middleware: an address of a page has no NUL, for which databases refuse to look.

    The API's fields say themselves which of them has one.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        door = door_of(request)
        if isinstance(door, PageDoor):
            if "%00" in request.META.get("QUERY_STRING", ""):
                return door.refuse(request, 400, "The address has a NUL character.")
            if "\x00" in request.path_info:
                return door.refuse(request, 404, NOT_FOUND)
        return get_response(request)

    return middleware


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    detail = "The request is malformed."
    if isinstance(exception, DisallowedHost):
        detail = "This Host is not served: use the server's own name or address."
    return door_of(request).refuse(request, 400, detail, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    detail = str(exception) or "You may not do this."
    return door_of(request).refuse(request, 403, detail, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return door_of(request).page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an error that nothing has translated yet: that of a middleware, or a bug."""
    error = sys.exception()
    if isinstance(error, Exception) and (api_error := translated(error)) is not None:
        return refuse(request, api_error, error)
    detail = "Internal Server Error: the server's log says why."
    return door_of(request).refuse(request, 500, detail)
