"""Base classes of the views of artifacts."""

from __future__ import annotations

from rest_framework.exceptions import NotFound
from rest_framework.views import APIView

from core import access
from core.access import Right
from core.http.fields import path_integer
from core.http.permissions import SeeOrChange

from .. import index, serializers
from ..models import Artifact, Version
from ..querysets import VersionQuerySet


class ArtifactView(APIView):
    """A view that finds artifacts and versions to which the user has a right."""

    permission_classes = [SeeOrChange]

    def artifact(self, name: str, right: Right = Right.SEE) -> Artifact:
        """Return the artifact, refreshed from its folder; 404 if none has that name and type."""
        kind = serializers.TypeQuery.read(self.request)["type"] or None
        try:
            indexed = index.index_artifact(index.storage().find(name, kind))
        except FileNotFoundError as error:
            raise NotFound(str(error)) from None
        artifacts = access.rows(Artifact.objects.all(), self.request.user, right)
        artifact = artifacts.filter(pk=indexed.pk).first() if indexed else None
        if artifact is None:
            raise NotFound(f"Artifact not found: {name}")
        return artifact

    def versions(self, artifact: Artifact, right: Right = Right.SEE) -> VersionQuerySet:
        versions = access.rows(Version.objects.all(), self.request.user, right)
        return versions.filter(artifact=artifact).select_related("artifact")

    def find_version(self, name: str, version: str, right: Right = Right.SEE) -> Version | None:
        """Return the version, or None if the artifact (else 404) does not have it."""
        number = path_integer(version, "version")
        return self.numbered(self.artifact(name, right), number, right)

    def version(self, name: str, version: str, right: Right = Right.SEE) -> Version:
        row = self.find_version(name, version, right)
        if row is None:
            number = path_integer(version, "version")
            raise NotFound(f"Version not found: {name}:v{number}")
        return row

    def numbered(self, artifact: Artifact, number: int, right: Right = Right.SEE) -> Version | None:
        return self.versions(artifact, right).filter(number=number).first()
