from __future__ import annotations

import struct
from pathlib import Path

import pytest

from solov2_edge.demos.mp4_file import Packet, write_mp4
from solov2_edge.errors import SolovEdgeError

CONFIG = bytes(range(40, 80))
INSIDE = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf"}


def boxes(data: bytes, start: int = 0, end: int | None = None) -> dict[bytes, tuple[int, bytes]]:
    """Return name -> (place of its content, content) of every box, at any depth."""
    found: dict[bytes, tuple[int, bytes]] = {}
    end = len(data) if end is None else end
    while start < end:
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        assert start + size <= end
        found[name] = (start + head, data[start + head : start + size])
        if name in INSIDE:
            found.update(boxes(data, start + head, start + size))
        start += size
    return found


def test_the_tables_lead_to_the_frames(tmp_path: Path) -> None:
    packets = [Packet(bytes([index]) * (5 + index), index % 3 == 0) for index in range(7)]
    assert write_mp4(tmp_path / "a.mp4", iter(packets), CONFIG, 30000 / 1001, 48, 64) == 7
    data = (tmp_path / "a.mp4").read_bytes()
    found = boxes(data)
    place, content = found[b"mdat"]
    assert content == b"".join(packet.data for packet in packets)
    sizes = struct.unpack(">7I", found[b"stsz"][1][12:])
    places = struct.unpack(">7Q", found[b"co64"][1][8:])
    assert [data[at : at + size] for at, size in zip(places, sizes, strict=True)] == [p.data for p in packets]
    assert places[0] == place
    assert struct.unpack(">4I", found[b"stss"][1][4:]) == (3, 1, 4, 7)
    assert struct.unpack(">3I", found[b"stts"][1][4:]) == (1, 7, 1001)
    scale, ticks = struct.unpack(">II", found[b"mdhd"][1][12:20])
    assert (scale, ticks) == (30000, 7007)
    assert struct.unpack(">II", found[b"tkhd"][1][-8:]) == (64 << 16, 48 << 16)
    assert CONFIG in found[b"stsd"][1]
    assert next(iter(boxes(data))) == b"ftyp"


def test_no_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SolovEdgeError, match="got 0"):
        write_mp4(tmp_path / "a.mp4", [], CONFIG, 25, 48, 64)


def test_a_long_configuration_fits(tmp_path: Path) -> None:
    long = bytes(300)
    write_mp4(tmp_path / "a.mp4", [Packet(b"x", True)], long, 25, 48, 64)
    entry = boxes((tmp_path / "a.mp4").read_bytes())[b"stsd"][1]
    place = entry.index(long)
    assert entry[place - 5 : place] == bytes([5, 0x80, 0x80, 0x82, 0x2C])  # 300 = 2 * 128 + 44
