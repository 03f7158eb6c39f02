"""Binary masks with one bit per pixel: areas, boxes and intersections by counting bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedMasks", "count_bits", "pack"]

_WORD = 64  # bits


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
    areas = count_bits(bits.reshape(count, height * bits.shape[2]))
    boxes[areas == 0] = 0
    return PackedMasks(bits, areas, boxes)


def _any_row(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the OR over axis 1 of (n, k, m) words, (n, m); halving keeps NumPy's inner loops long."""
    while bits.shape[1] > 1:
        half = (bits.shape[1] + 1) // 2
        bits = bits[:, :half] | bits[:, -half:]  # an odd middle row meets itself, which OR does not mind
    return np.ascontiguousarray(bits[:, 0])


if hasattr(np, "bitwise_count"):  # numpy 2

    def count_bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the set bits of each row of (n, k) words, (n,) int64."""
        counts: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.uint32).astype(np.int64)
        return counts

else:
    _ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
        axis=1, dtype=np.uint8
    )

    def count_bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the set bits of each row of (n, k) words, (n,) int64; 16 bits at a time."""
        bytes_of_bits = _ONES[np.ascontiguousarray(words).view(np.uint16)]
        counts: NDArray[np.int64] = bytes_of_bits.sum(axis=1, dtype=np.uint32).astype(np.int64)
        return counts
