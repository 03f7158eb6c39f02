"""The line of figures below a live picture, and the list of keys over it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.labels import FONT, text_scale
from solov2_edge.demos.live_controls import Settings
from solov2_edge.demos.live_statistics import Statistics

__all__ = ["draw_status", "draw_table", "status_words"]

GROUND, INK, ALARM = (24, 24, 24), (235, 235, 235), (96, 160, 255)  # BGR; the alarm is an orange
DIMMED = 0.3  # of the picture's brightness stays below the list of keys


def status_words(statistics: Statistics, settings: Settings) -> str:
    """Return the figures and what is shown, in words."""
    words = [
        f"{statistics.fps:.1f} fps",
        f"latency {statistics.latency:.0f} ms",
        f"dropped {statistics.dropped}",
        f"score >= {settings.score_threshold:.2f}",
        "all classes" if settings.classes is None else ", ".join(sorted(settings.classes)) or "no class",
    ]
    words += [text for text, said in (("REC", settings.recording), ("PAUSED", settings.paused)) if said]
    return "   ".join(words)


def draw_status(picture: NDArray[np.uint8], words: str, alarm: str = "") -> NDArray[np.uint8]:
    """Return the picture with a bar below it.

    Args:
        picture: BGR uint8 (H, W, 3).
        words: in the bar; shrunk where it is too narrow.
        alarm: instead of the words, in a colour that is seen.

    Returns:
        BGR uint8 (H + bar, W, 3).
    """
    height, width = picture.shape[:2]
    scale = text_scale(height, width)
    (_, tall), baseline = cv2.getTextSize("Ag", FONT, scale, 1)
    pad = max(3, tall // 2)
    bar = np.full((tall + baseline + 2 * pad, width, 3), GROUND, np.uint8)
    _write(bar, alarm or words, (pad, pad + tall), scale, ALARM if alarm else INK, width - 2 * pad)
    return np.concatenate([picture, bar])


def draw_table(picture: NDArray[np.uint8], rows: Sequence[tuple[str, str]]) -> NDArray[np.uint8]:
    """Return the picture dimmed, with two columns of text over it."""
    height, width = picture.shape[:2]
    canvas = (picture * DIMMED).astype(np.uint8)
    scale = text_scale(height, width)
    (_, tall), baseline = cv2.getTextSize("Ag", FONT, scale, 1)
    step = min(2 * (tall + baseline), height // (len(rows) + 1))
    column = 2 * step + max(cv2.getTextSize(first, FONT, scale, 1)[0][0] for first, _ in rows)
    for number, (first, second) in enumerate(rows, start=1):
        _write(canvas, first, (step, number * step), scale, INK, width - 2 * step)
        _write(canvas, second, (column, number * step), scale, INK, width - column - step)
    return canvas


def _write(
    picture: NDArray[np.uint8],
    words: str,
    origin: tuple[int, int],
    scale: float,
    colour: tuple[int, int, int],
    room: int,
) -> None:
    long = cv2.getTextSize(words, FONT, scale, 1)[0][0]
    shrunk = scale * min(1.0, max(1, room) / long) if long else scale
    cv2.putText(picture, words, origin, FONT, shrunk, colour, 1, cv2.LINE_AA)
