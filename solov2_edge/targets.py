"""Which grid cells learn which objects (paper section 3.2 and the authors' code, restated as arithmetic).

Every object trains on each level whose scale range holds its size, in the cells around its centre of mass. The
division that finds a cell is truncated in float32, as the authors' PyTorch did and mmdetection asks for: on a
grid line, ``a // b`` of a newer PyTorch answers one cell less.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solov2_edge.spec import ModelSpec

__all__ = ["Targets", "assign_targets"]

CENTRE_REGION = 0.2  # sigma: share of the box side that counts as centre (paper section 3.2, from SOLO)


class Targets(NamedTuple):
    """Targets of one picture.

    Attributes:
        class_map: (cells,) int64, the class of each cell, ``num_classes`` for background.
        cells: (pairs,) int64, row of the cell that learns a mask; a cell may occur twice.
        objects: (pairs,) int64, the object whose mask it learns.
    """

    class_map: NDArray[np.int64]
    cells: NDArray[np.int64]
    objects: NDArray[np.int64]


def assign_targets(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    centres: NDArray[np.float32],
    input_size: tuple[int, int],
    spec: ModelSpec,
) -> Targets:
    """Assign the objects of one picture to grid cells.

    Args:
        boxes: (n, 4) float32 xyxy in resized-input pixels, the annotation's box scaled (x2 = x1 + width).
        labels: (n,) int64 class channel.
        centres: (n, 2) float32 (x, y), mean pixel index of each mask at input resolution, without half-pixel shift;
            NaN (an empty mask) skips the object.
        input_size: (H, W) of the padded network input in pixels, four times the mask features.
        spec: grids, scale ranges and class count.

    Returns:
        Targets; later objects overwrite earlier ones in the class map, while both keep their mask targets.
    """
    class_map = np.full(spec.num_cells, spec.num_classes, np.int64)
    cells: list[NDArray[np.int64]] = []
    objects: list[NDArray[np.int64]] = []
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float32)
    sizes = np.sqrt(sides[:, 0] * sides[:, 1])
    extent = np.array([input_size[1], input_size[0]], np.float32)  # (W, H), as centres are (x, y)
    first = 0
    for grid, (low, high) in zip(spec.grids, spec.scale_ranges, strict=True):
        # A size of exactly `low` or `high` belongs to the level.
        on_level = (sizes >= low) & (sizes <= high) & np.isfinite(centres).all(axis=1)
        step = np.float32(1.0 / grid)
        for index in np.flatnonzero(on_level):
            centre, half = centres[index], np.float32(0.5) * sides[index] * np.float32(CENTRE_REGION)
            cell = np.trunc(centre / extent / step)
            start = np.maximum(np.maximum(np.trunc((centre - half) / extent / step), 0), cell - 1).astype(int)
            stop = np.minimum(np.minimum(np.trunc((centre + half) / extent / step), grid - 1), cell + 1).astype(int)
            xs, ys = np.arange(start[0], stop[0] + 1), np.arange(start[1], stop[1] + 1)
            rows = first + (ys[:, None] * grid + xs[None, :]).reshape(-1)
            class_map[rows] = labels[index]
            cells.append(rows.astype(np.int64))
            objects.append(np.full(len(rows), index, np.int64))
        first += grid * grid
    if not cells:
        none = np.zeros(0, np.int64)
        return Targets(class_map, none, none)
    return Targets(class_map, np.concatenate(cells), np.concatenate(objects))
