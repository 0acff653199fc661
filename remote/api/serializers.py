"""What the remote API takes, and the shape of what it gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ..ssh import transport


class Login(serializers.Serializer):
    """A host, and how to log in there."""

    host = serializers.RegexField(rf"\A{transport.HOST.pattern}\Z", max_length=255)
    port = serializers.IntegerField(required=False, min_value=1, max_value=65535, allow_null=True)
    username = serializers.RegexField(rf"\A{transport.USERNAME.pattern}\Z", max_length=255)
    password = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, trim_whitespace=False, write_only=True
    )
    private_key = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, trim_whitespace=False, write_only=True
    )
    private_key_path = serializers.CharField(required=False, allow_null=True, allow_blank=True)
    passphrase = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, trim_whitespace=False, write_only=True
    )
    use_agent = serializers.BooleanField(required=False, default=True)
    saved = serializers.CharField(
        required=False,
        allow_null=True,
        help_text="Key or name of a saved connection, instead of host, port and username.",
    )

    def address(self) -> transport.Address:
        data = self.validated_data
        return transport.find_address(data["host"], data.get("port"), data["username"])

    def credentials(self) -> transport.Credentials:
        data = self.validated_data
        names = ("password", "private_key", "private_key_path", "passphrase")
        return transport.Credentials(
            **{name: data.get(name) or None for name in names}, use_agent=data["use_agent"]
        )


class ViewerOptions(serializers.Serializer):
    """What to show on a host, beside how to log in there."""

    remote_root = serializers.RegexField(r"\A[^\x00-\x1f]+\Z", max_length=4096)
    local_port = serializers.IntegerField(
        required=False, min_value=1, max_value=65535, allow_null=True
    )
    remote_port = serializers.IntegerField(
        required=False, min_value=1, max_value=65535, allow_null=True
    )
    conda_env = serializers.CharField(required=False, allow_null=True, allow_blank=True)


class ViewerRequest(ViewerOptions, Login):
    connection_id = serializers.CharField(
        required=False, help_text="An open connection, instead of a login: `user@host:port`."
    )


class SessionName(serializers.Serializer):
    session_id = serializers.CharField(max_length=64)


class HostKey(serializers.Serializer):
    """A host key that a person has confirmed."""

    host = serializers.CharField(max_length=255)
    port = serializers.IntegerField(min_value=1, max_value=65535)
    key_type = serializers.CharField(max_length=255)
    public_key = serializers.CharField(max_length=8192)
    fingerprint_sha256 = serializers.CharField(max_length=255)


class HostKeyName(serializers.Serializer):
    host = serializers.CharField(max_length=255)
    port = serializers.IntegerField(min_value=1, max_value=65535)
    key_type = serializers.CharField(max_length=255)


class Peer(serializers.Serializer):
    host = serializers.CharField(max_length=255)
    port = serializers.IntegerField(min_value=1, max_value=65535, default=22)
    username = serializers.CharField(max_length=255)


def legacy_login(body: dict[str, Any]) -> dict[str, Any]:
    """The body of ``/ssh/connect`` in the words of the others."""
    renamed = {"pkey": "private_key", "pkey_path": "private_key_path"}
    return {renamed.get(name, name): value for name, value in body.items()}
