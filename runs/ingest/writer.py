"""The only way to index logged data: a *sentence*, the bytes of file F of run R from offset N on.

A watched folder, a host reached over SSH and a client that pushes over HTTP all use it: for a
stream with the bytes that follow, for a document with all of it. The offset that a file was read to
is written in the same transaction as the data read from it: after a crash on either side nothing is
lost and nothing is there twice.

A stream may consist of several files, one per writer (``layout.stream_of``): all are read as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import QuerySet

from metrics import write as metrics
from metrics.rows import insert
from runicorn import layout

from .. import annotation
from ..logs import live
from ..models import Image, IndexedFile, LogChunk, Run, SystemChunk
from . import documents
from .batch import Batch
from .events import MAX_LINE, read_events

CHUNK = 256 * 2**10
CHUNK_TAIL = 8 * 2**10
"""The last chunk of a stream is rewritten while it is smaller than this."""

SAMPLE = 256
"""The number of a file's first and last bytes that are kept to recognise it."""


class OffsetMismatch(Exception):
    """There is a gap before the offered bytes; continue from offset ``expected``."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"Continue from offset {expected}.")
        self.expected = expected


class Sentence(NamedTuple):
    """The bytes *data* of the file *name* from *offset* on."""

    name: str
    offset: int
    data: bytes
    fingerprint: str = ""
    """The file's fingerprint on disk (``files.fingerprint``); empty: it is to be read again."""


class Change:
    """The parsed content of one run's files, not written yet.

    The caller has locked *run*, or it is not saved yet; *files* has the run's indexed files by
    name.
    """

    def __init__(self, run: Run, files: dict[str, IndexedFile]) -> None:
        self.run = run
        self._files = files
        self._changed: dict[str, IndexedFile] = {}
        self._removed: list[IndexedFile] = []
        self._batches: list[Batch] = []

    def indexed_file(self, name: str) -> IndexedFile | None:
        return self._files.get(name)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each file when it was last read."""
        return {name: file.fingerprint for name, file in self._files.items()}

    def offset_of(self, name: str) -> int:
        """Return the offset up to which the file was read."""
        return self._files[name].offset if name in self._files else 0

    def apply(self, sentence: Sentence) -> int:
        """Apply a sentence; return the offset that its file was read to.

        Bytes that were read before are skipped. An incomplete last line of a stream may not be
        read: offer it again with the bytes that follow. Raises OffsetMismatch for a gap.
        """
        file = self._files.setdefault(sentence.name, IndexedFile(name=sentence.name))
        stream = layout.stream_of(sentence.name)
        if stream is None:
            file.content = sentence.data
            documents.describe(self.run, file.name, sentence.data)
        elif sentence.offset > file.offset:
            raise OffsetMismatch(file.offset)
        else:
            self._read(file, stream, sentence.data[file.offset - sentence.offset :])
        file.fingerprint = sentence.fingerprint
        self._changed[file.name] = file
        return file.offset

    def look_again(self, name: str) -> None:
        """Keep the indexed content of the file, and read the file at the next check."""
        file = self._files.setdefault(name, IndexedFile(name=name))
        file.fingerprint = ""
        self._changed[name] = file

    def remove(self, name: str) -> None:
        """Apply the removal of a file of the run."""
        stream = layout.stream_of(name)
        if stream is None:
            documents.describe(self.run, name, None)
        else:
            self.forget(stream)
        self._changed.pop(name, None)
        self._removed.append(self._files.pop(name))

    def forget(self, stream: str) -> None:
        """Drop the data read from a stream, one of whose files was replaced: all are read again."""
        run = self.run
        if stream == layout.EVENTS:
            metrics.clear(run.pk)
            run.images.all().delete()
            run.event_count = run.unreadable_lines = run.hidden_values = 0
            run.hidden_keys = []
            run.best_metric_value = None
            if summary := self.indexed_file(layout.SUMMARY):
                documents.describe(run, layout.SUMMARY, bytes(summary.content or b""))
        elif stream == layout.LOGS:
            run.log_chunks.all().delete()
            run.log_bytes = 0
            transaction.on_commit(partial(live.log_replaced, run.pk), robust=True)
        elif stream == layout.SYSTEM:
            run.system_chunks.all().delete()
            run.system_bytes = 0
        self._batches = [batch for batch in self._batches if batch.stream != stream]
        for file in self._files.values():
            if layout.stream_of(file.name) == stream:
                file.offset, file.head, file.tail, file.fingerprint = 0, b"", b"", ""
                self._changed[file.name] = file

    def read_annotations(self) -> list[str] | None:
        """Set the run's annotations; return its tags, None if nothing has changed."""
        touched = self._changed.keys() | {file.name for file in self._removed}
        if self.run.pk is not None and touched.isdisjoint({layout.META, layout.ANNOTATIONS}):
            return None
        meta = layout.parse_json(self._content(layout.META) or b"") or {}
        return annotation.describe(self.run, self._content(layout.ANNOTATIONS), meta)

    def _content(self, name: str) -> bytes | None:
        file = self._files.get(name)
        return bytes(file.content or b"") if file is not None else None

    def _read(self, file: IndexedFile, stream: str, data: bytes) -> None:
        batch = Batch(self.run, file.name, stream, file.offset)
        size = _READ[stream](batch, data, self._is_alone(stream))
        file.offset += size
        if len(file.head) < SAMPLE:
            file.head = (bytes(file.head) + data[: min(size, SAMPLE)])[:SAMPLE]
        file.tail = (bytes(file.tail) + data[max(0, size - SAMPLE) : size])[-SAMPLE:]
        self._batches.append(batch)

    def _is_alone(self, stream: str) -> bool:
        """Return whether the stream has only one file, so that half a line may be stored."""
        return sum(layout.stream_of(name) == stream for name in self._files) < 2


def write(changes: Sequence[Change]) -> None:
    """Write *changes*, in few statements for any number of runs."""
    runs = [change.run for change in changes]
    documents.save_projects(runs)
    tags_of_runs = [change.read_annotations() for change in changes]
    new = [run for run in runs if run.pk is None]
    old = [run for run in runs if run.pk is not None]
    Run.objects.bulk_create(new)
    for run in old:
        run.save()
    annotation.write_tags(
        {run.pk: tags for run, tags in zip(runs, tags_of_runs, strict=True) if tags is not None}
    )
    contents: dict[str, list[tuple[Run, bytes | None]]] = {}
    new_files: list[tuple] = []
    for change in changes:
        for file in change._removed:
            contents.setdefault(file.name, []).append((change.run, None))
            if file.pk is not None:
                file.delete()
        for file in change._changed.values():
            if layout.stream_of(file.name) is None:
                contents.setdefault(file.name, []).append((change.run, bytes(file.content or b"")))
            if file.pk is not None:
                file.save()
            else:
                new_files.append((change.run.pk, *(getattr(file, name) for name in _FILE[1:])))
    for name, of_runs in contents.items():
        if write_rows := documents.document_writers.get(name):
            write_rows(of_runs)
    _write_batches([batch for change in changes for batch in change._batches])
    documents.save_best(runs)
    insert(IndexedFile, _FILE, new_files)


_FILE = ("run", "name", "offset", "fingerprint", "head", "tail", "content")


def apply(run: Run, name: str, offset: int, data: bytes) -> int:
    """Apply one sentence of one run; return the offset that its file was read to."""
    return apply_many([(run, Sentence(name, offset, data))])[0]


def apply_many(sentences: Iterable[tuple[Run, Sentence]]) -> list[int]:
    """Apply sentences of many runs in one transaction; return the offset that each reached.

    Raises the exception of any of them, and has then applied none.
    """
    sentences = list(sentences)
    with transaction.atomic():
        changes = changes_of(Run.objects.filter(pk__in={run.pk for run, _ in sentences}))
        reached = [changes[run.pk].apply(sentence) for run, sentence in sentences]
        write(list(changes.values()))
    return reached


def changes_of(runs: QuerySet[Run]) -> dict[int, Change]:
    """Lock *runs*; return a new change of each, by primary key."""
    locked = runs.order_by("pk").select_related("project").select_for_update(of=("self",))
    changes = {run.pk: Change(run, {}) for run in locked}
    for file in IndexedFile.objects.filter(run__in=changes).defer("content"):
        changes[file.run_id]._files[file.name] = file
    return changes


# -- streams -------------------------------------------------------------------------------------


def _read_events(batch: Batch, data: bytes, is_alone: bool) -> int:
    return read_events(batch, data)


def _read_log(batch: Batch, data: bytes, is_alone: bool) -> int:
    """Read log lines, which are shown while they are written; of one writer, also half lines."""
    end = len(data) if is_alone or len(data) >= MAX_LINE else data.rfind(b"\n") + 1
    batch.chunks, batch.chunks_offset = data[:end], batch.run.log_bytes
    batch.run.log_bytes += end
    return end


def _read_samples(batch: Batch, data: bytes, is_alone: bool) -> int:
    end = data.rfind(b"\n") + 1 if len(data) < MAX_LINE else len(data)
    batch.chunks, batch.chunks_offset = data[:end], batch.run.system_bytes
    batch.run.system_bytes += end
    return end


_READ: dict[str, Callable[[Batch, bytes, bool], int]] = {
    layout.EVENTS: _read_events,
    layout.LOGS: _read_log,
    layout.SYSTEM: _read_samples,
}


def _write_batches(batches: list[Batch]) -> None:
    logged: dict[int, list[Batch]] = {}
    for batch in batches:
        if batch.events is not None:
            logged.setdefault(batch.run.pk, []).append(batch)
    metrics.append_many(
        (
            pk,
            of_run[0].first_event,
            metrics.join([b.events for b in of_run if b.events is not None]),
        )
        for pk, of_run in logged.items()
    )
    Image.objects.bulk_create(image for batch in batches for image in _of_saved_run(batch))
    for batch in batches:
        if not batch.chunks:
            continue
        run, offset, data = batch.run, batch.chunks_offset, batch.chunks
        if batch.stream == layout.LOGS:
            _write_chunks(LogChunk.objects.filter(run=run), run, offset, data)
            transaction.on_commit(partial(live.log_grew, run.pk, offset, data), robust=True)
        else:
            _write_chunks(SystemChunk.objects.filter(run=run), run, offset, data)


def _of_saved_run(batch: Batch) -> list[Image]:
    for image in batch.images:
        image.run = batch.run  # its key is set only now
    return batch.images


def _write_chunks(chunks: QuerySet[Any], run: Run, offset: int, data: bytes) -> None:
    """Write *data*, which follows the content of *chunks* at *offset*."""
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
