"""What the admin lists of this app. None of it is a table: saved hosts lie in ``config.json``,
sessions and syncs live in this process. Models give them permissions and a place in the admin."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class _Listed(models.Model):
    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.pk)


class Host(_Listed):
    """A saved connection."""

    class Meta:
        managed = False
        verbose_name = _("saved host")
        verbose_name_plural = _("saved hosts")


class Session(_Listed):
    """An open connection, or a viewer behind one."""

    class Meta:
        managed = False
        verbose_name = _("session")
        verbose_name_plural = _("sessions")


class SyncJob(_Listed):
    """Runs of a host that are kept up to date here."""

    class Meta:
        managed = False
        verbose_name = _("sync job")
        verbose_name_plural = _("sync jobs")
