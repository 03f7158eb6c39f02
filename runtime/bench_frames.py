"""Frames to measure with, read into memory before anything is timed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.pictures import PICTURE_SUFFIXES, list_pictures, read_picture

__all__ = ["frames_sha256", "read_frames", "resized"]


def read_frames(source: str | os.PathLike[str], limit: int) -> tuple[NDArray[np.uint8], ...]:
    """Return up to ``limit`` BGR uint8 (H, W, 3) frames of a video, a picture or a folder of pictures.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    require(limit >= 1, f"at least 1 frame is needed, got a limit of {limit}")
    path = Path(source)
    require(path.exists(), f"{path} does not exist; expected a video, a picture or a folder of pictures")
    if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
        return tuple(read_picture(picture) for picture in list_pictures(path)[:limit])
    from solov2_edge.runtime.source_video import open_video

    with open_video(path) as video:
        return tuple(frame.image for frame in islice(video, limit))


def resized(frames: Sequence[NDArray[np.uint8]], height: int, width: int) -> tuple[NDArray[np.uint8], ...]:
    """Return the frames stretched to height x width pixels: the cost of a resolution, not its picture, counts."""
    require(height > 0 and width > 0, f"a frame must hold pixels, got {height} x {width}")
    return tuple(
        np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8) for frame in frames
    )


def frames_sha256(frames: Sequence[NDArray[np.uint8]]) -> str:
    """Return the SHA-256 over the frames' sizes and pixels in order, as 64 hex digits."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(repr(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()
