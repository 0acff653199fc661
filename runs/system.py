"""The samples of a run's machine in ``system.jsonl``, as a table over time.

A sample is a few hundred bytes every 15 seconds, so they are stored as they were written and parsed
when they are read: a week of them takes some tens of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson

from metrics import read as metrics
from metrics.columns import FLOAT, NULL, Column, Floats
from metrics.sampling import downsample

from .models import Run

TIME = "time"

Samples = tuple[Floats, dict[str, Floats]]
"""Ascending Unix seconds, and by key a value for each of them; NaN if it was not sampled."""


def read(run: Run, after: int = 0) -> Samples:
    """Return the samples behind the byte *after* of the file."""
    times: list[float] = []
    rows: list[dict[str, float]] = []
    for line in _content(run, after).split(b"\n"):
        try:
            entry = orjson.loads(line)
            at, data = entry["ts"], entry["data"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            continue
        if _is_number(at) and isinstance(data, dict):
            times.append(at)
            rows.append({key: value for key, value in data.items() if _is_number(value)})
    order = np.argsort(np.array(times, np.float64), kind="stable")
    keys = sorted({key for row in rows for key in row} - {TIME}, key=_natural)
    values = {key: np.array([row.get(key, np.nan) for row in rows], np.float64) for key in keys}
    return np.array(times, np.float64)[order], {key: v[order] for key, v in values.items()}


def table(run: Run, after: int = 0) -> metrics.Tables:
    """Return the samples as a table whose index is ``time``, in Unix seconds."""
    times, values = read(run, after)
    at = np.arange(len(times))
    columns = {}
    for key, column in values.items():
        kinds = np.where(np.isnan(column), NULL, FLOAT).astype(np.uint8)
        columns[key] = Column(at, column, kinds, [])
    names = [TIME, *columns] if len(times) else []
    last = float(times[-1]) if len(times) else None
    return metrics.Tables(names, iter([metrics.Table(TIME, times, columns)]), len(times), last)


@dataclass
class Curve:
    """One series for a chart, over seconds since the run's start, with its extremes."""

    key: str
    seconds: list[float]
    values: list[float]
    count: int
    low: float
    high: float


def curves(run: Run, points: int = 300) -> list[Curve]:
    """Return curves of at most *points* points each (``metrics.sampling``)."""
    times, values = read(run)
    first = float(times[0]) if len(times) else 0.0
    start = min(first, run.started_at.timestamp() if run.started_at else first)
    chart_curves = []
    for key, column in values.items():
        is_sampled = np.isfinite(column)
        if is_sampled.any():
            seconds, sampled = times[is_sampled] - start, column[is_sampled]
            at = downsample(sampled, points)
            points_shown = seconds[at].round(1).tolist(), sampled[at].tolist()
            chart_curves.append(
                Curve(key, *points_shown, len(sampled), sampled.min(), sampled.max())
            )
    return chart_curves


def cursor(run: Run) -> str:
    """Return the cursor of a client that has read all samples so far (see ``bytes_before``)."""
    return f"{run.pk}.{_reached(run)}"


def bytes_before(run: Run, since: str) -> int:
    """Return the number of bytes of the file before the cursor *since*."""
    pk, size = map(int, since.split("."))
    return min(size, _reached(run)) if pk == run.pk else 0


def _reached(run: Run) -> int:
    return Run.objects.filter(pk=run.pk).values_list("system_bytes", flat=True).first() or 0


def _content(run: Run, after: int) -> bytes:
    """Return the bytes of the file from *after*, which is the start of a line."""
    chunks = run.system_chunks.order_by("offset")
    if after and (containing := chunks.filter(offset__lte=after).order_by("-offset").first()):
        chunks = chunks.filter(offset__gte=containing.offset)
    rows = list(chunks.values_list("offset", "data"))
    return b"".join(bytes(data) for _, data in rows)[after - rows[0][0] :] if rows else b""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _natural(key: str) -> list[tuple[int, str]]:
    """Return a sort key by which GPU 10 follows GPU 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in key.split("/")]
