"""A run's folder, read event by event for an export."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .. import layout, run_store
from ..files import open_inside, read_json_inside

FIRST_COLUMNS = ("global_step", "step", "time", "stage")
AXES = ("global_step", "step", "time")
"""Numbers that say where a value was logged; they are no metrics."""

EXACT = 2**53
"""Below it a float tells every integer from the next."""


class Event(NamedTuple):
    step: int | None
    time: float
    data: dict[str, Any]


class Record:
    """A run as its folder has it. ``events`` may be read any number of times, in bounded memory.

    Every reading ends where the file ended at first: a run may go on while it is exported. Links
    are not followed, and a folder that is a link is an empty run.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = Path(os.path.abspath(run_dir))
        self.meta = self._document(layout.META)
        self.status = self._document(layout.STATUS)
        self.summary = self._document(layout.SUMMARY)
        self.params = layout.flatten(self._document(layout.CONFIG))
        self.run_id = _text(self.meta.get("id")) or self.path.name
        root, directory = _place(self.path)
        project, name = layout.place_of_run(directory, self.meta)
        self.project, self.name = project or "", name or ""
        noted = run_store.annotations_of(root, directory, self.meta)
        self.tags, self.notes = noted.tags, noted.notes.strip()
        self._end: int | None = None

    def _document(self, name: str) -> dict[str, Any]:
        return read_json_inside(self.path.parent, f"{self.path.name}/{name}")

    def _open_events(self) -> BinaryIO:
        return open_inside(self.path.parent, f"{self.path.name}/{layout.EVENTS}")

    def events(self) -> Iterator[Event]:
        """Every metrics event that can be read, in the order of the log."""
        try:
            file = self._open_events()
        except OSError:
            return
        with file:
            if self._end is None:
                self._end = file.seek(0, 2)
                file.seek(0)
            read = 0
            for line in file:
                read += len(line)
                if read > self._end:
                    return
                event = _event(line)
                if event is not None:
                    yield event

    def columns(self) -> list[str]:
        """The keys of all events: those that place an event first, the others sorted."""
        keys: set[str] = set()
        for event in self.events():
            keys.update(event.data)
        first = [key for key in FIRST_COLUMNS if key in keys]
        return first + sorted(keys.difference(first))


def _place(path: Path) -> tuple[Path, str]:
    """The storage root above a run's folder, and the folder relative to it.

    Where several folders above could be the root, it is the one that holds a root's own files, or
    else the one from which the run is ``<project>/<name>/runs/<id>``.
    """
    depths = [4, *(d for d in range(2, layout.DEEPEST) if d != 4)]
    places = [
        (path.parents[depth - 1], "/".join(path.parts[-depth:]))
        for depth in depths
        if depth < len(path.parts) and layout.split_run_dir("/".join(path.parts[-depth:]))
    ]
    for root, directory in places:
        if any((root / name).exists() for name in (layout.EXPERIMENTS_METADATA, layout.SERVER_DIR)):
            return root, directory
    return places[0] if places else (path.parent, path.name)


def _event(line: bytes) -> Event | None:
    entry = layout.parse_json(line)
    if entry is None and (start := line.rfind(b'{"ts":')) > 0:
        entry = layout.parse_json(line[start:])  # behind the fragment of a killed process
    if entry is None or entry.get("type") != "metrics" or not isinstance(entry.get("data"), dict):
        return None
    data = entry["data"]
    raw = data["global_step"] if "global_step" in data else data.get("step")
    try:
        step = int(raw)
    except (TypeError, ValueError, OverflowError):
        step = None
    if step is not None and not -(2**63) < step < 2**63:
        step = None
    times: list[Any] = [t for t in (data.get("time"), entry.get("ts")) if is_finite(t)]
    return Event(step, float(times[0]) if times else 0.0, data)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    try:
        return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond every float
        return False


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def cell(value: object) -> str | int | float | bool | None:
    """*value* for a cell of a sheet or table: what is nested as JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value  # type: ignore[return-value]


def shown(value: object) -> str:
    """*value* for reading: text as it is, what is nested as JSON."""
    return value if isinstance(value, str) else str(cell(value))


class Series:
    """The numbers of one metric; booleans count as 0 and 1.

    ``steps`` and ``values`` are those that a chart can draw: finite floats. The extremes and the
    last value are kept as they were logged, so that a large integer keeps its digits; the last one
    is that of the greatest step, and NaN is a value like any other.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.steps: array[float] = array("d")
        self.values: array[float] = array("d")
        self.count = 0
        self.last: float = math.nan
        self.low: float = math.nan
        self.high: float = math.nan
        self._last_at = (-math.inf, -math.inf)

    def add(self, step: float, time: float, value: float) -> None:
        self.count += 1
        if (step, time) >= self._last_at:
            self._last_at, self.last = (step, time), value
        if isinstance(value, bool) or is_finite(value):
            if not self.values:  # infinities are extremes only where there is nothing else
                self.low = self.high = value
            self.steps.append(step)
            self.values.append(value)
        elif self.values or value != value:
            return
        self.low = value if self.low != self.low else min(self.low, value)
        self.high = value if self.high != self.high else max(self.high, value)

    @property
    def mean(self) -> float:
        """The mean of the finite values; without one, an infinity if all are the same, or NaN."""
        if not self.values:
            return self.low if self.low == self.high else math.nan
        try:
            return math.fsum(self.values) / len(self.values)
        except OverflowError:
            return math.inf


def all_series(record: Record) -> tuple[int, list[Series]]:
    """Return how many events there are, and every metric with a number, as first logged."""
    series_by_key: dict[str, Series] = {}
    count = 0
    for count, event in enumerate(record.events(), 1):
        step = count if event.step is None else event.step
        for key, value in event.data.items():
            if key not in AXES and (isinstance(value, bool) or is_number(value)):
                series = series_by_key.get(key) or series_by_key.setdefault(key, Series(key))
                series.add(step, event.time, value)
    return count, list(series_by_key.values())
