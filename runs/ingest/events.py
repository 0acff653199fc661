"""Parse the lines of ``events.jsonl``: metrics into columns, images into rows."""

from __future__ import annotations

import gc
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from metrics import write as metrics
from metrics.columns import NO_STEP
from runicorn import layout

from ..models import Image, Run, to_datetime
from .batch import Batch
from .documents import text

MAX_LINE = 128 * 2**20
"""A longer line is skipped, in parts of this size."""

INT64 = 2**63

HIDDEN_NAMED, HIDDEN_LENGTH = 10, 100
"""So many keys of hidden values are named, each with so many characters."""

logger = logging.getLogger("runicorn.runs")


def read_events(batch: Batch, data: bytes) -> int:
    """Parse the complete lines in *data*; return the number of their bytes."""
    end = data.rfind(b"\n") + 1
    rest = data[end:]
    # A last line without newline is complete if it is an object: no prefix of an object is one.
    if (rest.rstrip().endswith(b"}") and _parse_line(rest) is not None) or len(rest) >= MAX_LINE:
        end = len(data)

    run = batch.run
    batch.first_event = run.event_count
    parts = []
    start = 0
    # Some hundred lines at a time become columns before the next are parsed: their dictionaries
    # stay in the processor's cache.
    with _no_collection():
        while start < end:
            stop = data.find(b"\n", start + TEXT_AT_ONCE, end)
            stop = end if stop < 0 else stop
            text = data[start:stop].removesuffix(b"\n")
            lines = partial(text.split, b"\n")
            entries = _parse_plain(text)
            if entries is not None:
                parts.append(_events(*entries, lines))
            elif logged := _parse_any(batch, batch.offset + start, lines()):
                parts.append(_events(*logged[0], partial(list, logged[1])))
            start = stop + 1
    if parts:
        batch.events = metrics.join(parts)
        run.event_count += len(batch.events)
        _count_hidden(run, batch.events.hidden)
    return end


def _count_hidden(run: Run, hidden: Counter[str]) -> None:
    """Count the values that no answer shows, and name their keys the first time."""
    if not hidden:
        return
    run.hidden_values += hidden.total()
    keys = dict.fromkeys(text(key, HIDDEN_LENGTH) or "" for key in hidden)
    new = [key for key in keys if key not in run.hidden_keys][: HIDDEN_NAMED - len(run.hidden_keys)]
    if new:
        run.hidden_keys = [*run.hidden_keys, *new]
        logger.warning(
            "Run %s logs what no table or chart shows, lists, objects or keys of more than %d "
            "characters: %s",
            *(run.run_id, metrics.MAX_KEY_LENGTH, ", ".join(map(repr, new))),
        )


TEXT_AT_ONCE = 2**17
"""The bytes that are parsed together, up to the end of the last line."""


@contextmanager
def _no_collection() -> Iterator[None]:
    """Suspend garbage collection: thousands of dictionaries are created, but no reference cycles.

    It would traverse all of the server's objects every few hundred thousand lines.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


Entries = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Parsed metrics lines, and the ``data`` of each."""


def _parse_plain(text: bytes) -> Entries | None:
    """Return the entries, parsed in one call, if all lines are metrics, as in most files."""
    if text[:1] != b"{" or text[-1:] != b"}":
        return None
    try:
        # As many objects as lines: an object that crosses a line's end makes them fewer.
        entries = orjson.loads(b"[%b]" % text.replace(b"\n", b","))
        if len(entries) != text.count(b"\n") + 1:
            return None
        data = list(map(_data_of, entries))
        if set(map(type, data)) != {dict} or set(map(_type_of, entries)) != {"metrics"}:
            return None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return entries, data


_data_of, _type_of = itemgetter("data"), itemgetter("type")


def _parse_any(batch: Batch, at: int, lines: list[bytes]) -> tuple[Entries, list[bytes]] | None:
    """Parse line by line; collect images, and count lines that cannot be read."""
    entries: list[dict[str, Any]] = []
    metrics_lines = []
    for line in lines:
        if line and not line.isspace():
            entry = _parse_line(line) or _parse_after_fragment(line)
            values = entry.get("data") if entry is not None else None
            if entry is None:
                batch.run.unreadable_lines += 1
            elif isinstance(values, dict):
                if entry.get("type") == "metrics":
                    entries.append(entry)
                    metrics_lines.append(line)
                elif entry.get("type") == "image" and isinstance(values.get("path"), str):
                    batch.images.append(_image(batch.name, at, entry, values))
        at += len(line) + 1
    return ((entries, list(map(_data_of, entries))), metrics_lines) if entries else None


def _events(
    entries: list[dict[str, Any]], data: list[dict[str, Any]], lines: Callable[[], list[bytes]]
) -> metrics.Events:
    """Return metrics lines as columns. Steps and times have one type in most runs."""
    columns, hidden = metrics.columns(data, lambda i: _exact(lines()[i]))
    steps = _plain_steps(data)
    if steps is None:
        exact = [_step(values) for values in data]
        steps = np.array([NO_STEP if step is None else step for step in exact], np.int64)
    column = columns.get("time")
    if column is not None and len(column) == len(data) and column.are_finite_floats():
        times = column.values
    else:
        exact_times = [_time(entry["data"], entry) for entry in entries]
        times = np.array([np.nan if time is None else time for time in exact_times], np.float64)
    return metrics.Events(steps, times, columns, hidden)


def _plain_steps(data: list[dict[str, Any]]) -> Any:
    """Return the steps, if all lines have one and all are integers of 64 bits."""
    try:
        steps = list(map(itemgetter("global_step"), data))
        if set(map(type, steps)) == {int}:
            plain = np.array(steps, np.int64)
            return plain if plain.min() != NO_STEP else None
    except (KeyError, OverflowError):
        pass
    return None


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the object on the line, or None. NaN, Infinity and invalid UTF-8 are accepted."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return layout.parse_json(line)
    return value if isinstance(value, dict) else None


def _parse_after_fragment(line: bytes) -> dict[str, Any] | None:
    """Return the event after the fragment that a killed process left on the line."""
    start = line.rfind(b'{"ts":')
    return _parse_line(line[start:]) if start > 0 else None


def _exact(line: bytes) -> dict[str, Any]:
    """Return the ``data`` of the line, with integers of any size."""
    entry = layout.parse_json(line) or layout.parse_json(line[line.rfind(b'{"ts":') :]) or {}
    return entry["data"]


def _step(values: dict[str, Any]) -> int | None:
    """Return ``global_step``, or ``step`` without that key; None if not an integer of 64 bits.

    Texts and fractions are converted as in v0.4.
    """
    raw = values["global_step"] if "global_step" in values else values.get("step")
    try:
        step = int(raw)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return step if -INT64 < step < INT64 else None


def _time(values: dict[str, Any], entry: dict[str, Any]) -> float | None:
    for raw in (values.get("time"), entry.get("ts")):
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            try:
                time = float(raw)
            except OverflowError:
                continue
            if math.isfinite(time):
                return time
    return None


def _image(file: str, offset: int, entry: dict[str, Any], values: dict[str, Any]) -> Image:
    return Image(
        file=file,
        offset=offset,
        key=text(values.get("key"), 1024) or "",
        path=text(values["path"], 1100) or "",
        step=_step({"step": values.get("step")}),
        caption=text(values.get("caption"), 100_000) or "",
        logged_at=to_datetime(_time({}, entry)),
    )
