"""The one way in for logged data: "here are the bytes of file F of run R from offset N".

A watched folder, a host reached over SSH and a client that pushes over HTTP all say this sentence
(``append``), or hand over a small file as a whole (``replace``). How far a file has been taken in
is written in the same transaction as what was read from it: after a crash on either side nothing
is lost and nothing is there twice.
"""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
from django.db import transaction
from django.db.models import QuerySet

from metrics import write as metrics
from metrics.columns import NO_STEP
from metrics.rows import insert
from runicorn import layout

from ..logs import live
from ..models import (
    Image,
    LogChunk,
    Param,
    Project,
    Run,
    RunFile,
    SummaryValue,
    SystemChunk,
    as_json,
    moment,
)

MAX_LINE = 128 * 2**20
"""A longer line of events.jsonl is passed over, in pieces of this size."""

CHUNK = 256 * 2**10
CHUNK_TAIL = 8 * 2**10
"""The last chunk of a file that is kept in chunks is rewritten while it is smaller than this."""

SAMPLE = 256
"""How many of a file's first and last bytes are kept to recognise it."""

INT64 = 2**63

Documents = Sequence[tuple[Run, bytes | None]]
"""Several runs, and the content of a document of each; None: it is gone."""


class OffsetMismatch(Exception):
    """There is a gap before the offered bytes. ``wanted`` is the offset to continue from."""

    def __init__(self, wanted: int) -> None:
        super().__init__(f"Continue from offset {wanted}.")
        self.wanted = wanted


def append(run: Run, name: str, offset: int, data: bytes) -> int:
    """Take in the bytes of file *name* from *offset*; return the offset now reached.

    Bytes already known are skipped. A last line that is not whole may stay behind: offer it again
    with what follows. Raises OffsetMismatch if bytes before *offset* are missing.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run.pk)
        file, _ = RunFile.objects.get_or_create(run=run, name=name)
        if offset > file.offset:
            raise OffsetMismatch(file.offset)
        write([read(run, file, data[file.offset - offset :])])
        run.save(update_fields=["event_count", "unreadable_lines", "updated_at"])
        file.save()
    return file.offset


@dataclass
class Piece:
    """What was read from one stretch of a file, not written yet."""

    run: Run
    name: str
    offset: int
    events: metrics.Events | None = None
    first_event: int = 0
    images: list[Image] = field(default_factory=list)
    chunks: bytes = b""


def read(run: Run, file: RunFile, data: bytes) -> Piece:
    """Make out what *data*, which follows on ``file.offset``, says; moves the offset and counts.

    Writes nothing: for callers that hold the run locked, ``write`` the piece, and save both.
    """
    piece = Piece(run, file.name, file.offset)
    taken = _READ[file.name](piece, data)
    file.offset += taken
    if len(file.head) < SAMPLE:
        file.head = (bytes(file.head) + data[: min(taken, SAMPLE)])[:SAMPLE]
    file.tail = (bytes(file.tail) + data[max(0, taken - SAMPLE) : taken])[-SAMPLE:]
    return piece


def write(pieces: Sequence[Piece]) -> None:
    """Write what was read, of many runs in few statements."""
    metrics.append_many((p.run.pk, p.first_event, p.events) for p in pieces if p.events is not None)
    Image.objects.bulk_create(image for piece in pieces for image in _of_saved_run(piece))
    for piece in pieces:
        if piece.chunks:
            _CHUNKS[piece.name](piece.run, piece.offset, piece.chunks)


def _of_saved_run(piece: Piece) -> list[Image]:
    for image in piece.images:
        image.run = piece.run  # which has its key only now
    return piece.images


def forget(run: Run, file: RunFile) -> None:
    """Drop what was read from a stream: it was replaced and is to be read anew."""
    if file.name == layout.EVENTS:
        metrics.clear(run.pk)
        run.images.all().delete()
        run.event_count = run.unreadable_lines = 0
    elif file.name == layout.LOGS:
        run.log_chunks.all().delete()
        transaction.on_commit(partial(live.log_replaced, run.pk), robust=True)
    elif file.name == layout.SYSTEM:
        run.system_chunks.all().delete()
    file.offset, file.head, file.tail = 0, b"", b""


# -- events.jsonl ------------------------------------------------------------------------------


def _read_events(piece: Piece, data: bytes) -> int:
    end = data.rfind(b"\n") + 1
    rest = data[end:]
    # A last line without its newline is whole if it is an object: no object is a part of another.
    if (rest.rstrip().endswith(b"}") and _parse_line(rest) is not None) or len(rest) >= MAX_LINE:
        end = len(data)

    run = piece.run
    piece.first_event = run.event_count
    parts = []
    start = 0
    # Some hundred lines at a time are columns before the next are parsed: their dictionaries stay
    # in the processor's cache.
    with _no_collection():
        while start < end:
            stop = data.find(b"\n", start + TEXT_AT_ONCE, end)
            stop = end if stop < 0 else stop
            text = data[start:stop].removesuffix(b"\n")
            lines = partial(text.split, b"\n")
            entries = _parse_plain(text)
            if entries is not None:
                parts.append(_events(*entries, lines))
            elif logged := _parse_any(piece, piece.offset + start, lines()):
                parts.append(_events(*logged[0], partial(list, logged[1])))
            start = stop + 1
    if parts:
        piece.events = metrics.join(parts)
        run.event_count += len(piece.events)
    return end


TEXT_AT_ONCE = 2**17
"""Bytes of whole lines, and the rest of the last, that are parsed together."""


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector: thousands of dictionaries are made and dropped, no circles.

    It would look through all of the server's objects every few hundred thousand lines.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


Entries = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Some metrics lines, and the ``data`` of each."""


def _parse_plain(text: bytes) -> Entries | None:
    """The entries, parsed in one call, if every line is one of metrics, as most are."""
    if text[:1] != b"{" or text[-1:] != b"}":
        return None
    try:
        # As many objects as lines: one that goes on over a line's end makes them fewer.
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


def _parse_any(piece: Piece, at: int, lines: list[bytes]) -> tuple[Entries, list[bytes]] | None:
    """The same, line by line; notes the images among them and counts what cannot be read."""
    entries: list[dict[str, Any]] = []
    kept = []
    for line in lines:
        if line and not line.isspace():
            entry = _parse_line(line) or _parse_after_fragment(line)
            values = entry.get("data") if entry is not None else None
            if entry is None:
                piece.run.unreadable_lines += 1
            elif isinstance(values, dict):
                if entry.get("type") == "metrics":
                    entries.append(entry)
                    kept.append(line)
                elif entry.get("type") == "image" and isinstance(values.get("path"), str):
                    piece.images.append(_image(at, entry, values))
        at += len(line) + 1
    return ((entries, list(map(_data_of, entries))), kept) if entries else None


def _events(
    entries: list[dict[str, Any]], data: list[dict[str, Any]], lines: Callable[[], list[bytes]]
) -> metrics.Events:
    """The metrics lines as columns. Steps and times are of one type in most runs."""
    columns = metrics.columns(data, lambda i: _exact(lines()[i]))
    steps = _plain_steps(data)
    if steps is None:
        exact = [_step(values) for values in data]
        steps = np.array([NO_STEP if step is None else step for step in exact], np.int64)
    column = columns.get("time")
    if column is not None and len(column) == len(data) and column.are_finite_floats():
        times = column.values
    else:
        found = [_time(entry["data"], entry) for entry in entries]
        times = np.array([np.nan if time is None else time for time in found], np.float64)
    return metrics.Events(steps, times, columns)


def _plain_steps(data: list[dict[str, Any]]) -> Any:
    """The steps, if all lines have one and it is an integer of 64 bits."""
    try:
        steps = list(map(itemgetter("global_step"), data))
        if set(map(type, steps)) == {int}:
            plain = np.array(steps, np.int64)
            return plain if plain.min() != NO_STEP else None
    except (KeyError, OverflowError):
        pass
    return None


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """The object on the line, or None. NaN, Infinity and bytes that are no UTF-8 are accepted."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return layout.parse_json(line)
    return value if isinstance(value, dict) else None


def _parse_after_fragment(line: bytes) -> dict[str, Any] | None:
    """The event behind the fragment that a killed process left, when another one wrote on."""
    start = line.rfind(b'{"ts":')
    return _parse_line(line[start:]) if start > 0 else None


def _exact(line: bytes) -> dict[str, Any]:
    """``data`` of the line, with integers of any size."""
    entry = layout.parse_json(line) or layout.parse_json(line[line.rfind(b'{"ts":') :]) or {}
    return entry["data"]


def _step(values: dict[str, Any]) -> int | None:
    """``global_step`` if the key is there, else ``step``; None if it is no integer of 64 bits.

    Text and fractions are converted as v0.4 does (``contract/metrics.md`` §1).
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


def _image(offset: int, entry: dict[str, Any], values: dict[str, Any]) -> Image:
    return Image(
        offset=offset,
        key=_text(values.get("key"), 1024) or "",
        path=_text(values["path"], 1100) or "",
        step=_step({"step": values.get("step")}),
        caption=_text(values.get("caption"), 100_000) or "",
        logged_at=moment(_time({}, entry)),
    )


# -- logs.txt and system.jsonl: kept as they are, in chunks ------------------------------------


def _read_log(piece: Piece, data: bytes) -> int:
    piece.chunks = data
    return len(data)


def _write_log(run: Run, offset: int, data: bytes) -> None:
    _write_chunks(LogChunk.objects.filter(run=run), run, offset, data)
    transaction.on_commit(partial(live.log_grew, run.pk, offset, data), robust=True)


def _read_samples(piece: Piece, data: bytes) -> int:
    end = data.rfind(b"\n") + 1 if len(data) < MAX_LINE else len(data)
    piece.chunks = data[:end]
    return end


def _write_samples(run: Run, offset: int, data: bytes) -> None:
    _write_chunks(SystemChunk.objects.filter(run=run), run, offset, data)


def _write_chunks(chunks: QuerySet[Any], run: Run, offset: int, data: bytes) -> None:
    """Write *data*, which follows on what *chunks* hold up to *offset*."""
    start, pending = offset, data
    last = chunks.order_by("-offset").first() if offset else None
    if last is not None and len(last.data) < CHUNK_TAIL:
        pending = bytes(last.data) + data
        chunks.filter(pk=last.pk).update(data=pending[:CHUNK])
        start, pending = last.offset + CHUNK, pending[CHUNK:]
    chunks.bulk_create(
        chunks.model(run=run, offset=start + at, data=pending[at : at + CHUNK])
        for at in range(0, len(pending), CHUNK)
    )


_CHUNKS: dict[str, Callable[[Run, int, bytes], None]] = {
    layout.LOGS: _write_log,
    layout.SYSTEM: _write_samples,
}

_READ: dict[str, Callable[[Piece, bytes], int]] = {
    layout.EVENTS: _read_events,
    layout.LOGS: _read_log,
    layout.SYSTEM: _read_samples,
}

# -- documents ---------------------------------------------------------------------------------


def replace(run: Run, name: str, content: bytes | None) -> None:
    """Bring the run's columns up to date with one of its small files (None: the file is gone).

    The caller saves *run* and keeps the content. Rows of its content: ``document_writers``.
    """
    if name == layout.DELETED and content is None:
        run.deleted_at, run.delete_reason, run.original_status = None, "", ""
    elif describe := _DESCRIBE.get(name):
        describe(run, (layout.parse_json(content) if content else None) or {})


def save_projects(runs: Iterable[Run]) -> None:
    """Find or make the rows of the projects that these runs' files have named."""
    named = [run for run in runs if run.project is not None and run.project.pk is None]
    if not named:
        return
    names = {run.project.name for run in named if run.project}
    known = Project.objects.in_bulk(names, field_name="name")
    if missing := names - known.keys():
        Project.objects.bulk_create([Project(name=n) for n in missing], ignore_conflicts=True)
        known |= Project.objects.in_bulk(missing, field_name="name")
    for run in named:
        run.project = known[run.project.name] if run.project else None


def _describe_meta(run: Run, meta: dict[str, Any]) -> None:
    project, name, _ = layout.split_run_dir(run.directory or "") or (None, None, "")
    project = _text(meta.get("project")) or project
    if project is None:
        run.project = None
    elif run.project is None or run.project.name != project:
        run.project = Project(name=project)  # ``save_projects`` finds its row
    run.name = _text(meta.get("name")) or name
    run.pid = _integer(meta.get("pid"))
    run.hostname = _text(meta.get("hostname")) or ""
    created = _number(meta.get("created_at"))
    run.date(run.directory_mtime if created is None or moment(created) is None else created)


def _describe_status(run: Run, status: dict[str, Any]) -> None:
    run.status = _text(status.get("status")) or Run.Status.FINISHED
    run.started_at = moment(status.get("started_at"))
    run.ended_at = moment(status.get("ended_at"))
    run.duration = None
    if run.started_at and run.ended_at:
        run.duration = (run.ended_at - run.started_at).total_seconds()
    run.exit_reason = _text(status.get("exit_reason")) or ""


def _describe_summary(run: Run, summary: dict[str, Any]) -> None:
    run.best_metric_name = _text(summary.get("best_metric_name"), 1024)
    run.best_metric_value = _number(summary.get("best_metric_value"))
    run.best_metric_step = _integer(summary.get("best_metric_step"))
    run.best_metric_mode = _text(summary.get("best_metric_mode"), 8) or ""


def _describe_deleted(run: Run, marker: dict[str, Any]) -> None:
    run.deleted_at = moment(marker.get("deleted_at")) or moment(run.directory_mtime)
    run.delete_reason = _text(marker.get("reason")) or "unknown"
    run.original_status = _text(marker.get("original_status")) or "unknown"


def _describe_created(run: Run, record: dict[str, Any]) -> None:
    run.artifacts_created_count = _length(record)


def _describe_used(run: Run, record: dict[str, Any]) -> None:
    run.artifacts_used_count = _length(record)


def _length(record: dict[str, Any]) -> int:
    entries = record.get("artifacts")
    return len(entries) if isinstance(entries, list) else 0


_DESCRIBE: dict[str, Callable[[Run, dict[str, Any]], None]] = {
    layout.META: _describe_meta,
    layout.STATUS: _describe_status,
    layout.SUMMARY: _describe_summary,
    layout.DELETED: _describe_deleted,
    layout.ARTIFACTS_CREATED: _describe_created,
    layout.ARTIFACTS_USED: _describe_used,
}


def write_leaves(model: Any, documents: Documents) -> None:
    """Bring the rows of a JSON document, Param or SummaryValue, up to date."""
    model._default_manager.filter(run__in=[run.pk for run, _ in documents]).delete()
    insert(
        model,
        ("run", "key", "value", "number"),
        [
            (run.pk, key, as_json(value), _number(value))
            for run, content in documents
            for key, value in layout.flatten(
                (layout.parse_json(content) if content else None) or {}
            ).items()
            if _text(key, 500) == key
        ],
    )


document_writers: dict[str, Callable[[Documents], None]] = {
    layout.CONFIG: partial(write_leaves, Param),
    layout.SUMMARY: partial(write_leaves, SummaryValue),
}
"""By name of a document, what keeps rows of its content; the runs have their keys by then."""


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _text(value: object, limit: int = 255) -> str | None:
    """Text that every database can store, cut to *limit* characters; None for anything else."""
    return _UNSTORABLE.sub("�", value)[:limit] if isinstance(value, str) else None


def _number(value: object) -> float | None:
    """A finite number; None for anything else, NaN and infinities included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -INT64 < value < INT64 else None
