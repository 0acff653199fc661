"""Metric storage: a run's events as columns, in blocks of up to 4,096 events.

Event *n* of a run is its *n*-th metrics line. ``EventBlock`` keeps when and at which step each
event happened; ``SeriesBlock`` keeps what it said about one key. Blocks of all series begin at
the same events, so a range of a series is read by block number, without a search.

``Outline`` keeps the extremes of long stretches of a series, at coarser and coarser levels, so
that a chart of a hundred million points reads about as much as one of ten thousand.

Every block has a checksum of what it holds. One that is null belongs to a block written before
there were any.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Timeline(models.Model):
    """What is known of a run's events as a whole.

    ``is_ascending`` is true as long as every event has a step higher than the one before: rows
    are then events, and everything can be read block by block. Only then are there outlines.
    Its primary key tells one reading of the run's file from the next.
    """

    run = models.OneToOneField("runs.Run", models.CASCADE, related_name="timeline")
    count = models.BigIntegerField(default=0, help_text="Events so far.")
    is_ascending = models.BooleanField(default=True)
    last_step = models.BigIntegerField(null=True)
    outlined = models.BigIntegerField(default=0, help_text="Events that the outlines cover.")

    def __str__(self) -> str:
        return f"{self.run_id}+{self.count}"

    @property
    def cursor(self) -> str:
        """Where a client that has read everything so far goes on (``read.events_after``)."""
        return f"{self.pk}.{self.count}"


class EventBlock(models.Model):
    """Step and time of consecutive events. See ``metrics.columns`` for the encodings."""

    run = models.ForeignKey("runs.Run", models.CASCADE, related_name="event_blocks")
    first = models.BigIntegerField(help_text="Number of the first event.")
    count = models.IntegerField()
    steps = models.BinaryField(help_text="int64, little endian; the smallest: no step.")
    times = models.BinaryField(help_text="float64, little endian, Unix seconds; NaN: no time.")
    low_step = models.BigIntegerField(null=True)
    high_step = models.BigIntegerField(null=True)
    checksum = models.BigIntegerField(null=True, help_text="CRC-32 of the columns.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "first"], name="metrics_events_once")]
        indexes = [
            models.Index(fields=["run", "low_step"], name="metrics_events_low"),
            models.Index(fields=["run", "high_step"], name="metrics_events_high"),
        ]

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
        # For questions such as metrics.loss.last < 0.1: the run is in the index, too.
        indexes = [
            models.Index(fields=["key", "last_value", "run"], name="metrics_series_last"),
            models.Index(fields=["key", "min_value", "run"], name="metrics_series_min"),
            models.Index(fields=["key", "max_value", "run"], name="metrics_series_max"),
        ]

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
    checksum = models.BigIntegerField(null=True, help_text="CRC-32 of the columns.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["series", "first"], name="metrics_block_once")
        ]

    def __str__(self) -> str:
        return f"{self.series_id}@{self.first}"


class Outline(models.Model):
    """First, lowest, highest and last point of every stretch of a series (``metrics.sampling``).

    ``outlines.STRETCHES`` says how long a stretch is at each level; a row holds up to 512 of them.
    Only stretches within full blocks are here: what follows is read from the blocks.
    """

    series = models.ForeignKey(Series, models.CASCADE, related_name="outlines")
    level = models.SmallIntegerField()
    first = models.BigIntegerField(help_text="Number of the row's first event.")
    events = models.BinaryField(help_text="uint32 from the row's first event.")
    steps = models.BinaryField(help_text="int64, little endian.")
    values = models.BinaryField(help_text="float64, little endian.")
    checksum = models.BigIntegerField(help_text="CRC-32 of the columns.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["series", "level", "first"], name="metrics_outline_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.series_id}/{self.level}@{self.first}"
