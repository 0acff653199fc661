"""TensorBoard event files, without TensorBoard: scalars need two small messages.

The framing is that of TFRecord; the messages are ``Event`` and ``Summary`` of
``tensorboard/compat/proto``.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from ._record import AXES, Record, is_number


def write_tensorboard(record: Record, directory: Path) -> Path:
    """Write the run's numbers as one event file into *directory*; its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"events.out.tfevents.{int(time.time())}.runicorn"
    with path.open("wb") as file:
        file.write(_framed(_event(time.time(), 0, _field(3, b"brain.Event:2"))))
        for number, event in enumerate(record.events(), 1):
            values = b"".join(
                _field(1, _field(1, key.encode("utf-8", "replace")) + _float(2, value))
                for key, value in event.data.items()
                if key not in AXES and (isinstance(value, bool) or is_number(value))
            )
            if values:
                step = number if event.step is None else event.step
                file.write(_framed(_event(event.time, step, _field(5, values))))
    return path


def _event(wall_time: float, step: int, rest: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step % 2**64) + rest


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _float(number: int, value: float) -> bytes:
    try:
        packed = struct.pack("<f", value)
    except (OverflowError, struct.error):  # an integer beyond every double
        packed = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    return _varint(number << 3 | 5) + packed


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _framed(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _checksum(length) + message + _checksum(message)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF)


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_crc_of_byte(value) for value in range(256)]
