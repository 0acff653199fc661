"""What the process that owns the SSH connections tells the others, and what they ask of it.

Rows of ``Session``, ``SyncJob`` and ``Viewer`` are written by the owner alone (``owner.state``) and
read by everybody. No secret is in any of them. Saved hosts lie in ``config.json``: their model only
gives them permissions and a place in the admin.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class _Owned(models.Model):
    """Something of the owner's that other processes see."""

    last_error = models.TextField(null=True)
    lost_at = models.FloatField(null=True)
    """Unix time at which the owner was found to have ended with it; null while it knows of it."""

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.pk)


class Session(_Owned):
    """An SSH connection, shared by all who hold it."""

    id = models.CharField(primary_key=True, max_length=600)
    """``user@host:port``"""
    host = models.CharField(max_length=255)
    port = models.IntegerField()
    username = models.CharField(max_length=255)
    is_open = models.BooleanField()
    is_current = models.BooleanField()
    """Whether the unified API means this one."""
    holders = models.JSONField()
    legacy_sessions = models.JSONField()
    """Ids of 0.4's ``/ssh/connect``."""
    connected_at = models.FloatField()
    reconnect_count = models.IntegerField()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        ordering = ("connected_at",)

    def describe(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "connected": self.is_open,
        }


class SyncJob(_Owned):
    """Runs of a host that are kept up to date here."""

    id = models.CharField(primary_key=True, max_length=800)
    mode = models.CharField(max_length=10)
    session_id = models.CharField(max_length=700)
    """Who asked for it: a session of the legacy API, the unified API or the remote storage."""
    connection_id = models.CharField(max_length=600)
    remote_root = models.TextField()
    local_root = models.TextField()
    interval = models.FloatField()
    auto_sync = models.BooleanField()
    cache_bytes = models.BigIntegerField()
    source = models.TextField()
    """The name of where runs came from, in the ledger of what was copied."""
    former_source = models.TextField()
    is_alive = models.BooleanField()
    is_selected = models.BooleanField()
    """Of 0.4's remote storage: whether clients were told to be in remote mode."""
    started_at = models.FloatField()
    last_sync_at = models.FloatField(null=True)
    next_sync_at = models.FloatField(null=True)
    scans = models.BigIntegerField()
    cached_experiments = models.IntegerField()
    cached_artifacts = models.IntegerField()
    stats = models.JSONField()
    progress = models.JSONField()

    class Meta:
        verbose_name = _("sync job")
        verbose_name_plural = _("sync jobs")
        ordering = ("started_at",)

    @property
    def status(self) -> str:
        """``running``, ``ended``, or ``interrupted``: its process ended before it did."""
        if self.lost_at is not None:
            return "interrupted"
        return "running" if self.is_alive else "ended"

    @property
    def host(self) -> str:
        return self.connection_id.rpartition("@")[2].rpartition(":")[0]

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "session_id": self.session_id,
            "host": self.host,
            "remote_root": self.remote_root,
            "local_root": self.local_root,
            "interval": self.interval,
            "alive": self.is_alive,
            "status": self.status,
            "stats": {
                **self.stats,
                "scans": self.scans,
                "started_at": self.started_at,
                "last_error": self.last_error,
                "last_sync_at": self.last_sync_at,
                "next_sync_at": self.next_sync_at,
            },
            "progress": self.progress,
        }


class Viewer(_Owned):
    """A viewer on a host, reached through a tunnel."""

    id = models.CharField(primary_key=True, max_length=16)
    connection_id = models.CharField(max_length=600)
    remote_root = models.TextField()
    status = models.CharField(max_length=16)
    """``connecting``, ``running``, and ``stopped`` at last."""
    environment = models.TextField()
    """The path of the Python that runs it."""
    local_port = models.IntegerField()
    started_at = models.FloatField()
    ended_at = models.FloatField(null=True)
    details = models.JSONField()

    class Meta:
        verbose_name = _("viewer on a host")
        verbose_name_plural = _("viewers on hosts")
        ordering = ("started_at",)

    @property
    def is_active(self) -> bool:
        return self.status != "stopped"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.local_port}"

    def describe(self) -> dict[str, Any]:
        return {
            **self.details,
            "sessionId": self.id,
            "connection_id": self.connection_id,
            "localPort": self.local_port,
            "remoteRoot": self.remote_root,
            "status": self.status,
            "startedAt": int(self.started_at * 1000),
            "uptimeSeconds": (self.ended_at or time.time()) - self.started_at,
            "isActive": self.is_active and self.details["isActive"],
            "lastError": self.last_error,
            "url": self.url,
        }


class Host(models.Model):
    """A saved connection."""

    class Meta:
        managed = False
        verbose_name = _("saved host")
        verbose_name_plural = _("saved hosts")

    def __str__(self) -> str:
        return str(self.pk)


# -- between processes -----------------------------------------------------------------------------


class Command(models.Model):
    """What a web process asks of the owner, and the answer; gone as soon as that is read."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=100)
    sealed = models.TextField()
    """The arguments, encrypted; emptied by the owner when it reads them."""
    answer = models.TextField(null=True)
    """Encrypted, too."""
    asked_at = models.DateTimeField(db_index=True)
    taken_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name


class Heartbeat(models.Model):
    """A single row, which the owner renews as long as it lives."""

    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.seen_at)
