"""GPUs as the vendors' tools tell of them, here played by small scripts."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import pytest

from runicorn import telemetry

NPU_SMI = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 23.0.rc2                 Version: 23.0.rc2                                              |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B                | OK            | 71.6        39                0    / 0             |
| 0                         | 0000:C1:00.0  | 12          1602 / 15039      4    / 32768         |
+===========================+===============+====================================================+
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts a program into an otherwise empty PATH; it prints *text* and notes its arguments."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, text: str = "", code: str = "") -> Path:
        path, out = tmp_path / name, tmp_path / f"{name}.out"
        out.write_text(text)
        told = shlex.quote(str(tmp_path / f"{name}.args"))
        path.write_text(f'#!/bin/sh\necho "$*" >> {told}\n{code}\n/bin/cat {out}\n')
        path.chmod(0o755)
        return tmp_path / f"{name}.args"

    return put


def test_nvidia(tool):
    told = tool(
        "nvidia-smi",
        "0, NVIDIA A100, PCIe, 37, 12, 81920, 40960, 45, 110.5, [N/A], 1410, 1215, P0, [N/A]\n"
        "1, Tesla T4, 0, 0, 0, 0, N/A, N/A, 70.00, 300, 405, P8, 30\n",
    )
    first, second = telemetry._ask_gpus()["gpus"]
    assert first == {
        "index": 0,
        "name": "NVIDIA A100, PCIe",
        "util_gpu": 37,
        "util_mem": 12,
        "mem_total_mib": 81920,
        "mem_used_mib": 40960,
        "mem_used_pct": 50.0,
        "temp_c": 45,
        "power_w": 110.5,
        "power_limit_w": None,
        "clock_sm_mhz": 1410,
        "clock_mem_mhz": 1215,
        "pstate": "P0",
        "fan_speed_pct": None,
    }
    assert "mem_used_pct" not in second
    assert "--query-gpu=index,name,utilization.gpu" in told.read_text()


def test_amd(tool):
    card = {
        "GPU use (%)": "7",
        "GPU Memory Allocated (VRAM%)": "25",
        "VRAM Total Memory (B)": str(16 * 2**30),
        "VRAM Total Used Memory (B)": str(4 * 2**30),
        "Temperature (Sensor edge) (C)": "41.0",
        "Average Graphics Package Power (W)": "33.0",
        "Card Series": "Instinct MI210",
    }
    tool("rocm-smi", json.dumps({"card0": card, "system": {}}))
    (gpu,) = telemetry._ask_gpus()["gpus"]
    assert (gpu["name"], gpu["util_gpu"], gpu["util_mem"]) == ("Instinct MI210", 7, 25)
    assert (gpu["mem_total_mib"], gpu["mem_used_mib"], gpu["mem_used_pct"]) == (16384, 4096, 25)
    assert (gpu["temp_c"], gpu["power_w"], gpu["pstate"]) == (41, 33, None)


def test_ascend(tool):
    tool("npu-smi", NPU_SMI)
    (gpu,) = telemetry._ask_gpus()["gpus"]
    assert (gpu["name"], gpu["util_gpu"]) == ("Ascend 910B", 12)
    assert (gpu["mem_used_mib"], gpu["mem_total_mib"]) == (4, 32768)
    assert (gpu["temp_c"], gpu["power_w"]) == (39, 71.6)


def test_none_and_broken_tools_are_told_as_they_are(tool):
    answer = telemetry._ask_gpus()
    assert answer == {"available": False, "reason": "nvidia-smi not found in PATH"}
    tool("nvidia-smi", code="echo 'NVIDIA-SMI has failed' >&2; exit 9")
    tool("rocm-smi", "no JSON")
    reason = telemetry._ask_gpus()["reason"]
    assert "nvidia-smi: NVIDIA-SMI has failed; rocm-smi: " in reason


def test_a_tool_that_hangs_is_given_up(tool, monkeypatch):
    monkeypatch.setattr(telemetry, "_TIMEOUT_S", 0.2)
    tool("nvidia-smi", code="exec /bin/sleep 20")
    started = time.monotonic()
    assert telemetry._ask_gpus()["reason"] == "nvidia-smi: no answer within 0.2 s"
    assert time.monotonic() - started < 5


def test_an_answer_is_kept_for_a_second(tool):
    told = tool("nvidia-smi", "0, T4, 0, 0, 1, 1, 1, 1, 1, 1, 1, P8, 30\n")
    kept = telemetry._Kept(telemetry._ask_gpus)
    assert kept() is kept()
    assert len(told.read_text().splitlines()) == 1
