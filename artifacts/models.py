"""The index of the artifacts folder.

The folder is the truth: these rows can be deleted and read from it again. The content of a version
never changes once it is written; the database itself refuses such changes (migration 0002).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from runicorn import layout
from runicorn.artifacts import ArtifactMetadata
from runicorn.artifacts.folders import FILES, LATEST, Location, stage_of
from runs.models import Run, to_datetime

from .querysets import ArtifactQuerySet, BlobQuerySet, UsageQuerySet, VersionQuerySet


class Artifact(models.Model):
    """A folder with the versions of something that has a name and a type."""

    type = models.CharField(_("type"), max_length=255)
    name = models.CharField(_("name"), max_length=255)
    directory = models.CharField(
        _("directory"),
        max_length=700,
        unique=True,
        help_text=_("Relative to the storage root, with '/'."),
    )
    created_time = models.FloatField(_("created (Unix seconds)"), default=0)
    updated_time = models.FloatField(_("updated (Unix seconds)"), default=0)
    is_listed = models.BooleanField(
        default=True, help_text="Whether its versions.json can be read: v0.4 lists no other."
    )
    fingerprint = models.CharField(
        max_length=64, default="", help_text="Differs when the folder does."
    )

    objects = ArtifactQuerySet.as_manager()

    class Meta:
        verbose_name = _("artifact")
        verbose_name_plural = _("artifacts")
        ordering = ["type", "name"]
        constraints = [
            models.UniqueConstraint(fields=["type", "name"], name="artifacts_name_once_per_type")
        ]
        indexes = [models.Index(fields=["name"], name="artifacts_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def location(self) -> Location:
        return Location(self.type, self.name, settings.RUNICORN_STORAGE_ROOT / self.directory)

    @property
    def updated_at(self) -> datetime | None:
        return to_datetime(self.updated_time)


class Version(models.Model):
    """One content of an artifact. Description, tags and stage may change; the content never does.

    ``deleted_at`` alone says that it is deleted: it keeps its number, files and aliases, can still
    be used, and comes back by restoring. Only ``actions.purge_versions`` removes it.
    """

    artifact = models.ForeignKey(
        Artifact, models.CASCADE, related_name="versions", verbose_name=_("artifact")
    )
    number = models.BigIntegerField(_("version"))
    manifest_sha256 = models.CharField(max_length=64, help_text="Of manifest.json as it was read.")
    size_bytes = models.BigIntegerField(_("size"), default=0)
    num_files = models.BigIntegerField(_("files"), default=0)
    num_references = models.BigIntegerField(_("references"), default=0)

    created_time = models.FloatField(_("created (Unix seconds)"), default=0)
    created_by_run = models.CharField(_("created by run"), max_length=255, default="")
    status = models.CharField(_("status"), max_length=32, default="ready")
    description = models.TextField(_("description"), default="", blank=True)
    stage = models.CharField(_("stage"), max_length=32, default="experimental")
    deleted_at = models.DateTimeField(_("deleted"), null=True)
    has_files = models.BooleanField(
        default=True,
        help_text="Of a version that came from a host, only the documents may be here.",
    )
    document = models.BinaryField(default=b"", help_text="metadata.json.")
    changes = models.BinaryField(default=b"", help_text="Stage, evaluations and history, as JSON.")
    fingerprint = models.CharField(
        max_length=64, default="", help_text="Differs when the folder does."
    )

    objects = VersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("version")
        verbose_name_plural = _("versions")
        ordering = ["artifact", "number"]
        constraints = [
            models.UniqueConstraint(fields=["artifact", "number"], name="artifacts_version_once")
        ]
        indexes = [models.Index(fields=["created_by_run"], name="artifacts_created_by_run")]

    def __str__(self) -> str:
        return f"{self.artifact.name}:v{self.number}"

    @property
    def folder(self) -> Path:
        return self.artifact.location.folder / f"v{self.number}"

    @property
    def files_folder(self) -> Path:
        return self.folder / FILES

    @property
    def is_deleted(self) -> bool:
        return self.deleted_at is not None

    @property
    def created_at(self) -> datetime | None:
        return to_datetime(self.created_time)

    @property
    def shown_status(self) -> str:
        """``ready``, ``deleted``, ``corrupted``, or another status that the version has stored."""
        return "deleted" if self.is_deleted else self.status

    def metadata(self) -> ArtifactMetadata:
        """Return the content of ``metadata.json``, or the columns if it cannot be read."""
        data = layout.parse_json(bytes(self.document))
        if data is None:
            columns = ("size_bytes", "num_files", "num_references", "created_by_run")
            data = {name: getattr(self, name) for name in columns}
            data["created_at"] = self.created_time
        artifact = self.artifact
        return ArtifactMetadata.from_dict(data, artifact.name, artifact.type, self.number)

    def kept_changes(self) -> dict[str, Any]:
        return layout.parse_json(bytes(self.changes)) or {}

    def read_stage(self) -> str:
        return stage_of(self.kept_changes())

    def alias_names(self) -> list[str]:
        """Return the version's aliases by the artifact, then those that only its metadata names."""
        aliases = list(self.artifact.aliases.all())
        own = sorted(alias.name for alias in aliases if alias.version_id == self.pk)
        used = {alias.name for alias in aliases} | {LATEST}
        return own + [name for name in self.metadata().aliases if name not in used]


class Alias(models.Model):
    """A movable name for a version."""

    artifact = models.ForeignKey(Artifact, models.CASCADE, related_name="aliases")
    name = models.CharField(_("alias"), max_length=255)
    version = models.ForeignKey(Version, models.CASCADE, related_name="aliases")

    class Meta:
        verbose_name = _("alias")
        verbose_name_plural = _("aliases")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["artifact", "name"], name="artifacts_alias_once")
        ]

    def __str__(self) -> str:
        return self.name


class Blob(models.Model):
    """A content that versions refer to, stored once."""

    digest = models.CharField(_("sha256"), max_length=64, unique=True)
    size_bytes = models.BigIntegerField(_("size"))

    objects = BlobQuerySet.as_manager()

    class Meta:
        verbose_name = _("content")
        verbose_name_plural = _("contents")

    def __str__(self) -> str:
        return self.digest


class File(models.Model):
    """A path in a version and the content it has."""

    version = models.ForeignKey(Version, models.CASCADE, related_name="files")
    path = models.CharField(_("path"), max_length=1100)
    blob = models.ForeignKey(Blob, models.RESTRICT, related_name="files", verbose_name=_("content"))
    modified_time = models.FloatField(null=True)

    class Meta:
        verbose_name = _("file")
        verbose_name_plural = _("files")
        indexes = [models.Index(fields=["version", "path"], name="artifacts_file_path")]

    def __str__(self) -> str:
        return self.path


class Reference(models.Model):
    """Data of a version at an address outside the store."""

    version = models.ForeignKey(Version, models.CASCADE, related_name="references")
    uri = models.TextField(_("address"))
    checksum = models.CharField(_("checksum"), max_length=255, null=True)
    size_bytes = models.BigIntegerField(_("size"), null=True)
    metadata = models.TextField(default="{}", help_text="As JSON.")

    class Meta:
        verbose_name = _("reference")
        verbose_name_plural = _("references")

    def __str__(self) -> str:
        return self.uri


class Usage(models.Model):
    """A run's record that it created or used a version, which may be gone by now."""

    class Kind(models.TextChoices):
        CREATED = "created", _("created")
        USED = "used", _("used")

    run = models.ForeignKey(
        Run, models.CASCADE, related_name="artifact_usages", verbose_name=_("run")
    )
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    name = models.CharField(_("artifact"), max_length=255)
    type = models.CharField(_("type"), max_length=255)
    number = models.BigIntegerField(_("version"))
    size_bytes = models.BigIntegerField(_("size"), default=0)
    time = models.FloatField(_("noted (Unix seconds)"), default=0)

    objects = UsageQuerySet.as_manager()

    class Meta:
        verbose_name = _("usage")
        verbose_name_plural = _("usages")
        indexes = [models.Index(fields=["name", "number", "kind"], name="artifacts_usage_of")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}:v{self.number}"
