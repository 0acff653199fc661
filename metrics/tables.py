"""Tables of what a run logged, with one row per step or per moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import orjson
from django.db.models import Q

from .blocks import (
    BATCH_SIZE,
    BLOCK_SIZE,
    EVERYTHING,
    STEP_KEY,
    Range,
    count_rows,
    event_log,
    events_between,
    in_64_bits,
    read_columns,
    read_numbers,
    read_steps,
    read_times,
    series_columns,
    shown_series,
)
from .columns import (
    EXACT,
    INTEGER,
    NESTED,
    NO_STEP,
    Column,
    Floats,
    Integers,
    chain,
    column,
    json_text,
    json_values,
    verify,
)
from .curves import level_for, points_of
from .levels import Points, join
from .models import EventBlock, EventLog, Series, SeriesBlock
from .sampling import downsample, downsample_rows


@dataclass
class Table:
    """Rows in the ascending order of their index; each column has a value for every row."""

    index_name: str
    index: Any
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, at: Integers) -> Table:
        columns = {key: column.take(at) for key, column in self.columns.items()}
        return Table(self.index_name, self.index[at], columns)

    def json_rows(self) -> bytes:
        """Return the rows as JSON objects, with commas between them.

        Each column is written by itself and the rows are put together as text, which is five times
        as fast as a dictionary per row.
        """
        names = [self.index_name, *self.columns]
        members = [b"%b:%%b" % orjson.dumps(name).replace(b"%", b"%%") for name in names]
        row = b"{" + b",".join(members) + b"}"
        texts = [json_values(self.index), *(values.to_json() for values in self.columns.values())]
        return b",".join(map(row.__mod__, zip(*texts, strict=True)))


@dataclass
class Tables:
    """A table in consecutive batches; ``columns`` has the names of their columns.

    ``total`` counts all rows, ``rows`` those in the batches (fewer if they were downsampled);
    ``last`` is the index of the last. ``unplaced`` counts the events of the run that are in no row,
    because they have no step that fits into 64 bits. ``streams`` writes each column by itself,
    where that takes no more memory than a batch.
    """

    columns: list[str]
    batches: Iterator[Table]
    total: int
    last: int | float | None = None
    rows: int = -1
    unplaced: int = 0
    streams: dict[str, Callable[[], Iterator[bytes]]] | None = None

    def __post_init__(self) -> None:
        if self.rows < 0:
            self.rows = self.total

    def whole(self) -> Table | None:
        """Return all batches as one; None if there is no row."""
        batches = list(self.batches)
        if len(batches) <= 1:
            return batches[0] if batches else None
        return Table(
            batches[0].index_name,
            np.concatenate([batch.index for batch in batches]),
            {key: _stack([batch.columns[key] for batch in batches]) for key in batches[0].columns},
        )

    def by_column(self) -> list[tuple[str, Iterator[bytes]]]:
        """Return each column's name and its values as JSON, with commas between, in batches."""
        if self.streams is not None:
            return [(name, texts()) for name, texts in self.streams.items()]
        table = self.whole()
        if table is None:
            return []
        columns = {key: values.json_text() for key, values in table.columns.items()}
        return [
            (name, iter([text]))
            for name, text in ((table.index_name, json_text(table.index)), *columns.items())
        ]

    def downsample(self, points: int) -> Tables:
        """Keep at most *points* of the rows (``metrics.sampling.downsample_rows``)."""
        if self.total <= points:
            return self
        table = self.whole()
        assert table is not None
        numeric = [c.numbers() for c in table.columns.values() if c.has_numbers()]
        kept = table.take(downsample_rows(numeric, len(table), points))
        return replace(self, batches=iter([kept]), rows=len(kept), streams=None)


def _stack(parts: list[Column]) -> Column:
    """Return the columns of consecutive batches as one."""
    start, moved = 0, []
    for part in parts:
        moved.append(part.moved(start))
        start += len(part)
    return chain(moved)


def by_step(
    run_pk: int,
    *,
    keys: Sequence[str] | None = None,
    steps: Range = EVERYTHING,
    after: int = 0,
    numbers: bool = False,
    log: EventLog | None = None,
) -> Tables:
    """Return one row per step, ascending; the last of several values of a key at a step wins.

    Events without a step are left out, and so are those before the event number *after*. With
    *numbers* (the V2 form), only numeric series are included, ``epoch`` among them, and only their
    numbers; otherwise all series with other values than lists and objects. *keys* limits the
    series, in its order. *log* is the run's event log, if the caller has it: events logged later
    are then left out.
    """
    series = shown_series(run_pk, keys, numbers)
    log = log or event_log(run_pk)
    if log is None or not log.is_ascending:
        return _merged_by_step(run_pk, series, steps, after, numbers)
    first, end, _, high = events_between(log, steps)
    end = min(end, log.count)
    first = max(first, min(after, end))
    total = count_rows(log, first, end)
    if log.unplaced_count and not numbers:
        series = [s for s in series if s.point_count or _has_step(s, log)]
    columns = [STEP_KEY, *(s.key for s in series)] if log.row_count else []
    index = partial(read_steps, run_pk)
    has_repeats = log.row_count < log.count
    by_key = {s.key: s for s in series}
    rows = _Rows(run_pk, first, end, STEP_KEY, index, by_key, has_repeats, numbers)
    last = high if total else None
    tables = Tables(columns, rows.batches(), total, last, unplaced=log.unplaced_count)
    tables.streams = rows.streams() if total else {}
    return tables


def _has_step(series: Series, log: EventLog) -> bool:
    """Return whether any value of *series* that tables show was logged at a step."""
    steps = read_steps(log.run_id, 0, log.count)
    return any(
        (steps[_without_nested(part).events] != NO_STEP).any()
        for part in read_columns([series], 0, log.count).values()
    )


def rows_of(index: Any) -> tuple[Integers, Any]:
    """Return the row of each event, -1 for one without a step, and the index of each row.

    *index* has the index of each event, ascending.
    """
    if index.min(initial=0) == NO_STEP:
        placed = np.flatnonzero(index != NO_STEP)
        rows = np.full(len(index), -1, np.int64)
        rows[placed], labels = rows_of(index[placed])
        return rows, labels
    is_new = np.ones(len(index), np.bool_)
    np.not_equal(index[1:], index[:-1], out=is_new[1:])
    if is_new.all():
        return np.arange(len(index)), index
    return np.cumsum(is_new) - 1, index[is_new]


@dataclass
class _Rows:
    """Rows of the events *first* to *end* of a run whose index ascends, read a batch at a time.

    ``index(start, stop)`` returns the index of the events from *start*, where a block begins.
    *has_repeats*: several events may have the same index and then form one row. A column without
    a series contains the steps.
    """

    run_pk: int
    first: int
    end: int
    index_name: str
    index: Callable[[int, int], Any]
    columns: Mapping[str, Series | None]
    has_repeats: bool = False
    numbers: bool = False

    def batches(self) -> Iterator[Table]:
        return self._batches(self.columns)

    def streams(self) -> dict[str, Callable[[], Iterator[bytes]]]:
        texts = {key: partial(self._texts, key) for key in self.columns}
        return {self.index_name: self._index_texts, **texts}

    def _index_texts(self) -> Iterator[bytes]:
        return (json_text(batch.index) for batch in self._batches({}))

    def _texts(self, key: str) -> Iterator[bytes]:
        batches = self._batches({key: self.columns[key]})
        return (batch.columns[key].json_text() for batch in batches)

    def _batches(self, columns: Mapping[str, Series | None]) -> Iterator[Table]:
        """Yield the rows with these columns.

        The last row of a batch may continue in the next: it is carried over as one event before it.
        """
        carried_index, carried = None, dict.fromkeys(columns, _NO_VALUES)
        for start in range(self.first // BLOCK_SIZE * BLOCK_SIZE, self.end, BATCH_SIZE):
            low, stop = max(self.first, start), min(start + BATCH_SIZE, self.end)
            index, base = self.index(start, stop)[low - start : stop - start], low
            if carried_index is not None:
                index, base = np.concatenate([carried_index, index]), low - 1
            rows, labels = rows_of(index)
            count = len(labels)
            if self.has_repeats and stop < self.end and count:
                count -= 1
            carried_index = labels[count:] if count < len(labels) else None
            spread = {}
            for key, part in self._read(columns, start, low, stop).items():
                if len(carried[key]):
                    part = chain([carried[key], part])
                row = rows[part.events - base]
                spread[key] = _spread(part, row, count)
                if self.has_repeats:
                    carried[key] = part.take(np.flatnonzero(row == count)[-1:])
                    carried[key].events = np.full(len(carried[key]), stop - 1)
                if self.numbers:
                    spread[key] = spread[key].as_numbers()
            if count:
                yield Table(self.index_name, labels[:count], spread)

    def _read(
        self, columns: Mapping[str, Series | None], start: int, low: int, stop: int
    ) -> dict[str, Column]:
        """Return the values of the events *low* to *stop*, by key. A block begins at *start*."""
        parts = read_columns([s for s in columns.values() if s is not None], start, stop)
        by_key = {}
        for key, s in columns.items():
            if s is None:
                part = _of_steps(read_steps(self.run_pk, start, stop)).moved(start)
            else:
                part = parts.get(s.pk, _NO_VALUES)
            part = part.between(low, stop)
            by_key[key] = part.only_numbers() if self.numbers else _without_nested(part)
        return by_key


_NO_VALUES = Column(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8), [])


def _without_nested(part: Column) -> Column:
    is_nested = part.kinds == NESTED
    return part.take(np.flatnonzero(~is_nested)) if is_nested.any() else part


def _spread(part: Column, row: Integers, count: int) -> Column:
    """Return *count* rows with the values of *part* in *row*; skip rows beyond."""
    is_shown = (row >= 0) & (row < count)
    if not is_shown.all():
        part, row = part.take(np.flatnonzero(is_shown)), row[is_shown]
    return part.spread(row, count)


def _of_steps(steps: Integers) -> Column:
    """Return the steps as a column of integers, without the events that have none."""
    events = np.flatnonzero(steps != NO_STEP)
    placed = steps[events]
    if np.abs(placed).max(initial=0) > EXACT:
        return column(events, placed.tolist())
    return Column(events, placed.astype(np.float64), np.full(len(events), INTEGER, np.uint8), [])


LONG = 2**16
"""The number of rows from which a series is downsampled by its levels."""


def sampled_by_step(
    run_pk: int,
    points: int,
    *,
    keys: Sequence[str] | None = None,
    steps: Range = EVERYTHING,
    after: int = 0,
    log: EventLog | None = None,
) -> Tables:
    """Return at most *points* rows of ``by_step`` with its numbers, downsampled by the same rule.

    A long run is not read for this: levels select the rows, and only their blocks are read.
    """
    log = log or event_log(run_pk)
    if log is None or not log.is_ascending or after:
        rows = by_step(run_pk, keys=keys, steps=steps, after=after, numbers=True, log=log)
        return rows.downsample(points)
    first, end, low, high = events_between(log, steps)
    end = min(end, log.count)
    series = shown_series(run_pk, keys, True)
    columns = [STEP_KEY, *(s.key for s in series)]
    count, budget = count_rows(log, first, end), (points - 2) // max(1, len(series))
    is_long = count > LONG if len(series) == 1 else count * len(series) > 8 * LONG
    level = level_for(first, end, budget) if is_long and budget >= 4 else 0
    if count <= points or not series:
        rows = by_step(run_pk, keys=keys, steps=steps, numbers=True, log=log)
        return rows.downsample(points)
    if level:
        table = _sample(series, level, log, (first, end), (low, high), points)
    else:
        table = _downsample(series, first, end, points)
    return Tables(columns, iter([table]), count, high, len(table), log.unplaced_count)


def _downsample(series: list[Series], first: int, end: int, points: int) -> Table:
    """Return at most *points* of the rows of these events, by reading all their numbers."""
    block = first // BLOCK_SIZE * BLOCK_SIZE
    steps = read_steps(series[0].run_id, block, end)[first - block : end - block]
    rows, index = rows_of(steps)
    is_plain = len(index) == end - first
    values = {s.pk: np.full(len(index), np.nan) for s in series}
    for pk, events, numbers in read_numbers(list(values), first, end):
        if is_plain and len(numbers) == end - first:
            values[pk] = numbers
            continue
        row = rows[events - first]
        if row.min() < 0:
            row, numbers = row[row >= 0], numbers[row >= 0]
        if len(numbers) == len(index) and (row[1:] > row[:-1]).all():
            values[pk] = numbers
        else:
            values[pk][row] = numbers
    finite = [numbers for numbers in values.values() if np.isfinite(numbers).any()]
    kept = downsample_rows(finite, len(index), points)
    kinds = np.zeros(len(kept), np.uint8)
    columns = {s.key: Column(kept, values[s.pk][kept], kinds, []) for s in series}
    return Table(STEP_KEY, index[kept], columns)


def _sample(
    series: list[Series],
    level: int,
    log: EventLog,
    events: tuple[int, int],
    bounds: tuple[int | None, int | None],
    points: int,
) -> Table:
    """Return at most *points* of the rows of these *events*, by the levels from *level* on."""
    first, end = events
    budget = (points - 2) // len(series)
    chosen = {}
    for s, points_of_series in points_of(series, level, first, end, log.covered_events):
        chosen[s.pk] = points_of_series.take(downsample(points_of_series.values, budget))
    edges = Points(np.array([first, end - 1]), np.array(bounds, np.int64), np.full(2, np.nan))
    merged = join([*chosen.values(), edges])
    index, at = np.unique(merged.steps, return_index=True)
    if len(series) == 1:
        values = np.full(len(index), np.nan)
        single = chosen[series[0].pk]
        values[np.searchsorted(index, single.steps)] = single.values
        by_key = {series[0].key: values}
    else:
        has_repeats = log.row_count < log.count
        by_key = _numbers_at(series, merged.events[at], index, has_repeats)
    rows, kinds = np.arange(len(index)), np.zeros(len(index), np.uint8)
    columns = {key: Column(rows, values, kinds, []) for key, values in by_key.items()}
    return Table(STEP_KEY, index, columns)


def _numbers_at(
    series: list[Series], events: Integers, steps: Integers, has_repeats: bool
) -> dict[str, Floats]:
    """Return the numbers that each of *series* logged at these *steps*; NaN if none.

    Each of *events* is one of the events at its step; without repeats it is the only one.
    """
    values = {s.pk: np.full(len(events), np.nan) for s in series}
    blocks = np.unique(events // BLOCK_SIZE * BLOCK_SIZE)
    for start in range(0, len(blocks), 32):
        batch = blocks[start : start + 32].tolist()
        # The small blocks of the growing end begin between these.
        block_filter = Q(first__in=batch) | Q(first__gt=batch[-1], first__lt=batch[-1] + BLOCK_SIZE)
        block_steps: dict[int, Integers] = {}
        if has_repeats:
            block_steps = _steps_at(series[0].run_id, block_filter, steps)
            block_filter = Q(first__in=list(block_steps))
        rows = SeriesBlock.objects.filter(block_filter, series__in=list(values))
        firsts = np.array(sorted(block_steps), np.int64)
        for pk, part in series_columns(rows):
            part = part.only_numbers()
            if not len(part):
                continue
            index, targets = part.events, events
            if has_repeats:
                first = int(firsts[np.searchsorted(firsts, part.events[0], "right") - 1])
                index, targets = block_steps[first][part.events - first], steps
                if index.min() == NO_STEP:
                    is_placed = np.flatnonzero(index != NO_STEP)
                    index, part = index[is_placed], part.take(is_placed)
                    if not len(part):
                        continue
            low = np.searchsorted(targets, index[0])
            high = np.searchsorted(targets, index[-1], "right")
            at = np.searchsorted(index, targets[low:high], "right") - 1
            is_logged = index[at] == targets[low:high]
            values[pk][low:high][is_logged] = part.values[at[is_logged]]
    return {s.key: values[s.pk] for s in series}


def _steps_at(run_pk: int, block_filter: Q, steps: Integers) -> dict[int, Integers]:
    """Return the steps of the events in these blocks, and in others with the same row.

    They are keyed by the number of the block's first event. A row that crosses the end of a block
    is at the lowest or highest step of the next one.
    """
    by_first: dict[int, Integers] = {}
    bounds: set[int] = set()

    def read(condition: Q) -> None:
        blocks = EventBlock.objects.filter(condition, run=run_pk).exclude(first__in=list(by_first))
        fields = ("pk", "steps_checksum", "first", "low_step", "high_step", "steps")
        for pk, expected, first, low, high, packed in blocks.values_list(*fields):
            verify(f"metrics.EventBlock {pk}", expected, packed)
            by_first[first] = np.frombuffer(packed, "<i8")
            bounds.update(step for step in (low, high) if step is not None)

    read(block_filter)
    crossing_steps = np.intersect1d(np.array(sorted(bounds), np.int64), steps).tolist()
    for start in range(0, len(crossing_steps), 250):
        batch = crossing_steps[start : start + 250]
        read(Q(low_step__in=batch) | Q(high_step__in=batch))
    return by_first


def _merged_by_step(
    run_pk: int, series: list[Series], steps: Range, after: int, numbers: bool
) -> Tables:
    """Read all of a run whose steps go back, and sort it by step."""
    at = read_steps(run_pk)
    has_steps = bool((at != NO_STEP).any())
    is_shown = at != NO_STEP
    is_shown[:after] = False
    low, high = in_64_bits(steps)
    if low is not None:
        is_shown &= at >= low
    if high is not None:
        is_shown &= at <= high
    columns = read_columns(series, 0, len(at))
    if numbers:
        columns = {pk: values.only_numbers() for pk, values in columns.items()}
    table = _merge(STEP_KEY, at, is_shown, {s.key: columns.get(s.pk) for s in series}, numbers)
    if numbers:
        table.columns = {key: values.as_numbers() for key, values in table.columns.items()}
    names = [STEP_KEY, *table.columns] if has_steps else []
    last = int(table.index[-1]) if len(table) else None
    unplaced = int(np.count_nonzero(at == NO_STEP))
    return Tables(names, iter([table]), len(table), last, unplaced=unplaced)


def by_time(run_pk: int) -> Tables:
    """Return one row per time, ascending, in seconds since the run's first event.

    Events without a time are left out; those without a step have no ``global_step``.
    """
    series = [s for s in shown_series(run_pk, None, False) if s.key != "time"]
    log = event_log(run_pk)
    if log is not None and (bounds := _ascending_times(log)):
        by_key: dict[str, Series | None] = {s.key: s for s in series}
        if log.unplaced_count < log.count:
            by_key[STEP_KEY] = None
        by_key = dict(sorted(by_key.items()))
        rows = _Rows(run_pk, 0, log.count, "time", partial(_seconds, run_pk, bounds[0]), by_key)
        names, last = ["time", *by_key], bounds[1] - bounds[0]
        return Tables(names, rows.batches(), log.count, last, streams=rows.streams())
    steps, times = read_steps(run_pk), read_times(run_pk)
    is_timed = np.isfinite(times)
    parts = read_columns(series, 0, len(steps))
    columns = {s.key: parts.get(s.pk) for s in series}
    if (steps != NO_STEP).any():
        columns[STEP_KEY] = _of_steps(steps)
    origin = times[is_timed].min() if is_timed.any() else 0.0
    table = _merge("time", times - origin, is_timed, dict(sorted(columns.items())), False)
    names = ["time", *table.columns] if len(table) else []
    return Tables(names, iter([table]), len(table), table.index[-1] if len(table) else None)


def _ascending_times(log: EventLog) -> tuple[float, float] | None:
    """Return the first and last time of a run whose times strictly ascend, else None."""
    first = last = -math.inf
    for start in range(0, log.count, BATCH_SIZE):
        times = read_times(log.run_id, start, min(start + BATCH_SIZE, log.count))
        times = times[: log.count - start]
        if not (len(times) and np.isfinite(times).all() and times[0] > last):
            return None
        if not (times[1:] > times[:-1]).all():
            return None
        first, last = (float(times[0]) if start == 0 else first), float(times[-1])
    return first, last


def _seconds(run_pk: int, origin: float, start: int, stop: int) -> Floats:
    return read_times(run_pk, start, stop) - origin


def _merge(
    index_name: str,
    positions: Any,
    is_placed: np.ndarray[Any, Any],
    columns: dict[str, Column | None],
    keep_empty: bool,
) -> Table:
    """Return all columns as rows; *is_placed* says which events have an index."""
    index, row = np.unique(positions[is_placed], return_inverse=True)
    row_of_event = np.full(len(positions), -1, np.int64)
    row_of_event[is_placed] = row
    spread = {}
    for key, values in columns.items():
        if values is None:
            continue
        rows = row_of_event[values.events]
        is_shown = (rows >= 0) & (values.kinds != NESTED)
        if is_shown.any() or keep_empty:
            at = np.flatnonzero(is_shown)
            spread[key] = values.take(at).spread(rows[at], len(index))
    return Table(index_name, index, spread)
