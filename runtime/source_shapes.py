"""A camera for machines that have none: ``test://``, coloured shapes that move, the same ones every time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.source import Frame, Mode, Source, SourceStatus

__all__ = ["ShapeSource", "draw_shapes"]

MAX_SIDE = 8192
MAX_FPS = 1000
MAX_SHAPES = 1000


class ShapeSource(Source):
    """Gives drawn frames at a camera's pace, or as fast as they are asked for."""

    def __init__(
        self, width: int = 640, height: int = 480, fps: float = 30, frames: int | None = None, shapes: int = 5
    ) -> None:
        """Say what to draw.

        Args:
            width: of a frame in pixels.
            height: of a frame in pixels.
            fps: frames per second; 0 for as fast as they are asked for, which is no camera any more: VIDEO.
            frames: how many there are; None for no end.
            shapes: on each frame.

        Raises:
            InputError: a number out of its range.
        """
        require(
            16 <= width <= MAX_SIDE and 16 <= height <= MAX_SIDE,
            f"a test source's frames are 16 x 16 to {MAX_SIDE} x {MAX_SIDE} pixels, got {width} x {height}",
        )
        require(0 <= fps <= MAX_FPS, f"a test source gives 0 (unpaced) to {MAX_FPS} frames per second, got {fps:g}")
        require(frames is None or frames >= 1, f"a test source gives at least 1 frame, got {frames}")
        require(0 <= shapes <= MAX_SHAPES, f"a test source draws 0 to {MAX_SHAPES} shapes, got {shapes}")
        self.description = f"test source, {width} x {height}"
        self.mode = Mode.LIVE if fps else Mode.VIDEO
        self.fps: float | None = float(fps) if fps else None
        self._size = (width, height)
        self._frames = frames
        self._shapes = shapes
        self._closed = threading.Event()
        self._ended = False

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, each when it is due; one that its reader came too late for comes at once."""
        start, index = perf_counter(), 0
        while self._frames is None or index < self._frames:
            if self.fps is not None:
                self._closed.wait(max(0.0, start + index / self.fps - perf_counter()))
            if self._closed.is_set():
                return
            image = draw_shapes(*self._size, index, self._shapes)
            seconds = perf_counter() - start if self.fps is None else index / self.fps
            yield Frame(image, index, perf_counter(), seconds=seconds)
            index += 1
        self._ended = True

    def status(self) -> SourceStatus:
        """Return how it is doing."""
        return SourceStatus("ended" if self._ended else "closed" if self._closed.is_set() else "open")

    def close(self) -> None:
        """End the iteration, also while a frame is waited for."""
        self._closed.set()


def draw_shapes(width: int, height: int, index: int, shapes: int) -> NDArray[np.uint8]:
    """Return frame ``index``: discs, boxes and triangles that bounce off its edges.

    Returns:
        BGR uint8 (height, width, 3); the same numbers give the same pixels.
    """
    image = np.full((height, width, 3), 40, np.uint8)
    side = min(width, height)
    for number in range(shapes):
        # Multiples of irrational steps: spread evenly, and no two shapes alike.
        first, second, third = ((number + 1) * step % 1 for step in (0.6180339887, 0.7548776662, 0.5698402910))
        radius = max(3, round(side * (0.05 + 0.08 * third)))
        x = _bounce(first * width + index * side * (0.004 + 0.008 * second), radius, width - radius)
        y = _bounce(second * height + index * side * (0.003 + 0.009 * first), radius, height - radius)
        colour = (60 + 195 * first, 60 + 195 * second, 60 + 195 * third)
        if number % 3 == 0:
            cv2.circle(image, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)
        elif number % 3 == 1:
            cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), colour, cv2.FILLED)
        else:
            corners = np.array([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], np.int32)
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
    return image


def _bounce(path: float, low: int, high: int) -> int:
    """Return where something is that has gone ``path`` pixels back and forth between two edges."""
    span = max(1, high - low)
    rest = path % (2 * span)
    return low + round(min(rest, 2 * span - rest))
