"""Whose run is it? Create it, continue it, or join the processes that are writing it.

Each process of a run keeps a file ``heartbeat.<process>`` in its folder, which says who it is and
is touched every ten seconds. The run ends with the last of them, and has failed if one of them has.
One of them is the owner, whom ``meta.json`` names; when it ends before the others, another one is.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from . import heartbeats, layout, processes

logger = logging.getLogger("runicorn")

_OUTCOMES = "outcomes"
"""In ``status.json`` of a run of several processes: how those that have ended did so."""
_OWNER = "owner"
_BLOCK_BYTES = 1 << 16


class Claim:
    """What this process has to do with a run."""

    def __init__(self, run_dir: Path, *, is_owner: bool, is_recorder: bool, met: set[str]) -> None:
        self.run_dir = run_dir
        self.is_owner = is_owner
        self.is_recorder = is_recorder
        """Whether environment and system metrics are this process's to record."""
        self.heartbeat = run_dir / heartbeats.name_of(signature())
        self._pid = os.getpid()
        self._met = met
        layout.write_json(self.heartbeat, signature())
        self._joined_at = self.heartbeat.stat().st_mtime

    def beat(self) -> None:
        """Raises FileNotFoundError if another process took the run over, or the run is gone."""
        os.utime(self.heartbeat)

    def end(self, status: str) -> None:
        """Say in ``status.json`` that this process has ended, and the run with it if it was the
        last one. Nothing is said in a process that was forked, or whose run was taken over."""
        if os.getpid() != self._pid:
            return
        path = self.run_dir / layout.STATUS
        with layout.locked_in_run(path):
            stored = layout.load_for_change(path) or {}
            outcomes = stored.get(_OUTCOMES)
            outcomes = outcomes if isinstance(outcomes, dict) else {}
            own_key = _OWNER if self.is_owner else self.heartbeat.name
            is_here = self.heartbeat.exists()
            if not is_here and own_key not in outcomes and not owns(self.run_dir):
                return
            living = self._living_others(outcomes) if is_here else []
            if living or outcomes:
                stored[_OUTCOMES] = outcomes = {**outcomes, own_key: status}
            if not living and (is_here or stored.get("status") != "running"):
                failed = "failed" in outcomes.values()
                stored["status"] = "failed" if failed else outcomes.get(_OWNER, status)
                stored["ended_at"] = time.time()
                stored.pop("exit_reason", None)
            elif living and stored.get("exit_reason") == heartbeats.LOST:
                stored = heartbeats.found_again(stored)
            layout.write_json(path, stored)
            if living and owns(self.run_dir):
                meta = layout.load_for_change(self.run_dir / layout.META) or {}
                layout.write_json(self.run_dir / layout.META, {**meta, **living[0]})
            self.heartbeat.unlink(missing_ok=True)

    def _living_others(self, outcomes: dict[str, Any]) -> list[dict[str, Any]]:
        """Return who else writes the run; what died meanwhile has failed."""
        self.beat()
        now = self.heartbeat.stat().st_mtime
        living = []
        for beat in heartbeats.in_folder(self.run_dir):
            if beat.path == self.heartbeat:
                continue
            if beat.is_beating(now):
                living.append(beat.process)
                continue
            if beat.path.name in self._met or beat.touched > self._joined_at:
                outcomes[beat.path.name] = "failed"
            beat.path.unlink(missing_ok=True)
        return living


def claim(run_dir: Path, meta: dict[str, Any], *, resume: bool | None) -> Claim:
    """Make this process the owner of the run in *run_dir*, whose ``meta.json`` shall be *meta*.

    A run that exists is continued if no process writes it, and joined if one does: it keeps its
    owner then. ``resume=True`` takes it over in any case; ``resume=False`` raises FileExistsError
    if it exists.
    """
    with layout.locked_in_run(
        run_dir / layout.STATUS
    ):  # the server judges owners under this lock too
        old = layout.load_for_change(run_dir / layout.META) or {}
        status = layout.load_for_change(run_dir / layout.STATUS) or {}
        if old or status or (run_dir / layout.EVENTS).exists():
            if resume is False:
                raise FileExistsError(
                    f"Run {run_dir.name!r} already exists in {run_dir.parent}: leave run_id out to "
                    "start a new one, or pass resume=True to continue it."
                )
            is_open = (
                status.get("status") == "running" or status.get("exit_reason") == heartbeats.LOST
            )
            if not resume and is_open:
                joined = _join(run_dir, old, status)
                if joined is not None:
                    if status.get("status") != "running":
                        layout.write_json(run_dir / layout.STATUS, heartbeats.found_again(status))
                    return joined
        for beat in heartbeats.in_folder(run_dir):
            beat.path.unlink(missing_ok=True)
        meta = {**old, **meta, "created_at": old.get("created_at", meta["created_at"])}
        layout.write_json(run_dir / layout.META, meta)
        status = {**status, "status": "running", "started_at": time.time()}
        for key in ("ended_at", "exit_reason", _OUTCOMES):
            status.pop(key, None)
        layout.write_json(run_dir / layout.STATUS, status)
        return Claim(run_dir, is_owner=True, is_recorder=True, met=set())


def _join(run_dir: Path, meta: dict[str, Any], status: dict[str, Any]) -> Claim | None:
    """Join the processes that write the run; None if there are none, as far as one can know."""
    now = heartbeats.time_of_storage(run_dir) or time.time()
    own_name = heartbeats.name_of(signature())
    owner_name = heartbeats.name_of(meta)
    met, has_others, owner_beats = set(), False, None
    for beat in heartbeats.in_folder(run_dir):
        name = beat.path.name
        is_beating = name == own_name or beat.is_beating(now)
        if name == owner_name:
            owner_beats = is_beating
        if not is_beating:
            beat.path.unlink(missing_ok=True)  # of an earlier life of the run
            continue
        has_others |= name != own_name
        if beat.process.get("hostname") == processes.hostname():
            met.add(name)
    is_owned: bool | None = owner_beats
    if owner_beats is None:  # a version of Runicorn without heartbeats
        is_owned = _is_owned(run_dir, meta, status)
    if is_owned is False and not has_others:
        return None
    return Claim(run_dir, is_owner=False, is_recorder=is_owned is None, met=met - {own_name})


def signature() -> dict[str, Any]:
    """The members of ``meta.json`` that tell this process from every other."""
    return {
        "hostname": processes.hostname(),
        "pid": os.getpid(),
        "process": processes.identity(),
    }


def owns(run_dir: Path) -> bool:
    """Whether this process is the owner: not one that joined, was forked, or was replaced."""
    meta = layout.read_json(run_dir / layout.META)
    return all(meta.get(key) == value for key, value in signature().items())


def _is_owned(run_dir: Path, meta: dict[str, Any], status: dict[str, Any]) -> bool | None:
    """Whether the owner lives, by ``meta.json`` alone; None: that cannot be known from here."""
    if not meta.get("pid"):
        return False
    host = meta.get("hostname")
    alive = None
    if not host or host == processes.hostname():
        alive = processes.is_alive(
            meta["pid"], meta.get("process"), processes.last_seen(run_dir, status)
        )
    if alive is None:
        logger.warning(
            "Run %s is marked as running in process %s on %s, which cannot be looked at from here: "
            "joining it. Pass resume=True to take it over.",
            *(run_dir.name, meta["pid"], host or "an unknown host"),
        )
    return alive


def last_step(events: Path) -> int:
    """The ``global_step`` of the last metrics event, 0 if there is none, read from the end.

    One that counting cannot go on from (``layout.LARGEST_STEP``) is passed over."""
    try:
        with open(events, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            size = _BLOCK_BYTES
            while True:
                start = max(0, end - size)
                file.seek(start)
                for line in reversed(file.read(end - start).split(b"\n")):
                    step = _step(line)
                    if step is not None:
                        return step
                if start == 0:
                    return 0
                size *= 4
    except OSError:
        return 0


def _step(line: bytes) -> int | None:
    event = layout.parse_json(line) if b'"global_step"' in line else None
    data = event.get("data") if event else None
    step = data.get("global_step") if isinstance(data, dict) else None
    return step if isinstance(step, int) and abs(step) <= layout.LARGEST_STEP else None
