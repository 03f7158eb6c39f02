"""Which instances of two results are the same: greedy matching by mask IoU among equal labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.instances import Instances

__all__ = ["Matching", "mask_iou", "match"]


@dataclass(frozen=True, slots=True)
class Matching:
    """Pairs of instances, each instance in at most one.

    Attributes:
        pairs: (index in the reference, index in the result) by falling IoU.
        ious: mask IoU of each pair, in (0, 1].
        score_differences: absolute difference of each pair's scores.
    """

    pairs: tuple[tuple[int, int], ...]
    ious: tuple[float, ...]
    score_differences: tuple[float, ...]

    def matched(self, iou: float) -> tuple[set[int], set[int]]:
        """Return the indices matched at ``iou`` or better: of the reference, of the result."""
        good = [pair for pair, value in zip(self.pairs, self.ious, strict=True) if value >= iou]
        return {reference for reference, _ in good}, {result for _, result in good}


def match(reference: Instances, result: Instances) -> Matching:
    """Pair instances of equal label, the pair of largest mask IoU first.

    Masks without overlap never match; two empty ones do.

    Args:
        reference: instances of a frame.
        result: instances of the same frame.

    Raises:
        InputError: the frames differ in size.
    """
    iou = mask_iou(reference, result)
    same = reference.labels[:, None] == result.labels[None, :]
    iou = np.where(same, iou, 0.0)
    pairs, ious, scores = [], [], []
    free_reference, free_result = np.ones(len(reference), bool), np.ones(len(result), bool)
    apart = np.abs(reference.scores[:, None].astype(np.float64) - result.scores[None, :])
    # Equal masks happen (empty ones above all): those of nearest scores belong together.
    for flat in np.lexsort((apart.ravel(), -iou.ravel())):
        i, j = (int(index) for index in np.unravel_index(flat, iou.shape))
        if iou[i, j] <= 0:
            break
        if free_reference[i] and free_result[j]:
            free_reference[i] = free_result[j] = False
            pairs.append((i, j))
            ious.append(float(iou[i, j]))
            scores.append(float(apart[i, j]))
    return Matching(tuple(pairs), tuple(ious), tuple(scores))


def mask_iou(a: Instances, b: Instances) -> NDArray[np.float64]:
    """Return the (n, m) mask IoU of two results of one frame, from their crops; two empty masks have IoU 1.

    The reference keeps instances whose mask lies in the padding, so empty masks are ordinary.
    """
    require(
        a.frame_shape == b.frame_shape,
        f"both results must be of one frame, got {a.frame_shape} and {b.frame_shape} (H, W)",
    )
    areas_a, areas_b = a.areas, b.areas
    result = np.zeros((len(a), len(b)))
    crops_b = list(zip(b.cropped.corners, b.cropped.crops, strict=True))
    for i, (corner, crop) in enumerate(zip(a.cropped.corners, a.cropped.crops, strict=True)):
        for j, (other_corner, other) in enumerate(crops_b):
            common = _common(corner, crop, other_corner, other)
            union = areas_a[i] + areas_b[j] - common
            result[i, j] = common / union if union else 1.0
    return result


def _common(corner_a: tuple[int, int], a: NDArray[np.bool_], corner_b: tuple[int, int], b: NDArray[np.bool_]) -> int:
    """Return the pixels two crops share."""
    y0, x0 = max(corner_a[0], corner_b[0]), max(corner_a[1], corner_b[1])
    y1 = min(corner_a[0] + a.shape[0], corner_b[0] + b.shape[0])
    x1 = min(corner_a[1] + a.shape[1], corner_b[1] + b.shape[1])
    if y1 <= y0 or x1 <= x0:
        return 0
    part_a = a[y0 - corner_a[0] : y1 - corner_a[0], x0 - corner_a[1] : x1 - corner_a[1]]
    part_b = b[y0 - corner_b[0] : y1 - corner_b[0], x0 - corner_b[1] : x1 - corner_b[1]]
    return int(np.count_nonzero(part_a & part_b))
