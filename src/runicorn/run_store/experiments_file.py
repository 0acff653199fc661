"""``.experiments_metadata.json``, where 0.4 keeps what people note about runs.

Runicorn 0.4 and 0.7 read and write it, so it is kept up to date behind our own documents where it
exists, and what they write there counts. It grows with every run that was ever noted: nobody waits
for it to be written.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import layout
from .annotation import time_of

logger = logging.getLogger("runicorn")

LONGEST_BEHIND_S = 5.0
_SHORTEST_BEHIND_S = 0.2
_COST_SHARE = 50
"""The file is behind for so many times as long as writing it takes, within these limits."""

Record = dict[str, Any]

_NOTHING: dict[str, Any] = {}


class ExperimentsFile:
    """The file of one storage root, for all threads of this process."""

    def __init__(self, root: Path) -> None:
        self.path = root / layout.EXPERIMENTS_METADATA
        self._read_lock = threading.Lock()
        self._known: tuple[tuple[int, int, int], dict[str, Any]] | None = None
        self._records: tuple[dict[str, Any], dict[str, Record]] | None = None
        self._pending_lock = threading.Lock()
        self._pending: dict[str, Record | None] = {}
        self._writer: threading.Thread | None = None
        self._cost_s = 0.0
        self._said_damaged: tuple[int, int, int] | None = None

    def exists(self) -> bool:
        return self.path.exists()

    def records(self) -> dict[str, Record]:
        """The records by run id; none if the file is damaged. The same object until it changes."""
        contents = self._contents()
        if self._records is None or self._records[0] is not contents:
            records = {i: r for i, r in contents.items() if isinstance(r, dict)}
            self._records = contents, records
        return self._records[1]

    def record(self, run_id: str) -> Record | None:
        """What the file has of a run, with what is still to be written."""
        with self._pending_lock:
            if run_id in self._pending:
                return self._pending[run_id]
        record = self._contents().get(run_id)
        return record if isinstance(record, dict) else None

    def _contents(self) -> dict[str, Any]:
        """What the file holds, read again only when it changed."""
        with self._read_lock:
            fingerprint = _fingerprint(self.path)
            if fingerprint is None:
                self._known = None
                return _NOTHING
            if self._known is None or self._known[0] != fingerprint:
                try:
                    self._known = fingerprint, layout.load_json(self.path) or {}
                except (layout.DamagedDocument, OSError) as error:
                    # Perhaps half written: what was known stays until it can be read.
                    if self._said_damaged != fingerprint:
                        logger.warning("%s", error)
                        self._said_damaged = fingerprint
                    return self._known[1] if self._known else _NOTHING
            return self._known[1]

    def put(self, record: Record, *, create: bool = False) -> None:
        """Have *record* written soon. Without a file, only if it is to be created: at once."""
        exists = self.exists()
        if exists or create:
            self._queue({record["id"]: record})
        if create and not exists:
            self.flush()

    def forget(self, run_ids: Iterable[str]) -> None:
        """Have the records of purged runs removed soon."""
        if self.exists() or self._pending:
            self._queue(dict.fromkeys(run_ids))

    def flush(self) -> None:
        """Write what is waiting, now."""
        with self._pending_lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        started = time.monotonic()
        try:
            self._write(pending)
        except BaseException:
            with self._pending_lock:
                self._pending = {**pending, **self._pending}
            raise
        self._cost_s = time.monotonic() - started

    def _queue(self, changes: dict[str, Record | None]) -> None:
        with self._pending_lock:
            self._pending |= changes
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(
                    target=self._write_behind, name="experiments-file", daemon=True
                )
                self._writer.start()

    def _write_behind(self) -> None:
        """Write what is waiting, at most every few seconds; end when nothing has come for long."""
        while True:
            time.sleep(min(LONGEST_BEHIND_S, max(_SHORTEST_BEHIND_S, self._cost_s * _COST_SHARE)))
            try:
                self.flush()
            except Exception as error:
                logger.warning("%s could not be written; trying again: %s", self.path, error)
                time.sleep(LONGEST_BEHIND_S)
            with self._pending_lock:
                if not self._pending:
                    self._writer = None
                    return

    def _write(self, pending: dict[str, Record | None]) -> None:
        """Merge *pending* into what the file holds now, under the lock that 0.4's tools take."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with layout.locked(self.path):
            fingerprint = _fingerprint(self.path)
            if self._known is not None and self._known[0] == fingerprint:
                stored: dict[str, Any] = dict(self._known[1])
            else:
                stored = layout.load_for_change(self.path) or {}
            changed = False
            for run_id, record in pending.items():
                old = stored.get(run_id)
                if record is None:
                    changed |= stored.pop(run_id, None) is not None
                elif not isinstance(old, dict) or _time(old) <= _time(record):
                    # Members that other versions keep there stay.
                    stored[run_id] = {**(old if isinstance(old, dict) else {}), **record}
                    changed = True
            if not changed:
                return
            layout.write_bytes(self.path, _dump(stored))
            with self._read_lock:
                written = _fingerprint(self.path)
                self._known = (written, stored) if written else None


_files: dict[str, ExperimentsFile] = {}
_files_lock = threading.Lock()


def experiments_file(root: str | os.PathLike[str]) -> ExperimentsFile:
    """The one object of this process for the file of *root*."""
    key = os.path.abspath(root)
    with _files_lock:
        if key not in _files:
            _files[key] = ExperimentsFile(Path(key))
        return _files[key]


@atexit.register
def _flush_all() -> None:
    for file in list(_files.values()):
        try:
            file.flush()
        except Exception as error:
            logger.warning("%s could not be written: %s", file.path, error)


def _forked() -> None:
    """A child has none of the threads, and leaves to its parent what the parent has to write."""
    global _files_lock
    _files_lock = threading.Lock()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def _time(record: Record) -> float:
    return time_of(record.get("updated_at"))


def _dump(stored: dict[str, Any]) -> bytes:
    """One record a line: indented, a hundred thousand of them would take seconds."""
    lines = (
        f"  {json.dumps(run_id, ensure_ascii=False)}: {json.dumps(record, ensure_ascii=False)}"
        for run_id, record in stored.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}").encode("utf-8", "surrogatepass")
