"""Logged values as columns of float64, and back without loss.

A number that a float64 holds exactly is kept as one; a byte beside it remembers whether it was an
integer, a boolean or null. Text, larger integers, lists and objects are kept as JSON in a list of
``extras``, each once, and the float64 is the index into it.

NaN and the infinities are ordinary values here. They become null in JSON answers (``to_json``)
and never count in statistics. All numbers are little endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, INTEGER, BOOLEAN, NULL, EXTRA, NESTED = range(6)
"""Kinds of a value. NESTED is a list or object: kept, but no V1 table shows it."""

NO_STEP = -(2**63)
"""Stands in a column of steps for an event without one."""

EXACT = 2**53
"""Integers up to this magnitude are exact as float64."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass
class Column:
    """Values of one series: ``events[i]`` is the number of the event that logged ``values[i]``."""

    events: Integers
    values: Floats
    kinds: NDArray[np.uint8]
    extras: list[Any]

    def __len__(self) -> int:
        return len(self.events)

    def between(self, first: int, end: int) -> Column:
        """The part logged by events ``first`` to ``end - 1``."""
        low, high = np.searchsorted(self.events, (first, end))
        kinds, values, extras = self.kinds[low:high], self.values[low:high], []
        indexed = kinds >= EXTRA
        if indexed.any():  # carry over the extras that this part refers to, and no others
            used, index = np.unique(values[indexed].astype(np.int64), return_inverse=True)
            extras = [self.extras[i] for i in used]
            values = values.copy()
            values[indexed] = index
        return Column(self.events[low:high], values, kinds, extras)

    def finite(self) -> NDArray[np.bool_]:
        """Where the value is a finite number (booleans are 0 and 1)."""
        return (self.kinds <= BOOLEAN) & np.isfinite(self.values)

    def to_json(self) -> list[Any]:
        """The values as JSON knows them: integers stay integers, NaN and infinities are null."""
        if not self.kinds.any():
            cells = self.values.tolist()
            if np.isfinite(self.values).all():
                return cells
            return [cell if math.isfinite(cell) else None for cell in cells]
        if (self.kinds == INTEGER).all():
            return self.values.astype(np.int64).tolist()
        return [
            _to_json(value, kind, self.extras)
            for value, kind in zip(self.values.tolist(), self.kinds.tolist(), strict=True)
        ]


def _to_json(value: float, kind: int, extras: list[Any]) -> Any:
    if kind == FLOAT:
        return value if math.isfinite(value) else None
    if kind == INTEGER:
        return int(value)
    if kind == BOOLEAN:
        return bool(value)
    return None if kind == NULL else extras[int(value)]


def column(events: Integers, cells: Sequence[Any]) -> Column:
    """*cells* (anything that JSON holds) as a column."""
    count = len(cells)
    types = set(map(type, cells))
    if types == {float}:
        return Column(events, np.array(cells, np.float64), np.zeros(count, np.uint8), [])
    if types == {int} and min(cells) >= -EXACT and max(cells) <= EXACT:
        kinds = np.full(count, INTEGER, np.uint8)
        return Column(events, np.array(cells, np.float64), kinds, [])

    values, kinds = np.zeros(count), np.zeros(count, np.uint8)
    extras: list[Any] = []
    known: dict[str | int, int] = {}
    for i, cell in enumerate(cells):
        if isinstance(cell, bool):
            values[i], kinds[i] = cell, BOOLEAN
        elif isinstance(cell, float):
            values[i] = cell
        elif cell is None:
            kinds[i] = NULL
        elif isinstance(cell, int) and -EXACT <= cell <= EXACT:
            values[i], kinds[i] = cell, INTEGER
        elif isinstance(cell, str | int):
            if cell not in known:
                known[cell] = len(extras)
                extras.append(_storable(cell) if isinstance(cell, str) else cell)
            values[i], kinds[i] = known[cell], EXTRA
        else:
            values[i], kinds[i] = len(extras), NESTED
            extras.append(cell)
    return Column(events, values, kinds, extras)


def _storable(text: str) -> str:
    """Lone surrogates, which no UTF-8 answer could carry, become ``?``."""
    return text.encode("utf-8", "replace").decode()


def concatenate(columns: Sequence[Column]) -> Column:
    """One column of several, in the order of their events."""
    if len(columns) == 1:
        return columns[0]
    values = [c.values for c in columns]
    extras: list[Any] = []
    for i, part in enumerate(columns):
        if part.extras:
            if extras:
                values[i] = np.where(part.kinds >= EXTRA, part.values + len(extras), part.values)
            extras = extras + part.extras
    events = np.concatenate([c.events for c in columns])
    joined = Column(
        events, np.concatenate(values), np.concatenate([c.kinds for c in columns]), extras
    )
    if len(events) > 1 and (np.diff(events) < 0).any():
        order = np.argsort(events, kind="stable")
        joined = Column(events[order], joined.values[order], joined.kinds[order], extras)
    return joined


# -- bytes -------------------------------------------------------------------------------------


def pack(part: Column, first: int, count: int) -> dict[str, bytes]:
    """The fields of a ``SeriesBlock`` that covers *count* events from *first* on."""
    return {
        "positions": b"" if len(part) == count else (part.events - first).astype("<u2").tobytes(),
        "values": part.values.astype("<f8").tobytes(),
        "kinds": part.kinds.tobytes() if part.kinds.any() else b"",
        "extras": json.dumps(part.extras, separators=(",", ":")).encode() if part.extras else b"",
    }


def unpack(first: int, positions: bytes, values: bytes, kinds: bytes, extras: bytes) -> Column:
    numbers = np.frombuffer(values, "<f8")
    if positions:
        events = np.frombuffer(positions, "<u2").astype(np.int64) + first
    else:
        events = np.arange(first, first + len(numbers), dtype=np.int64)
    return Column(
        events,
        numbers,
        np.frombuffer(kinds, np.uint8) if kinds else np.zeros(len(numbers), np.uint8),
        json.loads(bytes(extras)) if extras else [],
    )
