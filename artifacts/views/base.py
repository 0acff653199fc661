"""What the views of artifacts have in common: finding what is asked for."""

from __future__ import annotations

from rest_framework.exceptions import APIException, NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from core import access
from core.access import Right
from core.http.fields import path_integer
from core.http.permissions import SeeOrChange

from .. import index, serializers
from ..models import Artifact, Version
from ..querysets import VersionQuerySet


class Conflict(APIException):
    status_code = 409


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
        kind = serializers.TypeQuery.read(self.request)["type"] or None
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
        number = path_integer(version, "version")
        return self.numbered(self.artifact(name, right), number, right)

    def version(self, name: str, version: str, right: Right = Right.SEE) -> Version:
        found = self.find_version(name, version, right)
        if found is None:
            number = path_integer(version, "version")
            raise NotFound(f"Version not found: {name}:v{number}")
        return found

    def numbered(self, artifact: Artifact, number: int, right: Right = Right.SEE) -> Version | None:
        return self.versions(artifact, right).filter(number=number).first()
