"""The newest frame for everybody who looks: encoded once, when first asked for, and never in the loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import cv2
import numpy as np

from solov2_edge.demos.image import encode_jpeg, encode_png
from solov2_edge.demos.live_view import Shown

__all__ = ["LONGEST", "Newest", "snapshot", "stream_picture"]

LONGEST = 1280  # pixels of a streamed picture's longer side; a snapshot has them all
QUALITY = 80  # of 100, of the stream: a third of a still overlay's bytes


class Newest:
    """The newest frame, its number, and its encoded forms; lives in the server's thread.

    Attributes:
        number: of the frame, from 1; 0 before the first.
        shown: the frame, or None before the first.
        listeners: set when something has changed.
    """

    def __init__(self, worker: ThreadPoolExecutor) -> None:
        """Encode in ``worker``'s threads."""
        self._worker = worker
        self._came = 0.0
        self._encoded: dict[Callable[[Shown], bytes], asyncio.Future[bytes]] = {}
        self._encoding: set[asyncio.Future[bytes]] = set()  # of this frame and of older ones
        self.number = 0
        self.shown: Shown | None = None
        self.listeners: set[asyncio.Event] = set()

    @property
    def age(self) -> float:
        """Seconds since the frame came; 0 before the first."""
        return monotonic() - self._came if self.number else 0.0

    def put(self, shown: Shown) -> None:
        """Replace the frame and wake everybody who waits for it."""
        self.number += 1
        self.shown = shown
        self._came = monotonic()
        self._encoded = {}
        self.wake()

    def wake(self) -> None:
        """Wake everybody, for a frame or for something else."""
        for event in self.listeners:
            event.set()

    async def encoded(self, how: Callable[[Shown], bytes]) -> bytes:
        """Return the frame as ``how`` encodes it, done once however many ask; there must be a frame."""
        assert self.shown is not None
        if how not in self._encoded:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._worker, how, self.shown)
            self._encoded[how] = future
            self._encoding.add(future)
            future.add_done_callback(self._encoding.discard)
        # One who stops waiting must not take the picture away from the others.
        return await asyncio.shield(self._encoded[how])

    async def settle(self) -> None:
        """Wait for what is being encoded, so that it does not report to a loop that is gone."""
        await asyncio.gather(*self._encoding, return_exceptions=True)


def stream_picture(shown: Shown) -> bytes:
    """Return the overlay as JPEG, made smaller where its longer side is beyond :data:`LONGEST`."""
    overlay = shown.overlay
    height, width = overlay.shape[:2]
    ratio = LONGEST / max(height, width)
    if ratio < 1:
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        # Down to a half, linear leaves no pixel out and takes a fifth of the time.
        how = cv2.INTER_LINEAR if ratio >= 0.5 else cv2.INTER_AREA
        overlay = np.asarray(cv2.resize(overlay, size, interpolation=how), np.uint8)
    return encode_jpeg(overlay, QUALITY)


def snapshot(shown: Shown) -> bytes:
    """Return the overlay as PNG, every pixel of it."""
    return encode_png(shown.overlay)
