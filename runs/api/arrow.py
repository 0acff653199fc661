"""Metric tables as Apache Arrow and Parquet, a batch at a time.

Imported on first use, as it loads thirty megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from metrics import read as metrics
from runicorn._drained import Drained

from .forms import PARQUET

LONG = pa.schema(
    [
        ("run_id", pa.dictionary(pa.int32(), pa.string())),
        ("metric", pa.dictionary(pa.int32(), pa.string())),
        ("step", pa.int64()),
        ("value", pa.float64()),
    ]
)
"""The schema with one row per point, for series of many runs."""


def table(tables: metrics.Tables, form: str) -> Iterator[bytes]:
    """Yield a table with a column per series: numbers as float64, text as text, else null."""
    first = next(tables.batches, None)
    if first is None or not tables.columns:
        yield from write(pa.schema([]), iter(()), form)
        return
    is_text = {key: not column.has_numbers() for key, column in first.columns.items()}
    schema = pa.schema(
        [
            (first.index_name, pa.from_numpy_dtype(first.index.dtype)),
            *((key, pa.string() if text else pa.float64()) for key, text in is_text.items()),
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        batch: metrics.Table | None = first
        while batch is not None:
            columns = [pa.array(batch.index)]
            for key, text in is_text.items():
                column = batch.columns[key]
                if text:
                    columns.append(pa.array(column.texts(), pa.string()))
                else:
                    columns.append(pa.array(column.numbers(), mask=column.is_absent()))
            yield pa.record_batch(columns, schema=schema)
            batch = next(tables.batches, None)

    yield from write(schema, batches(), form)


def points(series: Iterator[tuple[str, str, Any, Any]], form: str) -> Iterator[bytes]:
    """Yield series, each (run id, metric, steps, values), one below the other (``LONG``)."""

    def batches() -> Iterator[pa.RecordBatch]:
        for run_id, metric, steps, values in series:
            columns = [
                pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(steps)), [n])
                for n in (run_id, metric)
            ]
            columns += [pa.array(steps), pa.array(values)]
            yield pa.record_batch(columns, schema=LONG)

    yield from write(LONG, batches(), form)


def write(schema: pa.Schema, batches: Iterator[pa.RecordBatch], form: str) -> Iterator[bytes]:
    """Yield *batches* as bytes of *form*, with one in memory at a time."""
    sink = Drained()
    file = pa.PythonFile(sink, mode="w")
    if form == PARQUET:
        writer: Any = pq.ParquetWriter(file, schema)
    else:
        options = pa.ipc.IpcWriteOptions()
        writer = pa.ipc.new_stream(file, schema, options=options)
    for batch in batches:
        writer.write_batch(batch)
        yield sink.take()
    writer.close()
    yield sink.take()
