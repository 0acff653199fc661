"""Which host keys are trusted: what the 409 of a connection asks for."""

from __future__ import annotations

from typing import Any

import asyncssh
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.http.exceptions import InvalidInput

from .. import actions
from ..owner.asking import ask
from ..ssh import transport
from . import serializers
from .base import OBJECT, RemoteView


@extend_schema(tags=["host keys"])
class AcceptHostKey(RemoteView):
    @extend_schema(
        operation_id="accept_host_key", request=serializers.HostKey, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Trust this key for this host from now on: what the 409 said, once a person agreed."""
        data = serializers.HostKey.read(request)
        host = _host(data["host"])
        _check_key(data)
        actions.accept_host_key(host, data["port"], data["public_key"], by=request.user)
        return Response({"ok": True})


@extend_schema(tags=["host keys"])
class HostKeys(RemoteView):
    @extend_schema(operation_id="list_host_keys", responses={200: OBJECT})
    def get(self, request: Request) -> Response:
        return Response({"entries": ask("list_host_keys")})


@extend_schema(tags=["host keys"])
class RemoveHostKey(RemoteView):
    @extend_schema(
        operation_id="remove_host_key", request=serializers.HostKeyName, responses={200: OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Trust no key of this type for this host any more."""
        data = serializers.HostKeyName.read(request)
        host, key_type = _host(data["host"]), _word(data, "key_type")
        changed = actions.remove_host_key(host, data["port"], key_type, by=request.user)
        return Response({"ok": True, "changed": changed})


def _host(host: str) -> str:
    if not transport.HOST.fullmatch(host):
        raise InvalidInput("Invalid host", ["body", "host"])
    return host


def _word(data: dict[str, Any], name: str) -> str:
    if len(data[name].split()) != 1 or data[name].strip() != data[name]:
        raise InvalidInput(f"Invalid {name}", ["body", name])
    return str(data[name])


def _check_key(data: dict[str, Any]) -> None:
    """Raises InvalidInput unless it is a key, and the one that the person saw."""
    key_type, fingerprint = _word(data, "key_type"), _word(data, "fingerprint_sha256")
    if not fingerprint.startswith("SHA256:"):
        raise InvalidInput("Invalid fingerprint_sha256", ["body", "fingerprint_sha256"])
    try:
        key = asyncssh.import_public_key(data["public_key"])
    except (asyncssh.KeyImportError, ValueError) as error:
        raise InvalidInput(f"Invalid public_key: {error}", ["body", "public_key"]) from error
    if key.get_algorithm() != key_type:
        raise InvalidInput("key_type does not match public_key", ["body", "key_type"])
    if key.get_fingerprint() != fingerprint:
        raise InvalidInput(
            "fingerprint_sha256 does not match public_key", ["body", "fingerprint_sha256"]
        )
