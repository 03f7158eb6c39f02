"""TensorBoard's files: known checksums, and a file read back by the format's own rules."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from solov2_edge.event_files import EventFile, crc32c, event, record


@pytest.mark.parametrize(
    ("data", "crc"),  # RFC 3720, appendix B.4, and the usual check value
    [(b"\0" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"123456789", 0xE3069283)],
)
def test_checksums_are_crc32c(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


def test_one_event_byte_by_byte() -> None:
    """As TensorFlow's protobuf encodes Event(wall_time=1.5, step=300, summary={loss: 0.25})."""
    expected = "09000000000000f83f" + "10ac02" + "2a0d" + "0a0b" + "0a046c6f7373" + "150000803e"
    assert event(1.5, 300, {"loss": 0.25}).hex() == expected
    assert record(b"")[:8] == bytes(8)


def test_a_file_is_whole_records(tmp_path: Path) -> None:
    events = EventFile(tmp_path)
    events.add(1, {"loss": 2.0, "ap": 31.5})
    events.add(128, {"loss": 1.0})
    assert events.path.name.startswith("events.out.tfevents.")
    data, payloads = events.path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        payload = data[12 : 12 + length]
        assert record(payload) == data[: 16 + length]
        payloads.append(payload)
        data = data[16 + length :]
    assert len(payloads) == 3
    assert b"brain.Event:2" in payloads[0]
    assert b"\x0a\x02ap\x15" + struct.pack("<f", 31.5) in payloads[1]
    assert b"\x10\x80\x01" in payloads[2]
