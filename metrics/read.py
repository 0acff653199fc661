"""What runs logged: tables, curves, and figures over many runs. What other apps read with.

A run whose steps ascend (``Timeline.is_ascending``) is read block by block: a table of any length
takes as much memory as a few blocks, and a curve reads an outline of about as many points as it
shows. Other runs are merged by step first, which takes all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .blocks import EVERYTHING, PIECE, Range, events_between, read_events, shown_series, timeline
from .columns import NO_STEP
from .curves import Curve, curve, curves, number_keys
from .models import Timeline
from .statistics import Spread, Statistics, count_values, last_values, spread, statistics
from .tables import Table, Tables, by_step, by_time, sampled_by_step

__all__ = [
    "EVERYTHING",
    "PIECE",
    "Curve",
    "Overview",
    "Range",
    "Spread",
    "Statistics",
    "Table",
    "Tables",
    "Timeline",
    "by_step",
    "by_time",
    "count_values",
    "curve",
    "curves",
    "events_after",
    "last_values",
    "number_keys",
    "overview",
    "sampled_by_step",
    "spread",
    "statistics",
    "timeline",
]


@dataclass
class Overview:
    """How many steps a run has, from which to which, and the keys of its numbers."""

    steps: int
    low: int | None
    high: int | None
    keys: list[str]


def overview(run_pk: int) -> Overview:
    keys = [s.key for s in shown_series(run_pk, None, True)]
    known = timeline(run_pk)
    if known is not None and known.is_ascending:
        _, _, low, high = events_between(known, EVERYTHING)
        return Overview(known.count, low, high, keys)
    steps, _ = read_events(run_pk)
    steps = np.unique(steps[steps != NO_STEP])
    if not len(steps):
        return Overview(0, None, None, keys)
    return Overview(len(steps), int(steps[0]), int(steps[-1]), keys)


def events_after(known: Timeline | None, since: str) -> int:
    """How many events the ``cursor`` *since* says are known; 0 if the run was read anew since.

    ValueError if it is no cursor.
    """
    reading, count = map(int, since.split("."))
    return max(0, min(count, known.count)) if known and known.pk == reading else 0
