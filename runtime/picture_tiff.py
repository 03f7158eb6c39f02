"""The size of a TIFF file's first picture, and whether all of its strips or tiles lie inside the file (TIFF 6.0)."""

from __future__ import annotations

import struct

__all__ = ["tiff_extent", "tiff_size"]

# Tags of an image file directory.
WIDTH, HEIGHT, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 256, 257, 273, 279, 324, 325
END = -1  # no tag: where the directory itself ends
TAGS = frozenset((WIDTH, HEIGHT, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES))
# Field types that may hold a size or an offset: struct code and bytes of SHORT, LONG and BigTIFF's LONG8.
TYPES = {3: ("H", 2), 4: ("I", 4), 16: ("Q", 8)}


def tiff_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) in pixels as stored, or None where the directory is cut or malformed."""
    directory = _directory(data)
    if not (directory.get(WIDTH) and directory.get(HEIGHT)):
        return None
    return directory[HEIGHT][0], directory[WIDTH][0]


def tiff_extent(data: bytes) -> int | None:
    """Return how many bytes the file must have for its pixels to be complete; None where it does not say."""
    directory = _directory(data)
    offsets = directory.get(STRIP_OFFSETS) or directory.get(TILE_OFFSETS)
    counts = directory.get(STRIP_BYTES) or directory.get(TILE_BYTES)
    if not offsets or not counts or len(offsets) != len(counts):
        return None
    pixels = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    return max(pixels, directory[END][0])


def _directory(data: bytes) -> dict[int, tuple[int, ...]]:
    """Return the wanted tags of the first directory; those that cannot be read are left out."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        (magic,) = struct.unpack_from(order + "H", data, 2)
        big = magic == 43  # BigTIFF: 64-bit offsets
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        first, step, room = (start + 8, 20, 8) if big else (start + 2, 12, 4)
        found: dict[int, tuple[int, ...]] = {END: (first + count * step + room,)}
        for at in range(first, min(first + count * step, len(data) - step + 1), step):
            tag, kind = struct.unpack_from(order + "HH", data, at)
            if tag in TAGS and kind in TYPES:
                found[tag] = _values(data, at + 4, order, big, kind)
        return found
    except (struct.error, OverflowError):
        return {}


def _values(data: bytes, at: int, order: str, big: bool, kind: int) -> tuple[int, ...]:
    """Return one field's numbers; they stand in the entry itself where they fit, else where it points."""
    code, size = TYPES[kind]
    word, room = ("Q", 8) if big else ("I", 4)
    (count,) = struct.unpack_from(order + word, data, at)
    at += room
    if count * size > room:
        (at,) = struct.unpack_from(order + word, data, at)
    if at + count * size > len(data):
        return ()
    return struct.unpack_from(f"{order}{count}{code}", data, at)
