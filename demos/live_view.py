"""What a live view is shown for every frame, and what a live view is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.draw import draw_instances
from solov2_edge.demos.live_controls import Settings
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.source import Frame

__all__ = ["Shown", "View", "close_all"]


@dataclass(slots=True, eq=False)
class Shown:
    """One frame as it is shown; several views may share it, in any thread, and none may change it.

    Attributes:
        frame: as the source gave it.
        instances: those above the score threshold and of the chosen classes, in pixels of the frame.
        tracks: (n,) int64, the track of each instance, from 1; a track keeps its number and its colour.
        timings: milliseconds of the frame's stages.
        latency: milliseconds from the frame's being complete to its instances being ready.
        statistics: of the stream up to this frame.
        settings: what decided which instances are shown.
        repeated: the frame was shown before, and is again because a setting changed while it stood still.
    """

    frame: Frame
    instances: Instances
    tracks: NDArray[np.int64]
    timings: dict[str, float]
    latency: float
    statistics: Statistics
    settings: Settings
    repeated: bool = False
    _overlay: NDArray[np.uint8] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def overlay(self) -> NDArray[np.uint8]:
        """The frame with the instances drawn over it, BGR uint8 (H, W, 3), read-only; drawn once, when first asked."""
        with self._lock:
            if self._overlay is None:
                self._overlay = draw_instances(
                    self.frame.image,
                    self.instances,
                    alpha=self.settings.alpha,
                    labels=self.settings.labels,
                    numbers=self.tracks.tolist(),
                )
                self._overlay.setflags(write=False)
            return self._overlay

    def objects(self) -> list[dict[str, Any]]:
        """Return each instance as JSON-ready data: label, score, track, box (x0, y0, x1, y1), compressed COCO RLE."""
        found = self.instances
        return [
            {"label": name, "score": round(float(score), 4), "track": track, "box": box, "rle": rle}
            for name, score, track, box, rle in zip(
                found.names, found.scores, self.tracks.tolist(), found.boxes.tolist(), found.rle(), strict=True
            )
        ]


class View(Protocol):
    """Somebody who is shown the frames: a window, a video, a file of lines, a web page.

    Every method is called in the loop's thread, so what takes long there holds up everything.
    """

    def show(self, shown: Shown) -> None:
        """Take one frame; the next one comes when this returns."""

    def tick(self, statistics: Statistics) -> None:
        """Look after keys and the like while no frame comes; called several times a second then.

        Args:
            statistics: as they are now; a camera that vanished shows in their ``state`` and ``message``.
        """

    def close(self) -> None:
        """End; called once, whatever happened. What was shown before must be safe afterwards."""


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Let go of everything."""


def close_all(things: Sequence[Closable]) -> None:
    """Close everything, also where one of them fails; the first error is raised in the end."""
    errors = []
    for thing in things:
        try:
            thing.close()
        except Exception as error:  # noqa: BLE001 - raised below, once the others are safe
            errors.append(error)
    if errors:
        raise errors[0]
