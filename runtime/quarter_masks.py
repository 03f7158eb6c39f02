"""Masks at quarter scale: the dynamic convolution, binary masks, areas and maskness, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solov2_edge.runtime.dynamic_conv import mask_logits
from solov2_edge.runtime.packed_masks import PackedMasks, pack

__all__ = ["CHUNK_BYTES", "QuarterMasks", "chunks", "logit_bound", "mask_logits", "measure_masks", "probabilities"]

CHUNK_BYTES = 48 << 20  # logits held at once: 570 masks of 112 x 192, so that an everyday frame is one chunk
_GROUP = 64  # masks measured at once: their binary form is still in the cache when it is used the third time


@dataclass(frozen=True, slots=True, eq=False)
class QuarterMasks:
    """What decoding needs to know of k masks.

    Attributes:
        packed: the binary masks at quarter scale, their areas and boxes.
        maskness: (k,) float32, mean mask probability over the binary mask (0 for an empty one).
        logits: (k, h, w) float32 where everything fitted into one chunk, else None. In the memory given to
            :func:`measure_masks`, if any.
    """

    packed: PackedMasks
    maskness: NDArray[np.float32]
    logits: NDArray[np.float32] | None


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
    memory: NDArray[np.float32] | None = None,
) -> QuarterMasks:
    """Compute the masks of kernels (k, E) and measure them.

    Args:
        kernels: (k, E) or (k, 9 E) float32, k >= 1, see :func:`solov2_edge.runtime.dynamic_conv.mask_logits`.
        mask_features: (E, h, w) float32.
        threshold: t, mask probability in (0, 1) above which (strict) a pixel belongs to the mask.
        chunk_bytes: bound on the logits in memory.
        memory: (m, h, w) float32, m of at least the first chunk's masks, for the logits; None allocates.
    """
    bound = logit_bound(threshold)
    parts: list[PackedMasks] = []
    maskness: list[NDArray[np.float32]] = []
    slices = list(chunks(len(kernels), mask_features, chunk_bytes))
    for part in slices:
        group = kernels[part]
        logits = mask_logits(group, mask_features, None if memory is None else memory[: len(group)])
        for start in range(0, len(group), _GROUP):
            some = logits[start : start + _GROUP]
            binary = some > bound
            packed = pack(binary)
            parts.append(packed)
            maskness.append(_mean_probability(some[binary], packed.areas))
    together = PackedMasks(
        np.concatenate([p.bits for p in parts]),
        np.concatenate([p.areas for p in parts]),
        np.concatenate([p.boxes for p in parts]),
    )
    return QuarterMasks(together, np.concatenate(maskness), logits if len(slices) == 1 else None)


@lru_cache(maxsize=32)
def logit_bound(threshold: float) -> np.float32:
    """Return the b with ``x > b`` where ``probabilities(x) > threshold``, so that no sigmoid is needed to compare.

    b is the largest float32 whose probability does not exceed the threshold, found by bisection: log(t / (1 - t)) up
    to rounding, and at t = 0.5 about 1e-7, since logits up to there have a sigmoid that rounds to 0.5. The two
    comparisons are the same for every float32 where :func:`probabilities` does not fall around b, as it does not at
    t = 0.5; in all of float32 it falls at 6477 places, by one unit in the last place.
    """
    limit = np.float32(threshold)
    below, above = np.float32(-104), np.float32(104)  # probability 0 and 1
    if not limit < 1:  # a threshold that rounds to 1 is exceeded nowhere
        return np.float32(np.inf)
    while True:
        middle = np.float32((np.float64(below) + np.float64(above)) / 2)
        if middle in (below, above):
            return below
        if probabilities(np.array([middle]))[0] > limit:
            above = middle
        else:
            below = middle


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sigmoid of ``logits``, any shape, float32."""
    result = np.negative(logits)
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        np.exp(result, out=result)
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
