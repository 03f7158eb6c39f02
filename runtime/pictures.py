"""Pictures from disk and frames from anywhere, brought to the one form everything here takes: BGR uint8 (H, W, 3)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError, require

__all__ = [
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "as_frame",
    "decode_picture",
    "list_pictures",
    "opencv_quiet",
    "read_picture",
]

MAX_PIXELS = 100_000_000  # a decoded frame of this size is 300 MB
MAX_SIDE = 1 << 20  # pixels; OpenCV's decoders refuse more
MAX_BYTES = 1 << 30  # of a file; an uncompressed 16-bit RGBA picture of MAX_PIXELS has 800 MB
LOG_SILENT = 0  # OpenCV's LOG_LEVEL_SILENT
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")

_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_level = 0


def read_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a JPEG, PNG, WebP, TIFF or BMP file.

    Grey is repeated over three channels, alpha is dropped, 16 bits become 8, and EXIF rotation is applied, so the
    frame is what a viewer shows.

    Args:
        path: the file; its suffix does not matter.

    Returns:
        BGR uint8 (H, W, 3).

    Raises:
        InputError: the file is missing, empty, cut short, damaged, not such a picture, or declares more than
            :data:`MAX_PIXELS` pixels; nothing is decoded in the last case.
    """
    return decode_picture(_read_bytes(path), str(path))


def decode_picture(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture in memory; see :func:`read_picture`.

    Args:
        data: a whole JPEG, PNG, WebP, TIFF or BMP file.
        name: what it is called where it cannot be decoded.

    Raises:
        InputError: as for a file.
    """
    # Imported here, because a device that segments camera frames never needs it and import time is bounded.
    from solov2_edge.runtime.picture_headers import SNIFF_BYTES, is_whole, picture_format, picture_size

    kind = picture_format(data[:SNIFF_BYTES])
    if kind is None:
        raise InputError(f"{name} is not a JPEG, PNG, WebP, TIFF or BMP picture; convert it to one of these")
    size = picture_size(data, kind)
    if size is None:
        raise InputError(f"{name} starts like a {kind} picture but its header is cut short or damaged; copy it again")
    height, width = size
    require(
        0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS,
        f"{name} declares {height} x {width} pixels, expected at least 1 x 1 and at most {MAX_PIXELS:,} in all; "
        "scale it down or cut it into tiles",
    )
    require(is_whole(data, kind), f"{name} is a {kind} picture that is cut short or damaged; copy it again")
    with opencv_quiet():
        try:
            # ANYDEPTH keeps 16 bits, which OpenCV would else shift to 8; COLOR drops alpha and applies EXIF rotation.
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        except cv2.error:
            picture = None
    if picture is None:
        raise InputError(f"{name} is a {kind} picture that OpenCV cannot decode; save it again as 8-bit PNG or JPEG")
    require(
        picture.dtype in (np.uint8, np.uint16),
        f"{name} holds {picture.dtype} pixels, expected 8 or 16 bits per channel; save it as 8-bit PNG or JPEG",
    )
    return as_frame(picture)


def as_frame(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring a frame to BGR uint8 (H, W, 3), without a copy where it already is.

    Args:
        array: uint8, or uint16 over its full range 0..65535; (H, W) or (H, W, 1) grey, (H, W, 3) BGR, or
            (H, W, 4) BGRA, whose alpha is dropped.

    Returns:
        BGR uint8 (H, W, 3).

    Raises:
        InputError: another shape or dtype, or no pixels.
    """
    good = (
        isinstance(array, np.ndarray)
        and array.dtype in (np.uint8, np.uint16)
        and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)))
    )
    if not good:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(
            "a frame must be a uint8 or uint16 array of shape (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA, "
            f"got {got}; convert it first"
        )
    require(array.size > 0, f"a frame must hold pixels, got shape {array.shape}; check its source")
    if array.dtype == np.uint16:
        array = cv2.convertScaleAbs(array, alpha=1 / 257)  # 65535 / 257 = 255; rounds to the nearest
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    code = cv2.COLOR_BGRA2BGR if array.ndim == 3 and array.shape[2] == 4 else cv2.COLOR_GRAY2BGR
    return np.asarray(cv2.cvtColor(array, code), np.uint8)


def list_pictures(path: str | os.PathLike[str]) -> list[Path]:
    """Return the picture files directly in a folder, sorted by name; a single file is returned as it is.

    Args:
        path: a folder or a file. In a folder, files count by :data:`PICTURE_SUFFIXES`; hidden ones do not.

    Raises:
        InputError: nothing is there, or the folder holds no picture.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    require(root.is_dir(), f"{path} does not exist; expected a picture or a folder of pictures")
    try:
        files = sorted(
            p for p in root.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.name[0] != "." and p.is_file()
        )
    except OSError as error:
        raise InputError(f"{path} cannot be listed ({error.strerror}); expected a folder of pictures") from error
    require(bool(files), f"{path} holds no picture; expected files ending in {', '.join(PICTURE_SUFFIXES)}")
    return files


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return a picture file's bytes; only its first bytes are read where it is not a picture."""
    from solov2_edge.runtime.picture_headers import SNIFF_BYTES, picture_format

    require("\0" not in os.fspath(path), f"{os.fspath(path)!r} is not a path; expected a picture")
    file = Path(path)
    try:
        # A pipe or a device would block, and a folder cannot be read.
        require(not file.exists() or file.is_file(), f"{path} is not a file; expected a picture")
        with file.open("rb") as stream:
            start = stream.read(SNIFF_BYTES)
            require(bool(start), f"{path} is empty; expected a JPEG, PNG, WebP, TIFF or BMP picture")
            if picture_format(start) is None:
                raise InputError(f"{path} is not a JPEG, PNG, WebP, TIFF or BMP picture; convert it to one of these")
            data = start + stream.read(MAX_BYTES - SNIFF_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a picture") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a picture") from error
    require(len(data) <= MAX_BYTES, f"{path} is larger than {MAX_BYTES >> 20} MiB; expected a picture, scale it down")
    return data


@contextmanager
def opencv_quiet() -> Iterator[None]:
    """Silence OpenCV's log while any thread is inside; the level found by the first is restored by the last."""
    global _quiet_users, _quiet_level
    # OpenCV 4.8 has the function at its top level, 4.14 and 5.0 in a submodule.
    set_level = cv2.utils.logging.setLogLevel if hasattr(cv2.utils, "logging") else vars(cv2)["setLogLevel"]
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_level = set_level(LOG_SILENT)
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                set_level(_quiet_level)
