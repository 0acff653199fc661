"""The reading API for other apps: tables, curves, and statistics over many runs.

A run whose steps ascend (``EventLog.is_ascending``) is read block by block: a table of any length
takes as much memory as a few blocks. A curve of a series whose steps ascend
(``Series.is_ascending``) reads a level with about as many points as it shows. All others are first
merged by step, which needs all their values in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .blocks import EVERYTHING, Range, event_log, events_between, read_steps, shown_series
from .columns import NO_STEP
from .curves import Curve, curve, curves, number_keys
from .models import EventLog
from .statistics import (
    Spread,
    Statistics,
    best_values,
    count_values,
    last_values,
    spread,
    statistics,
)
from .tables import Table, Tables, by_step, by_time, sampled_by_step

__all__ = [
    "EVERYTHING",
    "Curve",
    "EventLog",
    "Overview",
    "Range",
    "Spread",
    "Statistics",
    "Table",
    "Tables",
    "best_values",
    "by_step",
    "by_time",
    "count_values",
    "curve",
    "curves",
    "event_log",
    "events_after",
    "last_values",
    "number_keys",
    "overview",
    "sampled_by_step",
    "spread",
    "statistics",
]


@dataclass
class Overview:
    """The number of a run's steps, the lowest and highest, and the keys of its numbers."""

    steps: int
    low: int | None
    high: int | None
    keys: list[str]


def overview(run_pk: int) -> Overview:
    keys = [s.key for s in shown_series(run_pk, None, True)]
    log = event_log(run_pk)
    if log is not None and log.is_ascending:
        _, _, low, high = events_between(log, EVERYTHING)
        return Overview(log.row_count, low, high, keys)
    steps = read_steps(run_pk)
    steps = np.unique(steps[steps != NO_STEP])
    if not len(steps):
        return Overview(0, None, None, keys)
    return Overview(len(steps), int(steps[0]), int(steps[-1]), keys)


def events_after(log: EventLog | None, since: str) -> int:
    """Return the number of events before the ``cursor`` *since*; 0 if the run was read again since.

    Raises ValueError if it is not a cursor.
    """
    reading, count = map(int, since.split("."))
    return max(0, min(count, log.count)) if log and log.pk == reading else 0
