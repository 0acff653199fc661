"""What the machine does while a run trains, written from a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("runicorn")

INTERVAL_S = 15.0

FIRST_S = (2.0, 3.0)
"""When the sources are opened, and how much later the first sample follows."""

_GPU_MEMBERS = {
    "util_gpu": "util_percent",
    "mem_used_pct": "memory_percent",
    "temp_c": "temperature_c",
    "power_w": "power_w",
}


def interval(wanted: bool | float | None) -> float:
    """Seconds between two samples, 0 for none: what the script says, else the environment, else
    the configuration file, else every 15.

    ``RUNICORN_SYSTEM_METRICS`` and ``system_metrics`` in ``config.json`` are 0, 1 or seconds.
    """
    if wanted is None:
        wanted = _in_environment()
    if wanted is None:
        wanted = _in_configuration()
    return INTERVAL_S if wanted is None or wanted is True else max(0.0, float(wanted))


_WORDS = {"1": True, "true": True, "yes": True, "on": True}
_WORDS |= {"0": False, "false": False, "no": False, "off": False}


def _in_environment() -> bool | float | None:
    text = os.environ.get("RUNICORN_SYSTEM_METRICS", "").strip().lower()
    if not text:
        return None
    try:
        return _WORDS[text] if text in _WORDS else float(text)
    except ValueError:
        logger.warning("RUNICORN_SYSTEM_METRICS=%s: write 0, 1 or seconds.", text)
        return None


def _in_configuration() -> bool | float | None:
    from . import layout

    value = layout.read_json(layout.user_config_dir() / "config.json").get("system_metrics")
    return value if isinstance(value, bool | int | float) else None


class Sampler:
    """Calls *write* with a sample every *interval_s* seconds."""

    def __init__(self, write: Callable[[dict[str, float]], object], interval_s: float) -> None:
        self._write = write
        self._interval_s = interval_s
        self._is_over = threading.Event()
        # Held while modules are imported or a sample is written, so that the end of a run waits
        # for those and for nothing else; a tool that takes seconds to answer is left to itself.
        self._busy = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="runicorn-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No sample is written after this."""
        self._is_over.set()
        if self._thread is not threading.current_thread() and self._busy.acquire(timeout=5):
            self._busy.release()

    def _run(self) -> None:
        # Nothing is imported before it is needed: a script that ends at once shall not wait for
        # that, and an import under way while it ends changes the exit code of Ctrl-C.
        until_first, until_second = (min(pause, self._interval_s) for pause in FIRST_S)
        if self._is_over.wait(until_first):
            return
        try:
            with self._busy:
                if self._is_over.is_set():
                    return
                take = _Source()
            pause = until_second
            while not self._is_over.wait(pause):
                sample = take()
                with self._busy:
                    if sample and not self._is_over.is_set():
                        self._write(sample)
                pause = self._interval_s
        except Exception as error:
            logger.warning("System metrics are no longer sampled: %s", error)


class _Source:
    """Samples of this process, this machine and its GPUs, in per cent, MiB, MiB/s, °C and watts.

    What is a rate is about the time since the last sample, or since this was made.
    """

    def __init__(self) -> None:
        import psutil

        from . import telemetry

        self._psutil, self._ask_gpus = psutil, telemetry.gpus
        self._process = psutil.Process()
        self._process.cpu_percent()
        psutil.cpu_percent()
        self._counters = self._count()
        self._has_gpus = True

    def __call__(self) -> dict[str, float]:
        sample: dict[str, Any] = {
            "system/cpu_percent": self._psutil.cpu_percent(),
            "system/memory_percent": self._psutil.virtual_memory().percent,
            "process/cpu_percent": self._process.cpu_percent(),
            "process/memory_mib": round(self._process.memory_info().rss / 2**20, 1),
        }
        before, self._counters = self._counters, self._count()
        seconds = self._counters["at"] - before["at"]
        for name in self._counters.keys() & before.keys() - {"at"}:
            rate = (self._counters[name] - before[name]) / 2**20 / max(seconds, 1e-3)
            sample[name] = round(max(rate, 0.0), 3)
        if self._has_gpus:
            answer = self._ask_gpus()
            self._has_gpus = bool(answer["available"])  # a machine without any is asked once
            for gpu in answer.get("gpus", ()):
                for member, name in _GPU_MEMBERS.items():
                    sample[f"gpu/{gpu['index']}/{name}"] = gpu.get(member)
        return {name: value for name, value in sorted(sample.items()) if value is not None}

    def _count(self) -> dict[str, float]:
        """Bytes moved so far, and when; what this machine does not count is missing."""
        counted: dict[str, float] = {"at": time.monotonic()}
        try:
            if disk := self._psutil.disk_io_counters():
                counted["system/disk_read_mib_s"] = disk.read_bytes
                counted["system/disk_write_mib_s"] = disk.write_bytes
            if network := self._psutil.net_io_counters():
                counted["system/network_received_mib_s"] = network.bytes_recv
                counted["system/network_sent_mib_s"] = network.bytes_sent
        except (OSError, RuntimeError, NotImplementedError):
            pass
        return counted
