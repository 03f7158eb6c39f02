"""A connection of OpenCV's, to whatever OpenCV opens."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import cv2
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.pictures import opencv_quiet
from solov2_edge.runtime.source_connection import ConnectionLostError

__all__ = ["Capture", "open_capture"]

# FFmpeg writes its own complaints to stderr; ours says what to do. -8 is its AV_LOG_QUIET.
FFMPEG_QUIET = ("OPENCV_FFMPEG_LOGLEVEL", "-8")
ENDS_EARLY = 0.02  # of the frames a file announces; some only estimate them


class Capture:
    """A connection of OpenCV's.

    OpenCV says the same at a stream's end and at a frame that cannot be decoded; only trying on tells them apart.
    """

    def __init__(self, capture: cv2.VideoCapture, lost: str, tries: int = 0, timeout: float = math.inf) -> None:
        """Take over an open capture.

        Args:
            capture: open.
            lost: says why there are no more frames; empty where that is a regular end.
            tries: frames in a row that may fail before that is the end.
            timeout: seconds after which a frame that fails was waited for in vain, and no other is tried.
        """
        self._capture = capture
        self._lost = lost
        self._tries = tries
        self._timeout = timeout
        self._grabbed = False
        self._frames = 0
        self._corrupt = 0  # frames that failed before the one that is grabbed, not told of yet

    def read(self) -> NDArray[Any] | None:
        """Wait for the next frame; see :class:`~solov2_edge.runtime.source_connection.Connection`."""
        if not self._grabbed:
            self._corrupt, self._grabbed = self._grab(), True
        if self._corrupt:
            self._corrupt -= 1
            return None
        self._grabbed = False
        try:
            good, image = self._capture.retrieve()
        except cv2.error:
            return None
        return image if good and image is not None and image.size else None

    def _grab(self) -> int:
        """Advance to the next frame that does not fail; return how many did."""
        for failed in range(self._tries + 1):
            start = perf_counter()
            if self._capture.grab():
                self._frames += failed + 1
                return failed
            if perf_counter() - start >= 0.9 * self._timeout:
                break
        raise ConnectionLostError(self._lost or self._cut_short())

    def _cut_short(self) -> str:
        announced = float(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if announced - self._frames > max(1, ENDS_EARLY * announced):  # false for a NaN
            return f"it ends after {self._frames} of {announced:.0f} frames; it was cut short or is damaged"
        return ""

    def interrupt(self) -> None:
        """Do nothing: another thread may not touch a capture that is being read; its time-out ends the read."""

    def close(self) -> None:
        """Let go of the device, file or connection."""
        self._capture.release()

    def fps(self) -> float | None:
        """Return the frames per second it tells of, if it does."""
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        return fps if math.isfinite(fps) and 0 < fps <= 1000 else None

    def is_finite(self) -> bool:
        """Return whether it tells of a number of frames: a file, wherever it lies."""
        return float(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) > 0


def open_capture(source: str | int, backend: int, settings: Sequence[int], refusal: str) -> cv2.VideoCapture:
    """Open a capture, quietly.

    Args:
        source: what OpenCV takes.
        backend: one of OpenCV's ``CAP_*``.
        settings: properties and values to open with, in turn.
        refusal: the sentence where it cannot be opened.

    Raises:
        InputError: it cannot be opened.
    """
    os.environ.setdefault(*FFMPEG_QUIET)
    with opencv_quiet():
        try:
            capture = cv2.VideoCapture(source, backend, list(settings))
        except cv2.error:
            raise InputError(refusal) from None
    if not capture.isOpened():
        capture.release()
        raise InputError(refusal)
    return capture
