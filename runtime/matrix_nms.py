"""Matrix NMS on bit-packed masks, exact.

SOLO code, not the paper's text: the paper writes exp(-iou^2 / sigma), every released implementation computes
exp(-sigma * iou^2) with sigma = 2.0, and only masks of one class decay each other.

With I[i, j] the IoU of masks i < j of one class (0 otherwise, masks by falling score) and comp_i = max_k I[k, i],
the decay of mask j is the minimum over *all* rows i of f(I[i, j]) / f(comp_i). A row with I[i, j] = 0 gives
1 / f(comp_i) >= 1, and row 0, whose comp is 0, gives at most 1: so only pairs that overlap need be looked at, starting
from 1, and the result is the same.

Linear decay of an exact duplicate: its own first copy gives it 0; the rows of further copies would give 0 / 0, which
is taken as 0. (The reference gets NaN there, and NaN >= keep_threshold is False: the duplicate vanishes either way.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.runtime.packed_masks import PackedMasks, pack
from solov2_edge.runtime.pair_iou import pair_iou, touching_pairs

__all__ = ["NMS_KERNELS", "PackedMasks", "matrix_nms", "pack"]

NMS_KERNELS = ("gaussian", "linear")
_BLOCK = 1 << 20  # pairs looked at together: bounds memory at about 40 MiB, whatever the number of masks


def matrix_nms(
    masks: PackedMasks | NDArray[np.bool_],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    kernel: str = "gaussian",
    sigma: float = 2.0,
) -> NDArray[np.float32]:
    """Return the decayed scores; nothing is removed and the order stays.

    Args:
        masks: packed, or (n, h, w) bool; at quarter scale in the reference.
        scores: (n,) float32, falling.
        labels: (n,) int64; masks of different labels leave each other alone.
        kernel: ``"gaussian"``: f(x) = exp(-sigma * x^2); ``"linear"``: f(x) = 1 - x.
        sigma: of the Gaussian kernel; unused by the linear one.

    Returns:
        (n,) float32, ``scores`` times a decay in [0, 1].

    Raises:
        InputError: unknown kernel, or lengths that differ.
    """
    require(kernel in NMS_KERNELS, f"nms_kernel must be one of {', '.join(NMS_KERNELS)}, got {kernel!r}")
    packed = masks if isinstance(masks, PackedMasks) else pack(masks)
    count = len(packed)
    require(
        len(scores) == count and len(labels) == count,
        f"every mask needs one score and one label, got {count} masks, {len(scores)} scores, {len(labels)} labels",
    )
    overlap = np.zeros(count, np.float32)  # comp: largest IoU with a mask of higher score
    excess = np.zeros(count, np.float32)  # Gaussian: the largest iou^2 - comp^2, whose decay is the smallest
    ratio = np.ones(count, np.float32)  # linear: the smallest (1 - iou) / (1 - comp)
    rows = max(1, _BLOCK // max(1, count))
    for start in range(0, count, rows):
        first, second = touching_pairs(packed.boxes, labels, start, min(start + rows, count))
        iou = pair_iou(packed, labels, first, second)
        # All pairs (k, i) with k < i lie in this block or an earlier one, so comp is final for the rows used below.
        np.maximum.at(overlap, second, iou)
        if kernel == "gaussian":
            np.maximum.at(excess, second, iou * iou - (overlap * overlap)[first])
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                kept = (1 - iou) / (1 - overlap[first])
            kept[iou == 1] = 0
            np.minimum.at(ratio, second, kept)
    decay = np.exp(np.float32(-sigma) * excess) if kernel == "gaussian" else ratio
    return np.asarray(scores * decay, np.float32)
