"""Rules about which web pages may talk to this server, and what our own pages may load.

A program other than a browser sends no ``Origin`` and is let through: it could send anything. A
browser does not lie about the origin of a page, so that is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from corsheaders.middleware import ACCESS_CONTROL_ALLOW_HEADERS, CorsMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .doors import door_of

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Cors(CorsMiddleware):
    """CORS that answers a preflight as v0.4: ``OK``, with the requested headers."""

    def is_enabled(self, request: HttpRequest) -> bool:
        return door_of(request).is_open_to_other_sites

    def check_preflight(self, request: HttpRequest) -> HttpResponseBase | None:
        if super().check_preflight(request) is None:
            return None
        return HttpResponse("OK", content_type="text/plain; charset=utf-8")

    def add_response_headers(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        super().add_response_headers(request, response)
        requested_headers = request.headers.get("Access-Control-Request-Headers")
        if requested_headers and ACCESS_CONTROL_ALLOW_HEADERS in response:
            response[ACCESS_CONTROL_ALLOW_HEADERS] = requested_headers
        return response


_cors = Cors(lambda request: HttpResponse())


def comes_from_allowed_page(request: HttpRequest) -> bool:
    origin = request.headers.get("Origin")
    if not origin:
        return request.headers.get("Sec-Fetch-Site") != "cross-site"
    try:
        url = urlsplit(origin)
    except ValueError:
        return False
    return (
        settings.CORS_ALLOW_ALL_ORIGINS
        or url.netloc == request.get_host()
        or _cors.origin_found_in_white_lists(origin, url)
    )


def is_same_origin(request: HttpRequest) -> bool:
    """Return whether one of our own pages, or a program other than a browser, sent *request*."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    own = f"{request.scheme}://{request.get_host()}"
    return origin in (None, "", own) and site in ("none", "same-origin")


def refuse_cross_site(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: refuse changes by pages of other sites."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method not in SAFE_METHODS and not comes_from_allowed_page(request):
            return cross_site_refusal(request)
        return get_response(request)

    return middleware


def cross_site_refusal(request: HttpRequest) -> HttpResponse:
    detail = "Pages of other sites may not do this; RUNICORN_CORS_ORIGINS names the exceptions."
    return door_of(request).refuse(request, 403, detail)


CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "style-src 'self' 'unsafe-inline'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: keep logged content from running as a script or calling other sites."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    return middleware
