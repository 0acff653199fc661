"""Logged values as columns of float64, and back without loss.

A number that float64 represents exactly is stored as one; a byte beside it records whether it was
an integer, a boolean or null. Text, larger integers, lists and objects are stored as JSON in a list
of ``extras``, each once, and the float64 is the index into it.

NaN and the infinities are ordinary values here. They become null in JSON (``to_json``) and never
count in statistics. All numbers are little endian.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .exceptions import CorruptBlock

FLOAT, INTEGER, BOOLEAN, NULL, EXTRA, NESTED = range(6)
"""The kinds of values. NESTED is a list or object, which is stored but in no V1 table."""

NO_STEP = -(2**63)
"""The value in a column of steps for an event without a step."""

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
        """Return the part that events ``first`` to ``end - 1`` logged."""
        low, high = np.searchsorted(self.events, (first, end))
        kinds, values, extras = self.kinds[low:high], self.values[low:high], []
        indexed = kinds >= EXTRA
        if indexed.any():  # carry over the extras that this part refers to, and no others
            used, index = np.unique(values[indexed].astype(np.int64), return_inverse=True)
            extras = [self.extras[i] for i in used]
            values = values.copy()
            values[indexed] = index
        return Column(self.events[low:high], values, kinds, extras)

    def is_number(self) -> NDArray[np.bool_]:
        """Return a mask of the numbers: NaN, infinities, booleans and huge integers are numbers."""
        is_number = self.kinds <= BOOLEAN
        if self.extras:
            is_integer = np.array([isinstance(extra, int) for extra in self.extras])
            at = np.flatnonzero(self.kinds == EXTRA)
            is_number[at] = is_integer[self.values[at].astype(np.int64)]
        return is_number

    def finite(self) -> NDArray[np.bool_]:
        """Return a mask of the finite numbers."""
        return np.isfinite(self.numbers())

    def are_finite_floats(self) -> bool:
        return not self.kinds.any() and bool(np.isfinite(self.values).all())

    def numbers(self) -> Floats:
        """Return the values as float64, booleans as 0 and 1; NaN for anything but numbers.

        An integer beyond the range of float64 is an infinity.
        """
        if not self.kinds.any():
            return self.values
        numbers = np.where(self.kinds <= BOOLEAN, self.values, np.nan)
        if self.extras:
            at = np.flatnonzero(self.kinds == EXTRA)
            numbers[at] = np.array([_as_float(e) for e in self.extras])[
                self.values[at].astype(np.int64)
            ]
        return numbers

    def only_numbers(self) -> Column:
        """Return only the numbers, as a column of float64."""
        if not self.kinds.any():
            return self
        at = np.flatnonzero(self.is_number())
        logged = self if len(at) == len(self) else self.take(at)
        return Column(logged.events, logged.numbers(), np.zeros(len(logged), np.uint8), [])

    def as_numbers(self) -> Column:
        """Return ``numbers`` as a column."""
        if not self.kinds.any():
            return self
        return Column(self.events, self.numbers(), np.zeros(len(self), np.uint8), [])

    def is_absent(self) -> NDArray[np.bool_]:
        """Return a mask of the values that are not numbers, not even NaN or an infinity."""
        return np.isnan(self.numbers()) & (self.kinds != FLOAT)

    def texts(self) -> list[str | None]:
        """Return the texts; None for any other value."""
        texts = [extra if isinstance(extra, str) else None for extra in self.extras]
        return [
            texts[int(value)] if kind == EXTRA else None
            for value, kind in zip(self.values.tolist(), self.kinds.tolist(), strict=True)
        ]

    def has_numbers(self) -> bool:
        return bool(self.is_number().any())

    def take(self, at: Integers) -> Column:
        """Return the values at these indexes."""
        return Column(self.events[at], self.values[at], self.kinds[at], self.extras)

    def moved(self, by: int) -> Column:
        """Return the same values, with *by* added to the numbers of their events."""
        return Column(self.events + by, self.values, self.kinds, self.extras)

    def spread(self, rows: Integers, count: int) -> Column:
        """Return *count* rows, with the values at *rows* (the last wins) and null in all others."""
        if len(rows) == count and (count < 2 or (np.diff(rows) > 0).all()):
            return Column(rows, self.values, self.kinds, self.extras)
        values, kinds = np.zeros(count), np.full(count, NULL, np.uint8)
        values[rows], kinds[rows] = self.values, self.kinds
        return Column(np.arange(count), values, kinds, self.extras)

    def json_text(self) -> bytes:
        """Return the values as JSON with commas between them, in one step where possible."""
        if not self.kinds.any():
            return json_text(self.values)
        return b",".join(self.to_json())

    def to_json(self) -> list[bytes]:
        """Return the values as JSON: integers stay integers; NaN, infinities and lists are null."""
        if not self.kinds.any():
            return json_values(self.values)
        if (self.kinds == INTEGER).all():
            return json_values(self.values.astype(np.int64))
        # Each kind is written separately, then all are put back in order.
        texts = np.full(len(self), b"null", object)
        for kind, write in _WRITERS.items():
            at = np.flatnonzero(self.kinds == kind)
            if len(at):
                texts[at] = write(self.values[at], self.extras)
        return texts.tolist()


def _as_float(extra: Any) -> float:
    if not isinstance(extra, int):
        return math.nan
    try:
        return float(extra)
    except OverflowError:
        return math.inf if extra > 0 else -math.inf


def json_text(numbers: NDArray[Any]) -> bytes:
    """Return *numbers* as JSON with commas between them, null for those that are not finite."""
    text = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1]


def json_values(numbers: NDArray[Any]) -> list[bytes]:
    """Return each of *numbers* as JSON, null for those that are not finite."""
    return json_text(numbers).split(b",") if len(numbers) else []


def _extras_to_json(values: Floats, extras: list[Any]) -> NDArray[np.object_]:
    texts = [json.dumps(extra, ensure_ascii=False).encode() for extra in extras]
    return np.array(texts, object)[values.astype(np.int64)]


_WRITERS = {
    FLOAT: lambda values, _: json_values(values),
    INTEGER: lambda values, _: json_values(values.astype(np.int64)),
    BOOLEAN: lambda values, _: np.where(values != 0, b"true", b"false").astype(object),
    EXTRA: _extras_to_json,
}


def column(events: Integers, logged: Sequence[Any]) -> Column:
    """Return the values *logged* (any JSON values) as a column."""
    count = len(logged)
    types = set(map(type, logged))
    if types == {float}:
        return Column(events, np.array(logged, np.float64), np.zeros(count, np.uint8), [])
    if types == {int} and min(logged) >= -EXACT and max(logged) <= EXACT:
        kinds = np.full(count, INTEGER, np.uint8)
        return Column(events, np.array(logged, np.float64), kinds, [])

    values, kinds = np.zeros(count), np.zeros(count, np.uint8)
    extras: list[Any] = []
    extra_index: dict[str | int, int] = {}
    for i, value in enumerate(logged):
        if isinstance(value, bool):
            values[i], kinds[i] = value, BOOLEAN
        elif isinstance(value, float):
            values[i] = value
        elif value is None:
            kinds[i] = NULL
        elif isinstance(value, int) and -EXACT <= value <= EXACT:
            values[i], kinds[i] = value, INTEGER
        elif isinstance(value, str | int):
            if value not in extra_index:
                extra_index[value] = len(extras)
                extras.append(_storable(value) if isinstance(value, str) else value)
            values[i], kinds[i] = extra_index[value], EXTRA
        else:
            values[i], kinds[i] = len(extras), NESTED
            extras.append(value)
    return Column(events, values, kinds, extras)


def _storable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, by ``?``."""
    return text.encode("utf-8", "replace").decode()


def concatenate(columns: Sequence[Column]) -> Column:
    """Return several columns as one, in the order of their events."""
    joined = chain(columns)
    if len(columns) > 1 and (np.diff(joined.events) < 0).any():
        return joined.take(np.argsort(joined.events, kind="stable"))
    return joined


def chain(columns: Sequence[Column]) -> Column:
    """Return several columns that follow each other as one."""
    if len(columns) == 1:
        return columns[0]
    values = [c.values for c in columns]
    extras: list[Any] = []
    for i, part in enumerate(columns):
        if part.extras:
            if extras:
                values[i] = np.where(part.kinds >= EXTRA, part.values + len(extras), part.values)
            extras = extras + part.extras
    return Column(
        np.concatenate([c.events for c in columns]),
        np.concatenate(values),
        np.concatenate([c.kinds for c in columns]),
        extras,
    )


# -- bytes -------------------------------------------------------------------------------------


def pack(part: Column, first: int, count: int) -> dict[str, Any]:
    """Return the fields of a ``SeriesBlock`` that covers *count* events from *first* on."""
    fields = {
        "positions": b"" if len(part) == count else (part.events - first).astype("<u2").tobytes(),
        "values": part.values.astype("<f8").tobytes(),
        "kinds": part.kinds.tobytes() if part.kinds.any() else b"",
        "extras": json.dumps(part.extras, separators=(",", ":")).encode() if part.extras else b"",
    }
    return {**fields, "checksum": checksum(*fields.values())}


def unpack(
    block: str,
    expected: int,
    first: int,
    positions: bytes,
    values: bytes,
    kinds: bytes,
    extras: bytes,
) -> Column:
    """Return the column of a ``SeriesBlock``. Raises CorruptBlock, naming *block*, on damage."""
    verify(block, expected, positions, values, kinds, extras)
    numbers = np.frombuffer(values, "<f8")
    return Column(
        unpack_events(first, positions, values),
        numbers,
        np.frombuffer(kinds, np.uint8) if kinds else np.zeros(len(numbers), np.uint8),
        json.loads(bytes(extras)) if extras else [],
    )


def unpack_events(first: int, positions: bytes, values: bytes) -> Integers:
    """Return the events of a ``SeriesBlock``."""
    if positions:
        return np.frombuffer(positions, "<u2").astype(np.int64) + first
    return np.arange(first, first + len(values) // 8, dtype=np.int64)


def checksum(*columns: bytes | memoryview) -> int:
    """Return the CRC-32 of the columns of a block, one after the other."""
    value = 0
    for data in columns:
        value = zlib.crc32(data, value)
    return value


def verify(block: str, expected: int, *columns: bytes | memoryview) -> None:
    """Raise CorruptBlock, naming *block*, unless the columns have the *expected* checksum."""
    if checksum(*columns) != expected:
        raise CorruptBlock(block)
