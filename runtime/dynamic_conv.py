"""The dynamic convolution: kernels over mask features, 1x1 as in the paper or 3x3 (its Table 3a).

Where every level has mask features of its own, they follow one another in the channels, and a kernel is 0 outside its
level's. So one product serves both kinds of mask features.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solov2_edge.spec import ModelSpec

__all__ = ["level_kernels", "mask_logits"]


def level_kernels(kernels: NDArray[np.float32], cells: NDArray[np.int64], spec: ModelSpec) -> NDArray[np.float32]:
    """Return kernels that reach over all channels of the mask features.

    Args:
        kernels: (k, L) float32, L the spec's ``kernel_length``.
        cells: (k,) int64, the cell each belongs to.
        spec: grids and kind of mask features.

    Returns:
        The kernels themselves for unified mask features; for separate ones (k, levels * L), 0 but for the cell's level.
    """
    if spec.mask_features == "unified":
        return kernels
    levels = len(spec.grids)
    placed = np.zeros((len(kernels), levels, kernels.shape[1]), np.float32)
    placed[np.arange(len(kernels)), _cell_levels(spec.grids)[cells]] = kernels
    return placed.reshape(len(kernels), -1)


def mask_logits(
    kernels: NDArray[np.float32], mask_features: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return (k, h, w) mask logits of kernels over mask features (C, h, w), written to ``out`` if given.

    Args:
        kernels: (k, C) float32, or (k, 9 C) for 3x3 kernels: channels, then rows, then columns; zeros around the map.
        mask_features: (C, h, w) float32.
        out: (k, h, w) float32 that is overwritten and returned.
    """
    channels, height, width = mask_features.shape
    flat = mask_features.reshape(channels, height * width)
    result = np.empty((len(kernels), height, width), np.float32) if out is None else out
    with np.errstate(over="ignore", invalid="ignore"):  # absurd but finite inputs saturate
        if kernels.shape[1] == channels:
            np.matmul(kernels, flat, out=result.reshape(len(kernels), height * width))
            return result
        # Tap by tap: the features are never copied nine times over, which at E = 256 would take 600 MB.
        taps = kernels.reshape(len(kernels), channels, 3, 3)
        result[:] = 0
        for row in range(3):
            for column in range(3):
                part = (np.ascontiguousarray(taps[:, :, row, column]) @ flat).reshape(result.shape)
                target_y, source_y = _shifted(row - 1)
                target_x, source_x = _shifted(column - 1)
                result[:, target_y, target_x] += part[:, source_y, source_x]
    return result


def _shifted(step: int) -> tuple[slice, slice]:
    """Return which pixels of an axis have a neighbour ``step`` further on, and those neighbours."""
    return slice(max(0, -step), -step if step > 0 else None), slice(max(0, step), step if step < 0 else None)


@lru_cache(maxsize=8)
def _cell_levels(grids: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the level of each cell, (cells,) int64."""
    return np.repeat(np.arange(len(grids)), np.square(grids))
