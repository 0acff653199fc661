"""The load of the server's machine."""

from __future__ import annotations

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.permissions import MaySee
from runicorn import telemetry


class GpusAnswer(serializers.Serializer):
    available = serializers.BooleanField()
    reason = serializers.CharField(required=False, help_text="Why there is none to see.")
    ts = serializers.FloatField(required=False)
    gpus = serializers.ListField(child=serializers.DictField(), required=False)


class SystemAnswer(serializers.Serializer):
    available = serializers.BooleanField()
    ts = serializers.FloatField()
    cpu = serializers.DictField()
    memory = serializers.DictField()
    disk = serializers.DictField(help_text="Of the storage folder.")
    platform = serializers.DictField()


@extend_schema(tags=["gpu"])
class Gpus(APIView):
    permission_classes = [MaySee]

    @extend_schema(operation_id="get_gpu_telemetry", responses=GpusAnswer)
    def get(self, request: Request) -> Response:
        """Return the GPUs of the server's machine: NVIDIA, AMD, Ascend or Apple."""
        return Response(telemetry.gpus())


@extend_schema(tags=["gpu"])
class System(APIView):
    permission_classes = [MaySee]

    @extend_schema(operation_id="get_system_monitor", responses=SystemAnswer)
    def get(self, request: Request) -> Response:
        """Return the use of processors, memory, and the disk of the storage folder."""
        return Response(
            {**telemetry.system(), "disk": telemetry.disk(settings.RUNICORN_STORAGE_ROOT)}
        )
