"""Masks at quarter scale: the dynamic 1x1 convolution, binary masks, areas and maskness, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solov2_edge.runtime.matrix_nms import PackedMasks, pack

__all__ = ["CHUNK_BYTES", "QuarterMasks", "chunks", "mask_logits", "measure_masks", "probabilities"]

CHUNK_BYTES = 48 << 20  # logits held at once: 570 masks of 112 x 192, so that an everyday frame is one chunk


@dataclass(frozen=True, slots=True, eq=False)
class QuarterMasks:
    """What decoding needs to know of k masks.

    Attributes:
        packed: the binary masks at quarter scale, their areas and boxes.
        maskness: (k,) float32, mean mask probability over the binary mask (0 for an empty one).
        logits: (k, h, w) float32 where everything fitted into one chunk, else None.
    """

    packed: PackedMasks
    maskness: NDArray[np.float32]
    logits: NDArray[np.float32] | None


def mask_logits(kernels: NDArray[np.float32], mask_features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (k, h, w) mask logits of kernels (k, E) over mask features (E, h, w)."""
    channels, height, width = mask_features.shape
    with np.errstate(over="ignore", invalid="ignore"):  # absurd but finite inputs saturate
        flat = kernels @ mask_features.reshape(channels, height * width)
    return flat.reshape(len(kernels), height, width)


def chunks(count: int, mask_features: NDArray[np.float32], chunk_bytes: int) -> Iterator[slice]:
    """Yield slices of ``count`` masks whose logits fit into ``chunk_bytes``; at least one mask each."""
    pixels = mask_features.shape[1] * mask_features.shape[2]
    step = max(1, chunk_bytes // max(1, 4 * pixels))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def measure_masks(
    kernels: NDArray[np.float32],
    mask_features: NDArray[np.float32],
    threshold: float,
    chunk_bytes: int = CHUNK_BYTES,
) -> QuarterMasks:
    """Compute the masks of kernels (k, E) and measure them.

    A logit is compared with log(t / (1 - t)), 0 for t = 0.5, which is the same as comparing its sigmoid with t but for
    logits within float32 rounding (1.2e-7 at t = 0.5) of the bound. Exactly zero stays background in both.

    Args:
        kernels: (k, E) float32, k >= 1.
        mask_features: (E, h, w) float32.
        threshold: t, mask probability in (0, 1) above which (strict) a pixel belongs to the mask.
        chunk_bytes: bound on the logits in memory.
    """
    bound = np.float32(math.log(threshold / (1 - threshold)))
    parts: list[PackedMasks] = []
    maskness: list[NDArray[np.float32]] = []
    logits = None
    for part in chunks(len(kernels), mask_features, chunk_bytes):
        logits = mask_logits(kernels[part], mask_features)
        binary = logits > bound
        packed = pack(binary)
        parts.append(packed)
        maskness.append(_mean_probability(logits[binary], packed.areas))
    if len(parts) == 1:
        return QuarterMasks(parts[0], maskness[0], logits)
    together = PackedMasks(
        np.concatenate([p.bits for p in parts]),
        np.concatenate([p.areas for p in parts]),
        np.concatenate([p.boxes for p in parts]),
    )
    return QuarterMasks(together, np.concatenate(maskness), None)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sigmoid of ``logits``, any shape, float32."""
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        result = np.exp(-logits)
    result += 1
    return np.reciprocal(result, out=result)


def _mean_probability(logits: NDArray[np.float32], areas: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean sigmoid of consecutive runs of ``areas`` logits, (k,) float32; 0 for an empty run."""
    means = np.zeros(len(areas), np.float32)
    filled = np.flatnonzero(areas)
    if len(filled):
        starts = (np.cumsum(areas) - areas)[filled]
        sums = np.add.reduceat(probabilities(logits), starts, dtype=np.float64)
        means[filled] = sums / areas[filled]
    return means
