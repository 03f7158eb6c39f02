"""What a picture file says of itself before any decoding: its format, its size, and whether all of it is there.

OpenCV fills the missing part of a truncated picture with grey and allocates whatever size a header declares, so both
are settled here first.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from solov2_edge.runtime.picture_tiff import tiff_extent, tiff_size

__all__ = ["SNIFF_BYTES", "is_whole", "picture_format", "picture_size"]

SNIFF_BYTES = 16  # enough for every signature below

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# A JPEG marker: FF and a byte that is neither stuffing (00), a restart (D0..D7) nor fill (FF).
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
JPEG_END = 0xD9
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG and DAC
BMP_UNCOMPRESSED = (0, 3, 6)  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS


def picture_format(start: bytes) -> str | None:
    """Return JPEG, PNG, WebP, TIFF or BMP from a file's first :data:`SNIFF_BYTES` bytes, else None."""
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(PNG_SIGNATURE):
        return "PNG"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    return "BMP" if start.startswith(b"BM") else None


def picture_size(data: bytes, kind: str) -> tuple[int, int] | None:
    """Return the (height, width) in pixels a picture declares, before any EXIF rotation.

    Args:
        data: the whole file.
        kind: what :func:`picture_format` said.

    Returns:
        None where the header is cut or malformed.
    """
    readers = {"JPEG": _jpeg_size, "PNG": _png_size, "WebP": _webp_size, "TIFF": tiff_size, "BMP": _bmp_size}
    try:
        return readers[kind](data)
    except (struct.error, IndexError):
        return None


def is_whole(data: bytes, kind: str) -> bool:
    """Return whether a picture's last byte is there; for PNG also whether its checksums hold."""
    try:
        if kind == "JPEG":
            return any(marker == JPEG_END for marker, _ in _jpeg_segments(data))
        if kind == "PNG":
            return _png_is_whole(data)
        if kind == "WebP":
            return len(data) >= 8 + int(struct.unpack_from("<I", data, 4)[0])
        if kind == "TIFF":
            extent = tiff_extent(data)
            return extent is not None and len(data) >= extent
        return len(data) >= _bmp_extent(data)
    except (struct.error, IndexError):
        return False


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, where its payload starts); a thumbnail inside a segment is stepped over, not seen."""
    at = 2
    while found := JPEG_MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        yield marker, at + 2
        if marker == JPEG_END:
            return
        if marker != 0x01:  # TEM stands alone; every other marker left here has a length
            at += int(struct.unpack_from(">H", data, at)[0])


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for marker, start in _jpeg_segments(data):
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, start + 1)
            return height, width
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _png_is_whole(data: bytes) -> bool:
    at = len(PNG_SIGNATURE)
    view = memoryview(data)
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if name in PNG_CRITICAL and zlib.crc32(view[at + 4 : end]) != checksum:
            return False
        if name == b"IEND":
            return True
        at = end + 4


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Read the first chunk (RFC 9649): lossy, lossless, or extended with the canvas size."""
    chunk = data[12:16]
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    return None


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(height), width  # a negative height means rows run from the top


def _bmp_extent(data: bytes) -> int:
    """Return how many bytes a BMP must have; its own file-size field is often wrong and not used."""
    size = _bmp_size(data)
    if size is None:
        return len(data) + 1
    (offset,) = struct.unpack_from("<I", data, 10)
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        (depth,), compression, stored = struct.unpack_from("<H", data, 24), 0, 0
    else:
        depth, compression, stored = struct.unpack_from("<HII", data, 28)
    if compression in BMP_UNCOMPRESSED:
        stored = (depth * size[1] + 31) // 32 * 4 * size[0]  # rows are padded to 4 bytes
    return int(offset + stored)
