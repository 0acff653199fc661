"""What a run's machine did while it ran: the samples of ``system.jsonl``, as a table over time.

A sample is a few hundred bytes every 15 seconds, so they are kept as they were written and made
out when somebody looks: a week of them is read in some tens of milliseconds.
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
"""Unix seconds, ascending, and under each key a value for each; NaN where there was none."""


def read(run: Run, after: int = 0) -> Samples:
    """The samples behind the byte *after* of the file."""
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
    """The same as a table whose index is ``time``, in Unix seconds."""
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
    """One series for a chart: seconds since the run's start, and the extremes of all of it."""

    key: str
    seconds: list[float]
    values: list[float]
    count: int
    low: float
    high: float


def curves(run: Run, points: int = 300) -> list[Curve]:
    """Of at most *points* points each (``metrics.sampling``)."""
    times, values = read(run)
    first = float(times[0]) if len(times) else 0.0
    start = min(first, run.started_at.timestamp() if run.started_at else first)
    found = []
    for key, column in values.items():
        is_known = np.isfinite(column)
        if is_known.any():
            seconds, known = times[is_known] - start, column[is_known]
            kept = downsample(known, points)
            shown = seconds[kept].round(1).tolist(), known[kept].tolist()
            found.append(Curve(key, *shown, len(known), known.min(), known.max()))
    return found


def cursor(run: Run) -> str:
    """Where a client that has read all samples so far goes on (``bytes_before``)."""
    return f"{run.pk}.{_reached(run)}"


def bytes_before(run: Run, since: str) -> int:
    """How many bytes of the file the cursor *since* says are known."""
    pk, known = map(int, since.split("."))
    return min(known, _reached(run)) if pk == run.pk else 0


def _reached(run: Run) -> int:
    return Run.objects.filter(pk=run.pk).values_list("system_bytes", flat=True).first() or 0


def _content(run: Run, after: int) -> bytes:
    """The bytes of the file from *after*, which is the start of a line."""
    chunks = run.system_chunks.order_by("offset")
    if after and (held := chunks.filter(offset__lte=after).order_by("-offset").first()):
        chunks = chunks.filter(offset__gte=held.offset)
    found = list(chunks.values_list("offset", "data"))
    return b"".join(bytes(data) for _, data in found)[after - found[0][0] :] if found else b""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _natural(key: str) -> list[tuple[int, str]]:
    """So that GPU 10 follows GPU 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in key.split("/")]
