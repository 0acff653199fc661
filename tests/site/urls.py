"""Routes that misbehave in every way that an answer must stand."""

from django.urls import include, path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.permissions import Public
from core.http.rest import json_object


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


urlpatterns = [
    path("api/test/echo", Echo.as_view()),
    path("api/test/validate", Validate.as_view()),
    path("api/test/crash", Crash.as_view()),
    path("", include("runicorn_site.urls")),
]

handler400 = "core.http.errors.bad_request"
handler403 = "core.http.errors.permission_denied"
handler404 = "core.http.errors.page_not_found"
handler500 = "core.http.errors.server_error"
