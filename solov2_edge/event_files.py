"""TensorBoard's event files, written without TensorBoard: a few bytes of framing around a few bytes of protobuf.

Format: TensorFlow's TFRecord (length, masked CRC-32C of it, data, masked CRC-32C of that), each record an ``Event``
of tensorflow/core/util/event.proto with scalar ``Summary`` values.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["EventFile"]

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of ``data``."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Frame one record."""

    def checksum(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _text(field: int, data: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def event(wall_time: float, step: int, values: Mapping[str, float]) -> bytes:
    """Encode an ``Event``: 1 wall_time, 2 step, 5 summary { 1 value { 1 tag, 2 simple_value } }."""
    summary = b"".join(
        _text(1, _text(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in values.items()
    )
    return b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step) + _text(5, summary)


class EventFile:
    """Appends scalars to an event file of its own in ``folder``; a resumed run adds another file beside it.

    Every record goes out at once and whole, so a killed run leaves a file TensorBoard reads.

    Args:
        folder: TensorBoard's ``--logdir``, which exists.
    """

    def __init__(self, folder: Path) -> None:
        now = time.time()
        self.path = folder / f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}"
        version = b"\x09" + struct.pack("<d", now) + _text(3, b"brain.Event:2")
        self.path.write_bytes(record(version))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of one step, by tag."""
        with self.path.open("ab") as stream:
            stream.write(record(event(time.time(), step, values)))
