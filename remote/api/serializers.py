"""The bodies that the remote API takes. What they declare is what is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from core.http import fields
from core.http.fields import SENTENCE, Choice, Flag, Integer, OptionalText, Text, TextList
from runicorn import config

from ..ssh import transport
from ..sync import cache, registry


class Body(fields.Body):
    """Answers one thing that is wrong, where v0.4 has a sentence for it."""

    @classmethod
    def check(cls, data: Any, **options: Any) -> dict[str, Any]:
        try:
            return super().check(data, **options)
        except serializers.ValidationError as error:
            details: Any = error.detail
            name, problems = next(iter(details.items()))
            if isinstance(problems, list) and problems[0].code == SENTENCE:
                error.detail = {name: problems[:1]}
            raise


def said(sentence: str) -> dict[str, Any]:
    """Return the ``error_messages`` of a field that says *sentence* to whatever is wrong."""
    return dict.fromkeys(("required", "null", "blank", "invalid", "not_a_list"), sentence)


class Pattern(Text):
    """A text that is *pattern* as a whole."""

    def __init__(self, pattern: str, most: int = 255, **options: Any) -> None:
        super().__init__(**options)
        self._pattern, self._most = re.compile(pattern), most

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if len(text) > self._most or not self._pattern.fullmatch(text):
            self.fail("invalid")
        return text


class Port(Integer):
    default_error_messages = {"out_of_range": "Input should be a number from 1 to 65535"}

    def to_internal_value(self, data: Any) -> int:
        port = super().to_internal_value(data)
        if not 0 < port < 65536:
            self.fail("out_of_range")
        return port


class Positive(fields.Number):
    """A number above 0 and below *limit*."""

    def __init__(self, name: str, *, limit: float = 86400, **options: Any) -> None:
        super().__init__(error_messages=said(f"{name} must be a positive number"), **options)
        self._limit = limit

    def to_internal_value(self, data: Any) -> float:
        number = super().to_internal_value(data)
        if not 0 < number < self._limit:
            self.fail("invalid")
        return number


def _text(sentence: str, **options: Any) -> Text:
    return Text(error_messages=said(sentence), **options)


def _flag(name: str, **options: Any) -> Flag:
    return Flag(error_messages=said(f"{name} must be true or false"), **options)


# -- logging in ------------------------------------------------------------------------------------

HOST, USERNAME = transport.HOST.pattern, transport.USERNAME.pattern
WHERE = ("host", "port", "username")


class Login(Body):
    """A host, and how to log in there; or a saved connection, whatever else is said."""

    host = Pattern(HOST)
    port = Port(required=False, allow_null=True)
    username = Pattern(USERNAME)
    password = OptionalText(write_only=True)
    private_key = OptionalText(write_only=True)
    private_key_path = OptionalText()
    passphrase = OptionalText(write_only=True)
    use_agent = Flag(default=True)
    saved = OptionalText(
        help_text="Key or name of a saved connection, instead of host, port and username."
    )

    def get_fields(self) -> dict[str, serializers.Field]:
        declared = super().get_fields()
        is_saved = _has(self, "saved")
        return {n: field for n, field in declared.items() if not (is_saved and n in WHERE)}


def _has(body: Body, name: str) -> bool:
    data = getattr(body, "initial_data", None)
    return isinstance(data, Mapping) and bool(data.get(name))


class LegacyLogin(Login):
    """The same in the words of ``/ssh/connect``."""

    host = Pattern(HOST, error_messages=said("host and username are required"))
    username = Pattern(USERNAME, error_messages=said("host and username are required"))
    pkey = OptionalText(write_only=True)
    pkey_path = OptionalText()

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        renamed = {"pkey": "private_key", "pkey_path": "private_key_path"}
        return {renamed.get(name, name): value for name, value in data.items() if value is not None}


CONFIGURATION = "Invalid configuration: "


class StoragePort(Port):
    default_error_messages = dict.fromkeys(
        ("invalid", "too_large", "out_of_range"), CONFIGURATION + "Invalid port: {input}"
    )
    whole_sentences = frozenset(default_error_messages)

    def to_internal_value(self, data: Any) -> int:
        self._input = data
        return super().to_internal_value(data)

    def fail(self, key: str, **values: Any) -> Any:
        return super().fail(key, input=self._input, **values)


class StorageLogin(Login):
    """A login with the root to sync, as 0.4's remote storage takes it."""

    host = Pattern(HOST, error_messages=said(CONFIGURATION + "Host is required"))
    username = Pattern(USERNAME, error_messages=said(CONFIGURATION + "Username is required"))
    port = StoragePort(required=False, allow_null=True)
    remote_root = _text(CONFIGURATION + "Remote root directory is required", max_length=4096)
    auto_sync = _flag(CONFIGURATION + "auto_sync", default=True)
    sync_interval_minutes = Positive(
        CONFIGURATION + "sync_interval_minutes", limit=1441, default=10.0
    )

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        proofs = ("use_agent", "saved", "password", "private_key", "private_key_path")
        if not any(data.get(name) for name in proofs):
            sentence = CONFIGURATION + "At least one authentication method is required"
            raise serializers.ValidationError(sentence, code=SENTENCE)
        return data


class Peer(Body):
    host = Text(max_length=255)
    port = Port(default=22)
    username = Text(max_length=255)


# -- viewers ---------------------------------------------------------------------------------------


class ViewerOptions(Body):
    """What to show on a host, beside how to log in there."""

    remote_root = Pattern(r"[^\x00-\x1f]+", 4096)
    local_port = Port(required=False, allow_null=True)
    remote_port = Port(required=False, allow_null=True)
    conda_env = OptionalText()
    connection_id = OptionalText(
        help_text="An open connection, instead of a login: `user@host:port`."
    )


class ViewerRequest(ViewerOptions, Login):
    """With a ``connection_id``, nothing of a login is needed."""

    def get_fields(self) -> dict[str, serializers.Field]:
        declared = super().get_fields()
        names = ViewerOptions().get_fields() if _has(self, "connection_id") else declared
        return {name: declared[name] for name in names}


class SessionName(Body):
    session_id = Text(max_length=64)


# -- host keys -------------------------------------------------------------------------------------


class HostKeyName(Body):
    host = Text(max_length=255)
    port = Port()
    key_type = Text(max_length=255)


class HostKey(HostKeyName):
    """A host key that a person has confirmed."""

    public_key = Text(max_length=8192)
    fingerprint_sha256 = Text(max_length=255)


# -- syncs -----------------------------------------------------------------------------------------


def _mode(sentence: str, *choices: str) -> Choice:
    messages = {"required": "mode is required", "invalid_choice": sentence}
    return Choice(choices=choices, error_messages=messages)


class ModeName(Body):
    mode = _mode("Unknown mode: {input}", registry.SMART, registry.MIRROR)


class ModeOptions(ModeName):
    remote_root = Text(max_length=4096)
    mirror_interval = Positive("mirror_interval", default=2.0)
    sync_interval_minutes = Positive("sync_interval_minutes", default=5.0)
    sync_interval_seconds = Positive("sync_interval_seconds", required=False)
    auto_sync = _flag("auto_sync", default=True)
    max_cache_size_gb = Positive("max_cache_size_gb", default=cache.DEFAULT_BYTES / 2**30)

    def get_fields(self) -> dict[str, serializers.Field]:
        declared = super().get_fields()
        for mode in (registry.SMART, registry.MIRROR):
            if getattr(self, "initial_data", {}).get("mode") == mode:
                sentence = f"remote_root is required for {mode} mode"
                declared["remote_root"] = _text(sentence, max_length=4096)
        return declared


class LegacySessionName(Body):
    session_id = _text("session_id required")


class LegacyTaskName(Body):
    task_id = _text("task_id required")


class MirrorOptions(Body):
    session_id = _text("session_id and remote_root are required")
    remote_root = _text("session_id and remote_root are required", max_length=4096)
    interval = Positive("interval", default=2.0)


# -- the remote storage of 0.4 ---------------------------------------------------------------------


class StorageMode(Body):
    mode = _mode("Invalid mode: {input}. Must be 'local' or 'remote'", "local", "remote")


class Download(Body):
    target_dir = OptionalText(
        error_messages=said("Invalid target directory: it must be text"), allow_blank=True
    )


class Alias(Body):
    alias = _text("alias is required", allow_blank=True)


class Tags(Body):
    tags = TextList(error_messages=said("tags must be a list of text"))


# -- saved hosts -----------------------------------------------------------------------------------


SAVING = "Failed to save connection: "
PORT = "port must be a number from 1 to 65535"
METHODS = SAVING + f"auth_method must be one of {', '.join(config.AUTH_METHODS)}"


class SavedPort(Port):
    """A port as the light package takes it: no text."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool) or not 0 < data < 65536:
            self.fail("invalid")
        return data


def _kept(name: str) -> OptionalText:
    return OptionalText(error_messages=said(f"{SAVING}{name} must be text"))


class SavedHost(Body):
    """A connection to be saved. The light package checks what a program without server saves."""

    host = _text(SAVING + "host and username are required")
    port = SavedPort(default=22, error_messages=said(SAVING + PORT))
    username = _text(SAVING + "host and username are required")
    name = _kept("name")
    auth_method = Choice(
        choices=config.AUTH_METHODS, default="password", error_messages={"invalid_choice": METHODS}
    )
    remember_password = _flag(SAVING + "remember_password", default=False)
    private_key_path = _kept("private_key_path")
    password = _kept("password")
    private_key = _kept("private_key")
    passphrase = _kept("passphrase")


class ShownHost(serializers.Serializer):
    """A saved connection as it is shown: without its secrets."""

    key = serializers.CharField()
    host = serializers.CharField()
    port = serializers.IntegerField()
    username = serializers.CharField()
    name = serializers.CharField(allow_blank=True)
    auth_method = serializers.ChoiceField(config.AUTH_METHODS)
    remember_password = serializers.BooleanField()
    private_key_path = serializers.CharField(required=False)
    has_password = serializers.BooleanField()
    has_private_key = serializers.BooleanField()


class ShownHosts(serializers.Serializer):
    connections = ShownHost(many=True)


class HostSaved(serializers.Serializer):
    ok = serializers.BooleanField()
    message = serializers.CharField()
    key = serializers.CharField()


class HostDetails(serializers.Serializer):
    ok = serializers.BooleanField()
    connection = ShownHost()
