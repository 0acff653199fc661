"""What the views of artifacts have in common: finding what is asked for, reading what is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException, NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from core import access
from core.access import Right
from core.http.exceptions import InvalidInput
from core.http.permissions import SeeOrChange

from .. import index
from ..models import Artifact, Version
from ..querysets import VersionQuerySet

_INTEGER = re.compile(r"\s*[+-]?[0-9]+(_[0-9]+)*(\.0*)?\s*")
_TRUE = {"true", "1", "yes", "on", "t", "y"}
_FALSE = {"false", "0", "no", "off", "f", "n"}

TYPE = OpenApiParameter("type", description="model, dataset, config, code or custom.")


class Conflict(APIException):
    status_code = 409


def integer(text: str, loc: list[str | int]) -> int:
    """An integer as v0.4 takes it: signs, spaces, ``_`` and ``3.0`` are fine."""
    if not _INTEGER.fullmatch(text) or len(text) > 100:
        msg = "Input should be a valid integer, unable to parse string as an integer"
        raise InvalidInput(f"{loc[-1]}: {msg}", loc, msg)
    return int(text.strip().partition(".")[0])


def boolean(text: str, loc: list[str | int]) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        msg = "Input should be a valid boolean, unable to interpret input"
        raise InvalidInput(f"{loc[-1]}: {msg}", loc, msg)
    return word in _TRUE


class Busy(APIException):
    status_code = 503
    default_detail = "Another request works on this; ask again in a moment."


class LockingView(APIView):
    """A lock that somebody else holds for long is answered, too."""

    permission_classes = [SeeOrChange]

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(Busy() if isinstance(exc, TimeoutError) else exc)


class ArtifactView(LockingView):
    """What these views have in common: finding what the user has a right to."""

    def artifact(self, name: str, right: Right = Right.SEE) -> Artifact:
        """The artifact as its folder says now; 404 if there is none of that name and type."""
        kind = self.request.query_params.get("type") or None
        try:
            found = index.index_artifact(index.storage().find(name, kind))
        except FileNotFoundError as error:
            raise NotFound(str(error)) from None
        artifacts = access.rows(Artifact.objects.all(), self.request.user, right)
        artifact = artifacts.filter(pk=found.pk).first() if found else None
        if artifact is None:
            raise NotFound(f"Artifact not found: {name}")
        return artifact

    def versions(self, artifact: Artifact, right: Right = Right.SEE) -> VersionQuerySet:
        versions = access.rows(Version.objects.all(), self.request.user, right)
        return versions.filter(artifact=artifact).select_related("artifact")

    def find_version(self, name: str, version: str, right: Right = Right.SEE) -> Version | None:
        """The version, if the artifact (404) has it."""
        number = integer(version, ["path", "version"])
        return self.numbered(self.artifact(name, right), number, right)

    def version(self, name: str, version: str, right: Right = Right.SEE) -> Version:
        found = self.find_version(name, version, right)
        if found is None:
            number = integer(version, ["path", "version"])
            raise NotFound(f"Version not found: {name}:v{number}")
        return found

    def numbered(self, artifact: Artifact, number: int, right: Right = Right.SEE) -> Version | None:
        if abs(number) >= 2**63:
            return None
        return self.versions(artifact, right).filter(number=number).first()


def required(body: dict[str, Any], kinds: dict[str, type]) -> dict[str, Any]:
    """The members named in *kinds*. Says of all of them at once what is wrong."""
    absent = [key for key in kinds if key not in body]
    if absent:
        error = InvalidInput(
            f"The request body lacks {', '.join(absent)}.", ["body", absent[0]], "Field required"
        )
        error.errors = [{"loc": ["body", key], "msg": "Field required"} for key in absent]
        raise error
    for key, kind in kinds.items():
        value = body[key]
        if kind in (int, float):
            number = finite(value, ["body", key])
            if kind is int and not number.is_integer():
                raise InvalidInput(f"{key} must be an integer.", ["body", key])
        elif not isinstance(value, kind):
            what = "text" if kind is str else "list" if kind is list else "object"
            raise InvalidInput(f"{key} must be a JSON {what}.", ["body", key])
    return {key: body[key] for key in kinds}


def optional_texts(body: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if body.get(key) is not None and not isinstance(body[key], str):
            raise InvalidInput(f"{key} must be a JSON text.", ["body", key])


def checked(check: Callable[[Any], Any], value: Any, *loc: str | int) -> Any:
    """What *check* makes of *value*; its ValueError is InvalidInput at *loc*."""
    try:
        return check(value)
    except ValueError as error:
        raise InvalidInput(str(error), list(loc)) from None


def finite(value: Any, loc: list[str | int]) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"{loc[-1]} must be a number.", loc, "Input should be a valid number")
    return number
