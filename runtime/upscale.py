"""From quarter-scale mask probabilities to masks in frame pixels, on the box where there is anything.

The reference resizes *probabilities* twice, bilinear with half-pixel centres and no antialias: by 4 to the padded
input, cropped to the resized frame, then to the frame. Each step is linear and separable, so per axis the two are one
table with at most 3 taps per frame pixel, built once per geometry. A frame pixel is a convex combination of its
taps: where none of them is above the threshold it is background, which bounds the box.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solov2_edge.runtime.quarter_masks import probabilities

__all__ = ["AxisTable", "axis_table", "upscale_mask"]

SCALE = 4  # input pixels per pixel of the mask features
_BAND = 64  # frame rows computed at once: they touch few quarter-scale rows, so the product with the table is small


@dataclass(frozen=True, slots=True, eq=False)
class AxisTable:
    """The two-step resize along one axis.

    Attributes:
        weights: (frame, quarter) float32; rows sum to 1.
        transposed: (quarter, frame) float32, the same in the order a product from the right reads fastest.
        first: per frame pixel its first quarter-scale tap; never falls. A tuple of ints, which bisect and slices
            take in a fraction of the time NumPy's scalars cost.
        end: per frame pixel one past its last tap; never falls.
    """

    weights: NDArray[np.float32]
    transposed: NDArray[np.float32]
    first: tuple[int, ...]
    end: tuple[int, ...]


@lru_cache(maxsize=8)
def axis_table(quarter: int, resized: int, frame: int) -> AxisTable:
    """Return the table from ``quarter`` pixels, by 4, cut to ``resized``, to ``frame`` pixels."""
    near, far, far_weight = _taps(quarter, SCALE * quarter)
    taps = ((near, 1 - far_weight), (far, far_weight))
    weights = np.zeros((frame, quarter))
    pixel = np.arange(frame)
    near, far, far_weight = _taps(resized, frame)
    for middle, outer in ((near, 1 - far_weight), (far, far_weight)):
        for index, inner in taps:
            np.add.at(weights, (pixel, index[middle]), outer * inner[middle].astype(np.float64))
    used = weights > 0
    first, end = used.argmax(axis=1), quarter - used[:, ::-1].argmax(axis=1)
    single = weights.astype(np.float32)
    return AxisTable(single, np.ascontiguousarray(single.T), tuple(first.tolist()), tuple(end.tolist()))


def _taps(size: int, result: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return both taps and the second one's weight of a bilinear resize, in float32 as the reference computes them."""
    step = np.float32(size) / np.float32(result)
    position = np.maximum(step * (np.arange(result, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    near = np.minimum(position.astype(np.int64), size - 1)
    weight = np.clip(position - near.astype(np.float32), 0, 1)
    return near, np.minimum(near + 1, size - 1), weight.astype(np.float32)


def upscale_mask(
    logits: NDArray[np.float32],
    box: NDArray[np.int64],
    rows: AxisTable,
    columns: AxisTable,
    threshold: float,
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Return the mask of one instance in frame pixels.

    Args:
        logits: (h, w) float32 at quarter scale.
        box: (y0, y1, x0, x1) of the pixels whose probability is above ``threshold``, ends exclusive.
        rows: table of the vertical axis.
        columns: table of the horizontal axis.
        threshold: a frame pixel is foreground above it (strict).

    Returns:
        (y0, x0) of the crop's corner in the frame, and the crop (h, w) bool, (0, 0) where the mask lies in the padding.
    """
    y0, y1 = _reach(rows, int(box[0]), int(box[1]))
    x0, x1 = _reach(columns, int(box[2]), int(box[3]))
    crop = np.empty((y1 - y0, x1 - x0), np.bool_)
    if not crop.size:
        return (0, 0), np.zeros((0, 0), np.bool_)
    top, bottom = rows.first[y0], rows.end[y1 - 1]
    left, right = columns.first[x0], columns.end[x1 - 1]
    # Interpolating p - t instead of p keeps plateaus of exactly t at exactly 0, whatever the weights round to.
    above = probabilities(logits[top:bottom, left:right])
    above -= np.float32(threshold)
    wide = above @ columns.transposed[left:right, x0:x1]
    for start in range(y0, y1, _BAND):
        stop = min(start + _BAND, y1)
        low, high = rows.first[start], rows.end[stop - 1]
        band = rows.weights[start:stop, low:high] @ wide[low - top : high - top]
        np.greater(band, 0, out=crop[start - y0 : stop - y0])
    return (y0, x0), crop


def _reach(table: AxisTable, start: int, stop: int) -> tuple[int, int]:
    """Return the frame pixels (first, end) with a tap in quarter-scale pixels [start, stop)."""
    first = bisect_right(table.end, start)
    end = bisect_left(table.first, stop)
    return (first, end) if stop > start and first < end else (0, 0)
