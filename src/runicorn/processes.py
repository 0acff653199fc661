"""Which process writes a run, and is it still there?

A process id alone does not tell: the system hands it out again, and inside a container it means
something else. So a run's ``meta.json`` carries an identity beside the id. The server asks the
same questions about runs that it watches.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, TypeGuard

from . import layout

_LATER_S = 60
"""How much later than a run's last sign of life a process must have started to be another one."""


def identity(pid: int | None = None) -> dict[str, Any]:
    """Who process *pid* (default: this one) is, to be kept beside its id.

    ``start``: when it started, on a clock that nobody sets (kernel ticks since boot) or, outside
    Linux, in Unix seconds; None if there is no such process. ``boot`` and ``pidns``: the boot and
    the process-id namespace in which the id means anything; None where the system has neither.
    """
    pid = os.getpid() if pid is None else pid
    return {"start": _start(pid), "boot": _boot(), "pidns": _namespace()}


def hostname() -> str:
    """Return the name of this host, as ``meta.json`` has it."""
    import socket

    return socket.gethostname()


def is_alive(pid: object, identity: object, last_seen: object) -> bool | None:
    """Is the process that wrote a run alive on this host? None: that cannot be known from here.

    *identity* is what :func:`identity` said when the run began, None for runs of Runicorn 0.4,
    which kept only the id: there, a process that started a minute after *last_seen* (Unix seconds:
    the run's last write) cannot be the writer. Whatever the arguments hold, nothing is raised.
    """
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 0:
        return None
    known = identity if isinstance(identity, dict) else {}
    if _differ(known.get("boot"), _boot()):
        return False
    if _differ(known.get("pidns"), _namespace()):
        return None
    if not _exists(pid):
        return False
    start = known.get("start")
    if _is_number(start):
        now = _start(pid)
        return now is None or now == start
    if _is_number(last_seen):
        created = _created(pid)
        return created is None or created <= last_seen + _LATER_S
    return True


def last_seen(run_dir: Path, status: dict[str, Any]) -> float:
    """When the run was last written to, in Unix seconds."""
    started = status.get("started_at")
    times = [started] if isinstance(started, int | float) else []
    for name in (layout.STATUS, *layout.STREAMS):
        try:
            times.append((run_dir / name).stat().st_mtime)
        except OSError:
            pass
    return max(times, default=0.0)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _differ(then: object, now: str | None) -> bool:
    return isinstance(then, str) and now is not None and then != now


def _exists(pid: int) -> bool:
    """Whether *pid* runs; a zombie, which only waits for its parent to look, does not."""
    import psutil

    try:
        return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, OverflowError):
        return False
    except psutil.Error:
        return True


def _created(pid: int) -> float | None:
    """When *pid* started, in Unix seconds."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _start(pid: int) -> float | None:
    try:
        # The second field is the program's name, which may hold blanks and brackets itself.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None if Path("/proc/self/stat").exists() else _created(pid)


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None


def _namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
