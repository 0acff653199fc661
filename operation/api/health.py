from __future__ import annotations

import time

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.http.permissions import Public
from runs.ingest import progress

from .. import index_health


class CacheSerializer(serializers.Serializer):
    enabled = serializers.BooleanField()
    hit_rate = serializers.CharField()
    hits = serializers.IntegerField()
    misses = serializers.IntegerField()
    size = serializers.IntegerField()
    max_size = serializers.IntegerField()


class IngestSerializer(serializers.Serializer):
    state = serializers.ChoiceField(["stopped", "scanning", "watching"])
    found = serializers.IntegerField()
    indexed = serializers.IntegerField()
    failed = serializers.IntegerField()
    failures = serializers.DictField(
        child=serializers.CharField(), help_text="Run folders that could not be indexed, and why."
    )
    error = serializers.CharField(allow_blank=True)


class IndexSerializer(serializers.Serializer):
    state = serializers.ChoiceField(["ok", "checking", "rebuilt"])
    set_aside = serializers.CharField(
        allow_blank=True, help_text="The file of a damaged index that was replaced since the start."
    )
    reason = serializers.CharField(allow_blank=True)


class HealthSerializer(serializers.Serializer):
    status = serializers.CharField()
    version = serializers.CharField()
    timestamp = serializers.FloatField()
    storage = serializers.CharField()
    cache = CacheSerializer()
    ingest = IngestSerializer()
    index = IndexSerializer()


# v0.4 parsed files on request and cached the result; here all data comes from the index.
NO_CACHE = {
    "enabled": False,
    "hit_rate": "0.0%",
    "hits": 0,
    "misses": 0,
    "size": 0,
    "max_size": 100,
}


class Health(APIView):
    """The state of the server, and the progress of indexing the storage root.

    It touches neither the run folders nor the database.
    """

    permission_classes = [Public]

    @extend_schema(responses=HealthSerializer, tags=["health"])
    def get(self, request: Request) -> Response:
        return Response(
            {
                "status": "ok",
                "version": settings.VERSION,
                "timestamp": time.time(),
                "storage": str(settings.RUNICORN_STORAGE_ROOT),
                "cache": NO_CACHE,
                "ingest": progress.snapshot(),
                "index": index_health.describe(),
            }
        )
