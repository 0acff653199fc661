"""Doors: the rules that requests under the same address prefixes share.

A door declares its prefixes, the shape of its errors, its rate limits, whether it serves HEAD, and
whether pages of other sites that the settings name may use it. Code asks ``door_of(request)``,
never whether an address begins with ``/api/``. An address without a route still belongs to a door,
which refuses it in its own shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views import defaults

NOT_FOUND = "Not Found"
METHOD_NOT_ALLOWED = "Method Not Allowed"


def json_error(status_code: int, detail: str, **members: Any) -> JsonResponse:
    """Return the error shape of our own API: ``{"detail": "<sentence>"}`` and *members*."""
    return JsonResponse(
        {"detail": detail, **members},
        status=status_code,
        json_dumps_params={"separators": (",", ":"), "ensure_ascii": False},
    )


@dataclass(frozen=True)
class Door:
    """The door of our own API; other doors differ in fields, or override ``refuse``."""

    name: str
    prefixes: tuple[str, ...]

    is_limited: bool = True
    """Whether requests are counted, and responses say how many are left."""

    limits: Mapping[str, int] = field(default_factory=dict)
    """Requests per minute by ``METHOD /route``, where they differ from the default."""

    serves_head: bool = False
    is_open_to_other_sites: bool = True
    """Whether pages of the origins that the settings allow may use it (CORS)."""

    def refuse(
        self,
        request: HttpRequest,
        status: int,
        detail: str,
        error: Exception | None = None,
        **members: Any,
    ) -> HttpResponse:
        """Return an error response with *status* in this door's shape."""
        return json_error(status, detail, **members)

    def page_not_found(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Return the response to an address without a route.

        v0.4 mounts its web pages behind the API: an address without a route is a page that does
        not exist, and pages accept no method but GET and HEAD.
        """
        if request.method in ("GET", "HEAD"):
            return self.refuse(request, 404, NOT_FOUND, error)
        response = self.refuse(request, 405, METHOD_NOT_ALLOWED, error)
        response["Allow"] = "GET, HEAD"
        return response


@dataclass(frozen=True)
class PageDoor(Door):
    """Pages for people: Django's own error pages, no limits, HEAD, our own origin only."""

    is_limited: bool = False
    serves_head: bool = True
    is_open_to_other_sites: bool = False

    def refuse(
        self,
        request: HttpRequest,
        status: int,
        detail: str,
        error: Exception | None = None,
        **members: Any,
    ) -> HttpResponse:
        error = error or Exception(detail)
        if status == 400:
            return defaults.bad_request(request, error)
        if status == 403:
            return defaults.permission_denied(request, error)
        if status == 404:
            return defaults.page_not_found(request, error)
        if status == 500:
            return defaults.server_error(request)
        # Without the request: neither the session nor the user may be there to be read.
        try:
            return HttpResponse(render_to_string("refused.html", {"detail": detail}), status=status)
        except OSError:  # too many files are open to read the template
            return HttpResponse(detail, status=status, content_type="text/plain; charset=utf-8")

    def page_not_found(self, request: HttpRequest, error: Exception) -> HttpResponse:
        return self.refuse(request, 404, NOT_FOUND, error)


_doors: dict[str, Door] = {}


def register(*doors: Door) -> None:
    """Register *doors*. One of them must have the prefix ``/``: every address has a door."""
    for door in doors:
        _doors.update(dict.fromkeys(door.prefixes, door))


def door_at(path: str) -> Door:
    """Return the door with the longest prefix of *path*, an address without the sub-path."""
    return _doors[max((prefix for prefix in _doors if path.startswith(prefix)), key=len)]


def door_of(request: HttpRequest) -> Door:
    return door_at(request.path_info)
