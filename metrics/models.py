"""Metric storage: a run's events as columns, in blocks of up to 4,096 events.

Event *n* of a run is its *n*-th metrics line. ``EventBlock`` stores the times and steps of events;
``SeriesBlock`` stores their values of one key. Blocks of all series begin at the same events, so a
range of a series is read by block number, without a search.

``SeriesLevel`` stores the extremes of long buckets of a series, at coarser and coarser levels, so
that a chart of a hundred million points reads about as much as one of ten thousand.

Every block has a checksum of its content.
"""

from __future__ import annotations

import math

from django.db import models
from django.utils.translation import gettext_lazy as _


class EventLog(models.Model):
    """The events of a run as a whole.

    A row of the run's table is a step, with all events at that step. ``is_ascending`` is true as
    long as no event goes back behind the step of an earlier one: the rows then have the order of
    the events, and everything can be read block by block. Events without a step that fits into
    64 bits are counted, but are in no row.

    The primary key distinguishes one reading of the run's file from the next.
    """

    run = models.OneToOneField("runs.Run", models.CASCADE, related_name="event_log")
    count = models.BigIntegerField(default=0, help_text="Events so far.")
    unplaced_count = models.BigIntegerField(default=0, help_text="Those of them without a step.")
    is_ascending = models.BooleanField(default=True)
    row_count = models.BigIntegerField(default=0, help_text="Steps, while they ascend.")
    last_step = models.BigIntegerField(null=True)
    covered_events = models.BigIntegerField(default=0, help_text="Events that levels cover.")

    def __str__(self) -> str:
        return f"{self.run_id}+{self.count}"

    @property
    def cursor(self) -> str:
        """The position from which a client that has read everything so far continues.

        ``read.events_after`` interprets it.
        """
        return f"{self.pk}.{self.count}"


class EventBlock(models.Model):
    """Step and time of consecutive events. See ``metrics.columns`` for the encodings."""

    run = models.ForeignKey("runs.Run", models.CASCADE, related_name="event_blocks")
    first = models.BigIntegerField(help_text="Number of the first event.")
    count = models.IntegerField()
    first_row = models.BigIntegerField(help_text="Row of the first event with a step.")
    low_step = models.BigIntegerField(null=True)
    high_step = models.BigIntegerField(null=True)
    steps_checksum = models.BigIntegerField(help_text="CRC-32.")
    times_checksum = models.BigIntegerField(help_text="CRC-32.")
    steps = models.BinaryField(help_text="int64, little endian; the smallest: no step.")
    times = models.BinaryField(help_text="float64, little endian, Unix seconds; NaN: no time.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "first"], name="metrics_events_once")]
        indexes = [
            models.Index(fields=["run", "low_step"], name="metrics_events_low"),
            models.Index(fields=["run", "high_step"], name="metrics_events_high"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id}@{self.first}+{self.count}"


class Series(models.Model):
    """The values that a run logged under one key, with statistics kept while they are written.

    ``count`` counts all values, including null and text; ``number_count`` the numbers, including
    NaN, infinities and booleans (0 and 1); ``finite_count`` the finite numbers, from which the
    lowest and the highest value are taken. The first value is the number at the lowest step, the
    last value the number at the greatest step, with the greatest time if there are several.

    NaN is a value, but SQLite cannot store it: if a series has numbers and ``first_value`` or
    ``last_value`` is null, it is NaN (``first``, ``last``).

    ``is_ascending`` is true as long as no number goes back behind the step of an earlier one. Such
    a series has levels, and a curve of ``point_count`` points: one per step.
    """

    run = models.ForeignKey("runs.Run", models.CASCADE, related_name="series")
    key = models.CharField(_("metric"), max_length=500)
    count = models.BigIntegerField(_("values"), default=0)
    number_count = models.BigIntegerField(default=0)
    finite_count = models.BigIntegerField(default=0)
    point_count = models.BigIntegerField(default=0)
    is_ascending = models.BooleanField(default=True)
    first_value = models.FloatField(null=True)
    first_step = models.BigIntegerField(null=True)
    last_value = models.FloatField(_("last"), null=True)
    last_step = models.BigIntegerField(null=True)
    last_time = models.FloatField(null=True)
    min_value = models.FloatField(_("min"), null=True)
    min_step = models.BigIntegerField(null=True)
    max_value = models.FloatField(_("max"), null=True)
    max_step = models.BigIntegerField(null=True)

    class Meta:
        verbose_name = _("series")
        verbose_name_plural = _("series")
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="metrics_series_once")]
        # For queries such as metrics.loss.last < 0.1; they find the run in the index, too.
        indexes = [
            models.Index(fields=["key", "last_value", "run"], name="metrics_series_last"),
            models.Index(fields=["key", "min_value", "run"], name="metrics_series_min"),
            models.Index(fields=["key", "max_value", "run"], name="metrics_series_max"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def first(self) -> float | None:
        """The first number, NaN included; None if there is none."""
        return math.nan if self.first_value is None and self.number_count else self.first_value

    @property
    def last(self) -> float | None:
        """The last number, NaN included; None if there is none."""
        return math.nan if self.last_value is None and self.number_count else self.last_value


class SeriesBlock(models.Model):
    """The values of one series for one block of events."""

    series = models.ForeignKey(Series, models.CASCADE, related_name="blocks")
    first = models.BigIntegerField(help_text="Number of the block's first event.")
    positions = models.BinaryField(help_text="uint16 from the block's start; empty: every event.")
    values = models.BinaryField(help_text="float64, little endian.")
    kinds = models.BinaryField(help_text="One byte a value; empty: plain float64.")
    extras = models.BinaryField(help_text="JSON list of what is no float64.")
    checksum = models.BigIntegerField(help_text="CRC-32 of the columns.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["series", "first"], name="metrics_block_once")
        ]

    def __str__(self) -> str:
        return f"{self.series_id}@{self.first}"


class SeriesLevel(models.Model):
    """First, lowest, highest and last point of every bucket of a series (``metrics.sampling``).

    ``levels.BUCKET_SIZES`` has the number of events in a bucket of each level; a row holds up to
    512 buckets. Only buckets within full blocks are here: later events are read from the blocks.
    """

    series = models.ForeignKey(Series, models.CASCADE, related_name="levels")
    level = models.SmallIntegerField()
    first = models.BigIntegerField(help_text="Number of the row's first event.")
    events = models.BinaryField(help_text="uint32 from the row's first event.")
    steps = models.BinaryField(help_text="int64, little endian.")
    values = models.BinaryField(help_text="float64, little endian.")
    checksum = models.BigIntegerField(help_text="CRC-32 of the columns.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["series", "level", "first"], name="metrics_level_once")
        ]

    def __str__(self) -> str:
        return f"{self.series_id}/{self.level}@{self.first}"
