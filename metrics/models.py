"""Metric storage: a run's events as columns, in blocks of up to 4,096 events.

Event *n* of a run is its *n*-th metrics line. ``EventBlock`` keeps when and at which step each
event happened; ``SeriesBlock`` keeps what it said about one key. Blocks of all series begin at
the same events, so a range of a series is read by block number, without a search.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class EventBlock(models.Model):
    """Step and time of consecutive events. See ``metrics.columns`` for the encodings."""

    run = models.ForeignKey("runs.Run", models.CASCADE, related_name="event_blocks")
    first = models.BigIntegerField(help_text="Number of the first event.")
    count = models.IntegerField()
    steps = models.BinaryField(help_text="int64, little endian; the smallest: no step.")
    times = models.BinaryField(help_text="float64, little endian, Unix seconds; NaN: no time.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "first"], name="metrics_events_once")]

    def __str__(self) -> str:
        return f"{self.run_id}@{self.first}+{self.count}"


class Series(models.Model):
    """What a run logged under one key, summed up while writing.

    The statistics are over finite numbers (booleans count as 0 and 1); they are null as long as
    there is none. ``count`` counts every logged value, null and text included.
    """

    run = models.ForeignKey("runs.Run", models.CASCADE, related_name="series")
    key = models.CharField(_("metric"), max_length=500)
    count = models.BigIntegerField(_("values"), default=0)
    number_count = models.BigIntegerField(default=0)
    first_value = models.FloatField(null=True)
    first_step = models.BigIntegerField(null=True)
    last_value = models.FloatField(_("last"), null=True)
    last_step = models.BigIntegerField(null=True)
    min_value = models.FloatField(_("min"), null=True)
    min_step = models.BigIntegerField(null=True)
    max_value = models.FloatField(_("max"), null=True)
    max_step = models.BigIntegerField(null=True)

    class Meta:
        verbose_name = _("series")
        verbose_name_plural = _("series")
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="metrics_series_once")]

    def __str__(self) -> str:
        return self.key


class SeriesBlock(models.Model):
    """The values of one series for one block of events."""

    series = models.ForeignKey(Series, models.CASCADE, related_name="blocks")
    first = models.BigIntegerField(help_text="Number of the block's first event.")
    positions = models.BinaryField(help_text="uint16 from the block's start; empty: every event.")
    values = models.BinaryField(help_text="float64, little endian.")
    kinds = models.BinaryField(help_text="One byte a value; empty: plain float64.")
    extras = models.BinaryField(help_text="JSON list of what is no float64.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["series", "first"], name="metrics_block_once")
        ]

    def __str__(self) -> str:
        return f"{self.series_id}@{self.first}"
