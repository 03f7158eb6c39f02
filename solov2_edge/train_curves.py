"""A run's curves as one picture: losses above, AP below, against the epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.files import write_aside

__all__ = ["CURVES", "draw_curves", "write_curves"]

CURVES = "curves.png"
WIDTH, PANEL = 900, 320  # pixels
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 30, 40  # pixels around a panel's axes
GREY, LIGHT = (90, 90, 90), (225, 225, 225)
PANELS = (
    (
        "loss",
        (
            *(("loss", (60, 60, 60)), ("mask_loss", (180, 90, 20))),
            *(("class_loss", (40, 120, 230)), ("semantic_loss", (60, 160, 60))),
        ),
    ),
    ("AP, points of 100", (("ap", (60, 140, 30)), ("ap50", (160, 60, 160)), ("ap75", (30, 90, 200)))),
)  # colours are BGR

Point = tuple[float, float]


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.uint8]:
    """Draw the rows of a log, (H, W, 3) uint8 BGR; what was never measured, or always 0, is left out."""
    panels = []
    for title, curves in PANELS:
        series = [(name, colour, _points(rows, name)) for name, colour in curves]
        drawn = [entry for entry in series if any(value for _, value in entry[2])]
        if drawn:
            panels.append(_panel(title, drawn, last=int(rows[-1]["epoch"])))
    return np.vstack(panels or [np.full((PANEL, WIDTH, 3), 255, np.uint8)])


def write_curves(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Draw the rows of a log into ``curves.png`` in ``folder``."""
    _, png = cv2.imencode(".png", draw_curves(rows))
    return write_aside(folder / CURVES, png.tobytes())


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    """Return (epoch, value) where a number was measured; a log read back holds text, empty where nothing was."""
    found = ((float(row["epoch"]), row.get(name)) for row in rows)
    numbers = [(epoch, float(value)) for epoch, value in found if value not in (None, "")]
    return [(epoch, value) for epoch, value in numbers if math.isfinite(value)]


def _panel(title: str, series: list[tuple[str, tuple[int, int, int], list[Point]]], last: int) -> NDArray[np.uint8]:
    """Draw one set of axes with its curves, from 0 to what the highest needs."""
    canvas = np.full((PANEL, WIDTH, 3), 255, np.uint8)
    right, bottom = WIDTH - RIGHT, PANEL - BOTTOM
    top = _round_up(max(value for _, _, points in series for _, value in points))

    def at(epoch: float, value: float) -> tuple[int, int]:
        x = LEFT + (epoch - 1) / max(last - 1, 1) * (right - LEFT)
        return round(x), round(bottom - max(value, 0.0) / top * (bottom - TOP))

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = at(1, share * top)[1]
        cv2.line(canvas, (LEFT, y), (right, y), LIGHT if share else GREY, 1)
        _write(canvas, f"{share * top:.3g}", (8, y + 4), GREY)
    for epoch in sorted({1, (1 + last) // 2, last}):
        _write(canvas, str(epoch), (at(epoch, 0)[0] - 6, bottom + 18), GREY)
    _write(canvas, title, (LEFT, TOP - 12), GREY)
    _write(canvas, "epoch", (right + 12, bottom + 18), GREY)
    for number, (name, colour, points) in enumerate(series):
        pixels = np.array([at(*point) for point in points], np.int32)
        cv2.polylines(canvas, [pixels], isClosed=False, color=colour, thickness=2, lineType=cv2.LINE_AA)
        for x, y in pixels.tolist():
            cv2.circle(canvas, (x, y), 2, colour, -1, cv2.LINE_AA)
        _write(canvas, f"{name} {points[-1][1]:.3g}", (right + 12, TOP + 16 + 20 * number), colour)
    return canvas


def _write(canvas: NDArray[np.uint8], text: str, where: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


def _round_up(value: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 x 10^n that is at least ``value``; 1 where there is nothing to show."""
    if not 0 < value < math.inf:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 2.5, 5, 10) if step * unit >= value * (1 - 1e-9))
