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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["NMS_KERNELS", "PackedMasks", "matrix_nms", "pack"]

NMS_KERNELS = ("gaussian", "linear")
_WORD = 64  # bits
_BLOCK = 1 << 20  # pairs looked at together: bounds memory at about 40 MiB, whatever the number of masks


@dataclass(frozen=True, slots=True, eq=False)
class PackedMasks:
    """Binary masks with one bit per pixel, and what comes cheaply with them.

    Attributes:
        bits: (n, h, ceil(w / 64)) uint64; order of the bits inside a row is of no concern.
        areas: (n,) int64, foreground pixels.
        boxes: (n, 4) int64, (y0, y1, x0, x1), ends exclusive; zeros for an empty mask.
    """

    bits: NDArray[np.uint64]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.areas)

    def select(self, indices: NDArray[np.intp]) -> PackedMasks:
        """Return the masks at ``indices`` (k,), in that order."""
        return PackedMasks(self.bits[indices], self.areas[indices], self.boxes[indices])


def pack(masks: NDArray[np.bool_]) -> PackedMasks:
    """Pack masks (n, h, w) bool."""
    count, height, width = masks.shape
    row_bytes = np.packbits(masks, axis=2)
    spare = -row_bytes.shape[2] % (_WORD // 8)
    if spare:
        row_bytes = np.pad(row_bytes, ((0, 0), (0, 0), (0, spare)))
    bits = row_bytes.view(np.uint64)
    boxes = np.zeros((count, 4), np.int64)
    if height and width:
        rows = _any_row(bits.transpose(0, 2, 1)) != 0
        columns = np.unpackbits(_any_row(bits).view(np.uint8), axis=1)[:, :width].view(np.bool_)
        boxes[:, 0], boxes[:, 1] = rows.argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)
        boxes[:, 2], boxes[:, 3] = columns.argmax(axis=1), width - columns[:, ::-1].argmax(axis=1)
    areas = _count_bits(bits.reshape(count, height * bits.shape[2]))
    boxes[areas == 0] = 0
    return PackedMasks(bits, areas, boxes)


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
    decay = np.ones(count, np.float32)
    rows = max(1, _BLOCK // max(1, count))
    for start in range(0, count, rows):
        first, second = _touching_pairs(packed.boxes, labels, start, min(start + rows, count))
        iou = _pair_iou(packed, first, second)
        # All pairs (k, i) with k < i lie in this block or an earlier one, so comp is final for the rows used below.
        np.maximum.at(overlap, second, iou)
        if kernel == "gaussian":
            ratio = np.exp(np.float32(-sigma) * (iou * iou - overlap[first] * overlap[first]))
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = (1 - iou) / (1 - overlap[first])
            ratio[iou == 1] = 0
        np.minimum.at(decay, second, ratio)
    return np.asarray(scores * decay, np.float32)


def _touching_pairs(
    boxes: NDArray[np.int64], labels: NDArray[np.int64], start: int, stop: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (i, j) with start <= i < stop, i < j, equal labels and overlapping boxes; i never falls."""
    y0, y1, x0, x1 = np.ascontiguousarray(boxes.T, np.int32)  # contiguous and narrow: three times as fast
    rows = slice(start, stop)
    keep = labels[rows, None] == labels[start:]
    keep &= y0[rows, None] < y1[start:]
    keep &= y0[start:] < y1[rows, None]
    keep &= x0[rows, None] < x1[start:]
    keep &= x0[start:] < x1[rows, None]
    first, second = np.divmod(np.flatnonzero(keep), keep.shape[1])
    upper = first < second
    return first[upper] + start, second[upper] + start


def _pair_iou(packed: PackedMasks, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the IoU of mask pairs (k,), ``first`` never falling; counted over the rows of the first mask only."""
    words = packed.bits.reshape(len(packed), -1)
    per_row = packed.bits.shape[2]
    common = np.zeros(len(first), np.int64)
    for i, begin, size in zip(*np.unique(first, return_index=True, return_counts=True), strict=True):
        run = slice(begin, begin + size)
        span = slice(packed.boxes[i, 0] * per_row, packed.boxes[i, 1] * per_row)
        common[run] = _count_bits(words[second[run], span] & words[i, span])
    union = packed.areas[first] + packed.areas[second] - common
    iou: NDArray[np.float32] = (common / np.maximum(union, 1)).astype(np.float32)
    return iou


def _any_row(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the OR over axis 1 of (n, k, m) words, (n, m); halving keeps NumPy's inner loops long."""
    while bits.shape[1] > 1:
        half = (bits.shape[1] + 1) // 2
        bits = bits[:, :half] | bits[:, -half:]  # an odd middle row meets itself, which OR does not mind
    return np.ascontiguousarray(bits[:, 0])


if hasattr(np, "bitwise_count"):  # numpy 2

    def _count_bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the set bits of each row of (n, k) words, (n,) int64."""
        counts: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.uint32).astype(np.int64)
        return counts

else:
    _ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
        axis=1, dtype=np.uint8
    )

    def _count_bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the set bits of each row of (n, k) words, (n,) int64; 16 bits at a time."""
        bytes_of_bits = _ONES[np.ascontiguousarray(words).view(np.uint16)]
        counts: NDArray[np.int64] = bytes_of_bits.sum(axis=1, dtype=np.uint32).astype(np.int64)
        return counts
