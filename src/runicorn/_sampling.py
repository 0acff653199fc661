"""What the machine does while a run trains, logged from a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("runicorn")

INTERVAL_S = 15.0

_GPU_MEMBERS = {
    "util_gpu": "util_percent",
    "mem_used_pct": "memory_percent",
    "temp_c": "temperature_c",
    "power_w": "power_w",
}


class Sampler:
    """Calls *write* with a sample every *interval_s* seconds, the first time after as many."""

    def __init__(self, write: Callable[[dict[str, float]], object], interval_s: float) -> None:
        self._write = write
        self._interval_s = interval_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runicorn-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No sample is written after this."""
        self._is_over.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def _run(self) -> None:
        # Nothing is imported before a sample is due: a script that ends at once shall not wait for
        # that, and an import under way while it ends changes the exit code of Ctrl-C.
        take: _Source | None = None
        while not self._is_over.wait(self._interval_s):
            try:
                take = take or _Source()
                sample = take()
                if not self._is_over.is_set():
                    self._write(sample)
            except Exception as error:
                logger.warning("System metrics are no longer sampled: %s", error)
                return


class _Source:
    """Samples of this process, this machine and its GPUs, in per cent, MiB, °C and watts."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._process.cpu_percent()  # from here on
        psutil.cpu_percent(interval=0.5)  # later answers are about the time since the last one
        self._has_gpus = True

    def __call__(self) -> dict[str, float]:
        from . import telemetry

        system = telemetry.system()
        sample: dict[str, Any] = {
            "system/cpu_percent": system["cpu"]["percent"],
            "system/memory_percent": system["memory"]["percent"],
            "process/cpu_percent": self._process.cpu_percent(),
            "process/memory_mib": self._process.memory_info().rss / 2**20,
        }
        if self._has_gpus:
            answer = telemetry.gpus()
            self._has_gpus = bool(answer["available"])  # a machine without any is asked once
            for gpu in answer.get("gpus", ()):
                for member, name in _GPU_MEMBERS.items():
                    sample[f"gpu/{gpu['index']}/{name}"] = gpu.get(member)
        return {name: value for name, value in sample.items() if value is not None}
