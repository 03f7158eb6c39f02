"""The size of a picture as it will be seen, without decoding it where its header says enough."""

from __future__ import annotations

from pathlib import Path

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.picture_headers import SNIFF_BYTES, is_whole, picture_format, picture_size
from solov2_edge.runtime.pictures import decode_picture

__all__ = ["picture_shape"]


def picture_shape(path: Path) -> tuple[int, int]:
    """Return the (height, width) of a picture as ``read_picture`` would give it, decoding only ones that may be turned.

    Raises:
        InputError: it is missing, no picture, or cut short.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a picture") from error
    kind = picture_format(data[:SNIFF_BYTES])
    size = None if kind is None else picture_size(data, kind)
    # Only a decoder knows what an EXIF block or a TIFF tag turns.
    if kind is None or size is None or kind == "TIFF" or b"Exif" in data[:4096] or b"eXIf" in data or b"EXIF" in data:
        height, width = decode_picture(data, str(path)).shape[:2]
        return height, width
    require(is_whole(data, kind), f"{path} is a {kind} picture that is cut short or damaged; copy it again")
    return size
