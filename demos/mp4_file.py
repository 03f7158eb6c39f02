"""An MP4 file around the packets of an MPEG-4 video: boxes of ISO/IEC 14496-12, descriptors of 14496-14 and 14496-1.

Encoded frames are copied as they are. One track, frames of one length, and the table of contents last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from solov2_edge.errors import SolovEdgeError

__all__ = ["Packet", "write_mp4"]

BRANDS = b"isom\x00\x00\x02\x00isomiso2mp41"
UNCHANGED = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)  # the matrix that changes nothing
UNDETERMINED = 0x55C4  # the language, "und" in three times five bits
DPI_72 = 72 << 16
MPEG_4_VISUAL = 0x20  # object type
VISUAL_STREAM = 4 << 2 | 1
FINEST = 1001  # denominator of a frame rate; 30000/1001 is exact
MOST_TICKS = 2**32 - 1  # of a track's length: 39 hours at 30 frames per second


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One encoded frame; ``key`` where decoding can begin with it."""

    data: bytes
    key: bool


def write_mp4(path: Path, packets: Iterable[Packet], config: bytes, fps: float, height: int, width: int) -> int:
    """Write a video.

    Args:
        path: of the file; what stands there is replaced.
        packets: the frames in order, at least one.
        config: the codec's configuration (extradata).
        fps: frames per second.
        height: H in pixels.
        width: W in pixels.

    Returns:
        The number of frames.

    Raises:
        SolovEdgeError: there is no frame, or more than the format holds.
        OSError: the disk is full.
    """
    rate = Fraction(fps).limit_denominator(FINEST)
    sizes: list[int] = []
    keys: list[int] = []
    with path.open("wb") as file:
        file.write(_box(b"ftyp", BRANDS))
        start = file.tell()
        file.write(struct.pack(">I4sQ", 1, b"mdat", 0))  # 64 bits of size, known at the end
        first = file.tell()
        for number, packet in enumerate(packets, start=1):
            file.write(packet.data)
            sizes.append(len(packet.data))
            if packet.key:
                keys.append(number)
        end = file.tell()
        ticks = len(sizes) * rate.denominator
        if not sizes or ticks > MOST_TICKS:
            raise SolovEdgeError(f"an MP4 file holds 1 to {MOST_TICKS // rate.denominator} frames, got {len(sizes)}")
        entry = _sample_entry(config, height, width, max(sizes))
        tables = _tables(entry, sizes, keys, first, rate.denominator)
        file.write(_movie(tables, ticks, rate.numerator, height, width))
        file.seek(start + 8)
        file.write(struct.pack(">Q", end - start))
    return len(sizes)


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def _full(name: bytes, flags: int, *parts: bytes) -> bytes:
    """Return a box that has a version (0) and flags."""
    return _box(name, struct.pack(">I", flags), *parts)


def _movie(tables: bytes, ticks: int, scale: int, height: int, width: int) -> bytes:
    movie = struct.pack(">4IIHH8x", 0, 0, scale, ticks, 1 << 16, 1 << 8, 0) + UNCHANGED + bytes(24) + b"\0\0\0\2"
    track = struct.pack(">5I8x4H", 0, 0, 1, 0, ticks, 0, 0, 0, 0) + UNCHANGED
    track += struct.pack(">II", width << 16, height << 16)
    media = struct.pack(">4IHH", 0, 0, scale, ticks, UNDETERMINED, 0)
    here = _box(b"dinf", _full(b"dref", 0, struct.pack(">I", 1), _full(b"url ", 1)))
    return _box(
        b"moov",
        _full(b"mvhd", 0, movie),
        _box(
            b"trak",
            _full(b"tkhd", 3, track),  # enabled, in the movie
            _box(
                b"mdia",
                _full(b"mdhd", 0, media),
                _full(b"hdlr", 0, bytes(4), b"vide", bytes(12), b"video\0"),
                _box(b"minf", _full(b"vmhd", 1, bytes(8)), here, tables),
            ),
        ),
    )


def _tables(entry: bytes, sizes: list[int], keys: list[int], first: int, length: int) -> bytes:
    """Return where each frame is and how long it is shown; every frame is a chunk of its own."""
    count = len(sizes)
    places = first + np.cumsum([0, *sizes[:-1]], dtype=np.int64)
    return _box(
        b"stbl",
        _full(b"stsd", 0, struct.pack(">I", 1), entry),
        _full(b"stts", 0, struct.pack(">3I", 1, count, length)),
        _full(b"stss", 0, struct.pack(">I", len(keys)), np.array(keys, ">u4").tobytes()),
        _full(b"stsc", 0, struct.pack(">4I", 1, 1, 1, 1)),
        _full(b"stsz", 0, struct.pack(">II", 0, count), np.array(sizes, ">u4").tobytes()),
        _full(b"co64", 0, struct.pack(">I", count), places.astype(">u8").tobytes()),
    )


def _sample_entry(config: bytes, height: int, width: int, largest: int) -> bytes:
    picture = struct.pack(">6xH16xHHIIIH", 1, width, height, DPI_72, DPI_72, 0, 1) + bytes(32)
    picture += struct.pack(">Hh", 24, -1)  # bits per pixel, no palette
    # Bit rates unknown (0).
    coding = struct.pack(">BB3sII", MPEG_4_VISUAL, VISUAL_STREAM, min(largest, 0xFFFFFF).to_bytes(3, "big"), 0, 0)
    decoder = _descriptor(4, coding + _descriptor(5, config))
    stream = _descriptor(3, struct.pack(">HB", 1, 0) + decoder + _descriptor(6, b"\x02"))
    return _box(b"mp4v", picture, _full(b"esds", 0, stream))


def _descriptor(tag: int, body: bytes) -> bytes:
    """Return a descriptor; its length is written in four digits of seven bits."""
    digits = [0x80 | (len(body) >> shift) & 0x7F for shift in (21, 14, 7)] + [len(body) & 0x7F]
    return bytes([tag, *digits]) + body
