"""What this machine's GPUs, processors, memory and disks are doing, asked of the usual tools.

Each tool is run as an argument vector with a time limit; a machine without it is told so. Answers
are kept for a second: pages ask every two, and many of them may.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

KEEP_SECONDS = 1.0
_TIMEOUT_S = 4
_TIMEOUT_WINDOWS_S = 8

_NVIDIA = {
    "index": "index",
    "name": "name",
    "utilization.gpu": "util_gpu",
    "utilization.memory": "util_mem",
    "memory.total": "mem_total_mib",
    "memory.used": "mem_used_mib",
    "temperature.gpu": "temp_c",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "clocks.sm": "clock_sm_mhz",
    "clocks.mem": "clock_mem_mhz",
    "pstate": "pstate",
    "fan.speed": "fan_speed_pct",
}
"""What ``nvidia-smi`` is asked for, in this order, and what we call it."""


class _Kept:
    """The last answer, made anew at most once a second whoever asks."""

    def __init__(self, ask: Callable[[], dict[str, Any]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: dict[str, Any] = {}
        self._until = 0.0

    def __call__(self) -> dict[str, Any]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._answer = self._ask()
                self._until = time.monotonic() + KEEP_SECONDS
            return self._answer


def _ask_gpus() -> dict[str, Any]:
    reasons = []
    for program, read in _TOOLS.items():
        path = _find(program)
        if path is None:
            continue
        try:
            if gpus := read(path):
                return {"available": True, "ts": time.time(), "gpus": gpus}
            reasons.append(f"{program} names no GPU")
        except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as error:
            reasons.append(f"{program}: {_reason(error)}")
    reason = "; ".join(reasons) or "nvidia-smi not found in PATH"
    return {"available": False, "reason": reason}


def _find(program: str) -> str | None:
    if found := shutil.which(program):
        return found
    if program == "nvidia-smi" and os.name == "nt":
        for folder, below in (
            (os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32"),
            (os.environ.get("PROGRAMFILES", r"C:\Program Files"), r"NVIDIA Corporation\NVSMI"),
        ):
            path = Path(folder, below, "nvidia-smi.exe")
            if path.is_file():
                return str(path)
    return None


def _run(*command: str) -> str:
    return subprocess.run(
        command,
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=_TIMEOUT_S if os.name != "nt" else _TIMEOUT_WINDOWS_S,
    ).stdout.decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s"
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or error.stdout or b"").decode("utf-8", "replace").strip()
        return said.splitlines()[0][:200] if said else f"ended with {error.returncode}"
    return str(error) or type(error).__name__


def _number(text: Any) -> float | None:
    """The number *text* begins with; None for what tools say instead of one."""
    try:
        return float(str(text).strip().split(" ")[0].rstrip("%CWM"))
    except (ValueError, IndexError):
        return None


def _gpu(index: int, name: str, **numbers: float | None) -> dict[str, Any]:
    """One GPU in the documented shape; what its tool does not tell is null."""
    gpu: dict[str, Any] = {"index": index, "name": name}
    for key in _NVIDIA.values():
        if key not in gpu:
            gpu[key] = numbers.get(key)
    if gpu["mem_total_mib"] and gpu["mem_used_mib"] is not None:
        gpu["mem_used_pct"] = round(100 * gpu["mem_used_mib"] / gpu["mem_total_mib"], 2)
    return gpu


def _nvidia(path: str) -> list[dict[str, Any]]:
    query = f"--query-gpu={','.join(_NVIDIA)}"
    text = _run(path, query, "--format=csv,noheader,nounits")
    gpus = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        surplus = len(row) - len(_NVIDIA)
        if surplus < 0:
            continue
        index, name = row[0], ", ".join(row[1 : 2 + surplus])  # a name may have commas
        values = dict(zip(list(_NVIDIA.values())[2:], row[2 + surplus :], strict=True))
        gpu = _gpu(int(index), name, **{key: _number(value) for key, value in values.items()})
        pstate = values["pstate"].strip()
        gpu["pstate"] = None if "N/A" in pstate else pstate
        gpus.append(gpu)
    return gpus


def _amd(path: str) -> list[dict[str, Any]]:
    """ROCm. The names of its members differ between versions: they are found by their words."""
    flags = ("--showproductname", "--showuse", "--showmemuse", "--showmeminfo", "vram")
    answer = json.loads(_run(path, *flags, "--showtemp", "--showpower", "--json"))

    def find(card: dict[str, Any], *words: str) -> Any:
        return next((card[k] for k in card if all(w in k.lower() for w in words)), None)

    gpus = []
    for key, card in answer.items():
        if key.startswith("card") and isinstance(card, dict):
            total = _number(find(card, "vram", "total memory (b)"))
            used = _number(find(card, "vram", "total used memory (b)"))
            gpus.append(
                _gpu(
                    int(key.removeprefix("card")),
                    str(find(card, "card", "series") or find(card, "card", "model") or "AMD GPU"),
                    util_gpu=_number(find(card, "gpu use (%)")),
                    util_mem=_number(find(card, "gpu memory", "%)")),
                    mem_total_mib=total and round(total / 2**20, 1),
                    mem_used_mib=used if used is None else round(used / 2**20, 1),
                    temp_c=_number(find(card, "temperature", "edge")),
                    power_w=_number(find(card, "power (w)")),
                )
            )
    return gpus


def _ascend(path: str) -> list[dict[str, Any]]:
    """The table of ``npu-smi info``: two lines a chip, cells between bars."""
    lines = [
        [cell.split() for cell in line.strip().strip("|").split("|")]
        for line in _run(path, "info").splitlines()
        if line.startswith("|")
    ]
    gpus = []
    for first, second in pairwise(lines):
        if len(first) == len(second) == 3 and len(first[0]) == 2 and first[0][0].isdigit():
            used, total = _pair(second[2], -1)
            gpus.append(
                _gpu(
                    int(first[0][0]),
                    f"Ascend {first[0][1]}",
                    util_gpu=_number(second[2][0]),
                    mem_total_mib=total,
                    mem_used_mib=used,
                    temp_c=_number(first[2][1]),
                    power_w=_number(first[2][0]),
                )
            )
    return gpus


def _pair(words: list[str], which: int) -> tuple[float | None, float | None]:
    """The used and total numbers of a cell such as ``0 1234 / 15665``."""
    slashes = [n for n, word in enumerate(words) if word == "/"]
    if not slashes:
        return None, None
    at = slashes[which]
    return _number(words[at - 1]), _number(words[at + 1])


def _apple(path: str) -> list[dict[str, Any]]:
    """The graphics of a Mac. How busy they are, only ``ioreg`` tells without a password."""
    if sys.platform != "darwin":
        return []
    displays = json.loads(_run(path, "SPDisplaysDataType", "-json"))["SPDisplaysDataType"]
    busy = _run("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
    _, found, rest = busy.partition('"Device Utilization %"=')
    used = _number(rest.split(",")[0].split("}")[0]) if found else None
    return [
        _gpu(index, str(card.get("sppci_model") or card.get("_name")), util_gpu=used)
        for index, card in enumerate(displays)
    ]


_TOOLS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "nvidia-smi": _nvidia,
    "rocm-smi": _amd,
    "npu-smi": _ascend,
    "system_profiler": _apple,
}


def _ask_system() -> dict[str, Any]:
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "available": True,
        "ts": time.time(),
        "cpu": {
            "percent": psutil.cpu_percent(),
            "percent_per_core": psutil.cpu_percent(percpu=True),
            "count": psutil.cpu_count(),
            "frequency_mhz": frequency.current if frequency else None,
            "load_average": list(load) if load else None,
        },
        "memory": {
            "total": memory.total,
            "used": memory.used,
            "available": memory.available,
            "percent": memory.percent,
            "swap_total": swap.total,
            "swap_used": swap.used,
        },
        "platform": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        },
    }


gpus = _Kept(_ask_gpus)
"""The GPUs of this machine in the shape of ``GET /gpu/telemetry``."""

system = _Kept(_ask_system)
"""Processors and memory. The load is that since the last question (the first one says 0)."""


def disk(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Room on the disk of *path*, in bytes."""
    usage = shutil.disk_usage(path)
    percent = round(100 * usage.used / usage.total, 1) if usage.total else 0.0
    return {"total": usage.total, "used": usage.used, "free": usage.free, "percent": percent}
