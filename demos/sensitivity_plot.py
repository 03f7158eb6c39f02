"""The picture of a sensitivity analysis: per layer, the noise it makes alone and what keeping it float takes away."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["LayerNoise", "draw_sensitivity"]

FONT = cv2.FONT_HERSHEY_SIMPLEX
# OpenCV 4 draws letters as thin strokes, OpenCV 5 with a typeface of weights.
LIGHT = 1 if int(cv2.__version__.partition(".")[0]) >= 5 else 2
FINE = 2  # drawn at twice the size and averaged down, which smooths bars and letters alike
# BGR; the hues of the report, one per output of the network.
COLOURS = {"class_scores": (132, 143, 13), "kernels": (43, 154, 217), "mask_features": (201, 104, 122)}
PAGE, INK, SOFT, LINE, BAND = (255, 255, 255), (36, 31, 27), (112, 101, 92), (223, 228, 227), (246, 248, 248)
WIDTH, MARGIN, HEAD, ROW, FOOT = 1600, 44, 196, 34, 40  # pixels
NAME_END, FIRST, SECOND = 470, (496, 960), (1010, 1270)  # x: where names end, and the two panels
COLUMNS = (1372, 1464, 1556)  # x: where the columns of numbers end
TICKS = 5
MOST = 40  # rows; the files beside the picture have all


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """One layer, or block of layers.

    Attributes:
        name: its name.
        alone: output -> noise with it alone reduced, in percent of the signal.
        removed: output -> what keeping it float takes of the noise with all layers reduced, in percent of that.
        share: its part of all multiplications, in percent.
        lost: points of AP lost with it alone reduced, or None.
        regained: points of AP regained by keeping it float, or None.
    """

    name: str
    alone: Mapping[str, float]
    removed: Mapping[str, float]
    share: float
    lost: float | None = None
    regained: float | None = None


def draw_sensitivity(
    title: str, said: str, whole: Mapping[str, float], layers: Sequence[LayerNoise], unit: str = "layer"
) -> NDArray[np.uint8]:
    """Return the picture, BGR uint8 (H, 1600, 3).

    Args:
        title: large, on top.
        said: a line below it.
        whole: output -> noise with all layers reduced, in percent of the signal.
        layers: in the order they are to be shown, at most :data:`MOST` of which are.
        unit: what one is: ``"layer"`` or ``"block"``.
    """
    require(len(layers) > 0, "a plot of sensitivity needs layers, got none")
    shown = layers[:MOST]
    canvas = _Canvas(HEAD + ROW * (len(shown) + 1) + FOOT)
    canvas.text(title, MARGIN, 58, 1.05, INK, heavy=True)
    canvas.text(said, MARGIN, 92, 0.56, SOFT)
    x: float = MARGIN
    for name, colour in COLOURS.items():
        canvas.bar(x, 112, x + 18, 124, colour)
        x = canvas.text(name.replace("_", " "), x + 26, 124, 0.52, INK) + 30
    top = max(*whole.values(), *(value for layer in shown for value in layer.alone.values()), 1e-3)
    left = min(0.0, *(value for layer in shown for value in layer.removed.values()))
    right = max(*(value for layer in shown for value in layer.removed.values()), 1.0)
    bottom = HEAD + ROW * (len(shown) + 1)
    first = _Panel(canvas, *FIRST, 0.0, top, f"this {unit} alone in int8: noise, % of signal")
    second = _Panel(canvas, *SECOND, left, right, f"this {unit} kept float: noise gone, %")
    heads = ("work", "AP lost", "AP back") if shown[0].lost is not None else ("work",)
    for end, head in zip(COLUMNS, heads, strict=False):
        canvas.text(head, end, HEAD - 34, 0.46, SOFT, flush_right=True)
    for y in range(HEAD, bottom, 2 * ROW):
        canvas.band(y, ROW)
    first.frame(HEAD, bottom)
    second.frame(HEAD, bottom)
    canvas.text(f"all {unit}s in int8", NAME_END, HEAD + 22, 0.5, INK, flush_right=True, heavy=True)
    first.bars(HEAD, whole)
    for number, layer in enumerate(shown, start=1):
        y = HEAD + ROW * number
        canvas.text(layer.name, NAME_END, y + 22, 0.46, INK, flush_right=True, width=NAME_END - MARGIN)
        first.bars(y, layer.alone)
        second.bars(y, layer.removed)
        cells = [f"{layer.share:.1f} %"]
        cells += [f"{value:+.2f}" for value in (layer.lost, layer.regained) if value is not None]
        for end, cell in zip(COLUMNS, cells, strict=False):
            canvas.text(cell, end, y + 22, 0.46, INK, flush_right=True)
    if len(shown) < len(layers):
        canvas.text(f"The {MOST} worst of {len(layers)} {unit}s.", MARGIN, bottom + 26, 0.46, SOFT)
    return canvas.picture()


class _Canvas:
    """A page in final pixels, drawn finer."""

    def __init__(self, height: int) -> None:
        self._pixels = np.full((height * FINE, WIDTH * FINE, 3), PAGE, np.uint8)

    def bar(self, x0: float, y0: float, x1: float, y1: float, colour: tuple[int, int, int]) -> None:
        """Fill a rectangle; its right and lower edges are left out."""
        left, upper, right, lower = (round(value * FINE) for value in (x0, y0, x1, y1))
        self._pixels[upper : max(lower, upper + 1), left : max(right, left + 1)] = colour

    def band(self, y: int, height: int) -> None:
        """Tint a row, so that an eye finds back from its bars to its name."""
        self.bar(MARGIN - 12, y, WIDTH - MARGIN + 12, y + height, BAND)

    def text(
        self,
        words: str,
        x: float,
        y: float,
        scale: float,
        colour: tuple[int, int, int],
        *,
        flush_right: bool = False,
        heavy: bool = False,
        width: float = math.inf,
    ) -> float:
        """Write ``words`` on the baseline ``y``, from ``x`` or up to it, shrunk to ``width``; return where they end."""
        thickness = LIGHT + 2 if heavy else LIGHT
        long = cv2.getTextSize(words, FONT, scale * FINE, thickness)[0][0] / FINE
        shrunk = min(1.0, width / long) if long else 1.0
        start = x - long * shrunk if flush_right else x
        place = (round(start * FINE), round(y * FINE))
        cv2.putText(self._pixels, words, place, FONT, scale * FINE * shrunk, colour, thickness, cv2.LINE_AA)
        return start + long * shrunk

    def picture(self) -> NDArray[np.uint8]:
        """Return the page at its final size."""
        height, width = self._pixels.shape[0] // FINE, self._pixels.shape[1] // FINE
        return np.asarray(cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class _Panel:
    """Bars on one axis, three thin ones to a row."""

    def __init__(self, canvas: _Canvas, start: int, end: int, low: float, high: float, title: str) -> None:
        self._canvas, self._start, self._end = canvas, start, end
        self._step = _step((high - low) / TICKS)
        self._low = self._step * math.floor(low / self._step + 1e-9)
        self._high = self._step * math.ceil(high / self._step - 1e-9)
        canvas.text(title, start, HEAD - 34, 0.46, SOFT)

    def bars(self, y: int, values: Mapping[str, float]) -> None:
        """Draw one row's bars, from zero."""
        zero, tall = self._place(0.0), (ROW - 10) / len(COLOURS)
        for index, (name, colour) in enumerate(COLOURS.items()):
            ends = sorted((zero, self._place(values[name])))
            upper = y + 5 + index * tall
            self._canvas.bar(ends[0], upper, ends[1], upper + tall - 1.5, colour)

    def frame(self, top: int, bottom: int) -> None:
        """Draw the axis' lines and numbers."""
        count = round((self._high - self._low) / self._step)
        digits = max(0, -math.floor(math.log10(self._step)))
        for index in range(count + 1):
            value = self._low + index * self._step
            x = self._place(value)
            heavy = abs(value) < self._step / 2
            self._canvas.bar(x, top, x + (1.5 if heavy else 0.5), bottom, SOFT if heavy else LINE)
            self._canvas.text(f"{value:.{digits}f}", x - 6, HEAD - 10, 0.42, SOFT)

    def _place(self, value: float) -> float:
        inside = (value - self._low) / (self._high - self._low)
        return self._start + (self._end - self._start) * min(1.0, max(0.0, inside))


def _step(raw: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    scale = 10.0 ** math.floor(math.log10(raw))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= raw * (1 - 1e-9))
