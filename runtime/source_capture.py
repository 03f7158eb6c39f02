"""What OpenCV opens: video files."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_connection import ConnectionLostError, ConnectionSource

__all__ = ["Capture", "open_video"]

# FFmpeg writes its own complaints to stderr; ours says what to do. -8 is its AV_LOG_QUIET.
FFMPEG_QUIET = ("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Capture:
    """A connection of OpenCV's."""

    def __init__(self, capture: cv2.VideoCapture, lost: str) -> None:
        """Take over an open capture; ``lost`` says why no frame came, and is empty where that is a regular end."""
        self._capture = capture
        self._lost = lost

    def read(self) -> NDArray[Any] | None:
        """Wait for the next frame; see :class:`~solov2_edge.runtime.source_connection.Connection`."""
        if not self._capture.grab():
            raise ConnectionLostError(self._lost)
        try:
            good, image = self._capture.retrieve()
        except cv2.error:
            return None
        return image if good and image is not None and image.size else None

    def interrupt(self) -> None:
        """Do nothing: another thread may not touch a capture that is being read; its time-out ends the read."""

    def close(self) -> None:
        """Let go of the device, file or connection."""
        self._capture.release()

    @property
    def fps(self) -> float | None:
        """Frames per second it tells of, if it does."""
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        return fps if math.isfinite(fps) and 0 < fps <= 1000 else None


def open_video(path: Path) -> ConnectionSource:
    """Open a video file; frames are turned as its metadata say.

    Raises:
        InputError: OpenCV cannot open it.
    """
    cure = "save it as MP4 (H.264), or give a picture, a folder, a camera or a stream"

    def connect() -> Capture:
        os.environ.setdefault(*FFMPEG_QUIET)
        try:
            capture = cv2.VideoCapture(str(path))
        except cv2.error:
            capture = cv2.VideoCapture()
        if not capture.isOpened():
            capture.release()
            raise InputError(f"{path} is neither a picture nor a video that OpenCV {cv2.__version__} reads; {cure}")
        return Capture(capture, "")

    first = connect()
    return ConnectionSource(str(path), first, connect, mode=Mode.VIDEO, fps=first.fps, reopen=0, cure=cure)
