"""Routes that misbehave in every way that an answer must stand."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.permissions import Public
from core.http.rest import json_object

from .troubles import bugs, troubles


class Echo(APIView):
    permission_classes = [Public]

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user)})

    def post(self, request: Request) -> Response:
        return Response(json_object(request))

    def put(self, request: Request) -> Response:
        return Response(request.data)


class Numbers(serializers.Serializer):
    count = serializers.IntegerField(min_value=1)
    names = serializers.ListField(child=serializers.CharField())


class Validate(APIView):
    permission_classes = [Public]

    def post(self, request: Request) -> Response:
        numbers = Numbers(data=json_object(request))
        numbers.is_valid(raise_exception=True)
        return Response(numbers.data)


class Crash(APIView):
    permission_classes = [Public]

    def get(self, request: Request) -> Response:
        raise RuntimeError("the secret is 12345")


class Trouble(APIView):
    def get(self, request: Request, name: str) -> Response:
        fail(name)
        return Response()


def trouble_page(request: HttpRequest, name: str) -> HttpResponse:
    fail(name)
    return HttpResponse()


def fail(name: str) -> None:
    (troubles[name][0] if name in troubles else bugs[name])()


class Troubled:
    """A middleware outside all that translates errors, as the session's is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if name := request.headers.get("Fail-With"):
            fail(name)
        return self.get_response(request)


urlpatterns = [
    path("api/test/trouble/<name>", Trouble.as_view()),
    path("test/trouble/<name>", trouble_page),
    path("api/test/echo", Echo.as_view()),
    path("api/test/validate", Validate.as_view()),
    path("api/test/crash", Crash.as_view()),
    path("", include("runicorn_site.urls")),
]

handler400 = "core.http.errors.bad_request"
handler403 = "core.http.errors.permission_denied"
handler404 = "core.http.errors.page_not_found"
handler500 = "core.http.errors.server_error"
