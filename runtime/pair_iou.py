"""IoU of mask pairs, exact: by counting bits of each pair, or of a whole class by one matrix product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solov2_edge.runtime.packed_masks import PackedMasks, count_bits

__all__ = ["common_by_product", "common_by_words", "pair_iou", "product_pays", "touching_pairs"]

_PAIRS = 128  # intersected at once: their words stay in the cache
_BYTES = 64 << 20  # a class's masks as float32 may take; beyond it the product is not considered
# Nanoseconds of the two ways, see product_pays; a pair's is what it costs more by words.
_PAIR_NS = 105.0
_WORD_NS = 1.2 if hasattr(np, "bitwise_count") else 7.3  # numpy 1 counts bits by a table
_PRODUCT_NS = 30e3  # for the class as a whole, taking its pairs apart included
_PIXEL_NS = 1.0
_PIXEL_PAIR_NS = 0.0103


def touching_pairs(
    boxes: NDArray[np.int64], labels: NDArray[np.int64], start: int, stop: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (i, j) with start <= i < stop, i < j, equal labels and overlapping boxes; i never falls."""
    y0, y1, x0, x1 = np.ascontiguousarray(boxes.T, np.int32)  # contiguous and narrow: three times as fast
    rank = np.arange(len(boxes), dtype=np.int32)
    rows = slice(start, stop)
    keep = labels[rows, None] == labels[start:]
    keep &= rank[rows, None] < rank[start:]
    keep &= y0[rows, None] < y1[start:]
    keep &= y0[start:] < y1[rows, None]
    keep &= x0[rows, None] < x1[start:]
    keep &= x0[start:] < x1[rows, None]
    first, second = np.divmod(np.flatnonzero(keep), keep.shape[1])
    return first + start, second + start


def pair_iou(
    packed: PackedMasks, labels: NDArray[np.int64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the IoU of the mask pairs (first, second), (k,) float32, the float32 nearest to the true quotient.

    Args:
        packed: n masks.
        labels: (n,) int64; both masks of a pair have the same one.
        first: (k,) int64.
        second: (k,) int64.
    """
    common = np.zeros(len(first), np.int64)
    rest = np.ones(len(first), np.bool_)
    place = np.zeros(len(packed), np.intp)  # of a mask among those of its class
    for label in product_pays(packed, labels, first, second):
        members = np.flatnonzero(labels == label)
        place[members] = np.arange(len(members))
        pairs = np.flatnonzero(labels[first] == label)
        common[pairs] = common_by_product(packed.select(members))[place[first[pairs]], place[second[pairs]]]
        rest[pairs] = False
    common[rest] = common_by_words(packed, first[rest], second[rest])
    union = packed.areas[first] + packed.areas[second] - common
    iou: NDArray[np.float32] = (common / np.maximum(union, 1)).astype(np.float32)
    return iou


def common_by_words(packed: PackedMasks, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the pixels common to the mask pairs (k,), (k,) int64, by counting bits.

    Pairs are taken in the order of the rows they share, so that few rows beside those are looked at.
    """
    words = packed.bits.reshape(len(packed), packed.bits.shape[1] * packed.bits.shape[2])
    per_row = packed.bits.shape[2]
    top, bottom = _shared_rows(packed, first, second)
    # A stable sort of 16 bits is a radix sort; of wider keys it takes ten times as long.
    order = np.argsort((top + bottom).astype(np.uint16), kind="stable")
    first, second, top, bottom = first[order], second[order], top[order], bottom[order]
    common = np.empty(len(first), np.int64)
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        span = slice(top[part].min() * per_row, bottom[part].max() * per_row)
        both = words[first[part], span]
        both &= words[second[part], span]
        common[order[part]] = count_bits(both)
    return common


def common_by_product(packed: PackedMasks) -> NDArray[np.int64]:
    """Return the pixels common to every two of n masks, (n, n) int64, by a float32 product, exact below 2^24 pixels."""
    y0, y1, x0, x1 = _hull(packed.boxes)
    part = packed.bits.view(np.uint8)[:, y0:y1, x0 // 8 : -(-x1 // 8)]
    flat = np.unpackbits(part.reshape(len(packed), -1), axis=1).astype(np.float32)
    common: NDArray[np.int64] = (flat @ flat.T).astype(np.int64)
    return common


def product_pays(
    packed: PackedMasks, labels: NDArray[np.int64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> list[int]:
    """Return the labels whose pairs take less time by :func:`common_by_product` than by :func:`common_by_words`.

    The nanoseconds of both are predicted from the number of pairs and masks and the size of what they cover. 70 scenes
    (10 to 500 masks of one class, all touching, boxes of 8 to 100 pixels, in pictures of 112 x 192 and 112 x 112; one
    thread of an AMD EPYC with AVX-512, NumPy 2.4 and 1.26 with OpenBLAS) gave the constants, which predict their times
    to 6 %. There the product took 1/16 of the time for 500 masks in a spot of 10 x 10 pixels, as much for 100 x 100,
    and 5 times as much for 10 masks of 100 x 100.
    """
    classes, of_mask = np.unique(labels, return_inverse=True)
    of_pair = of_mask[first]
    pairs = np.bincount(of_pair, minlength=len(classes))
    heights = packed.boxes[:, 1] - packed.boxes[:, 0]
    rows = np.bincount(of_pair, weights=heights[first], minlength=len(classes))
    by_words = _PAIR_NS * pairs + _WORD_NS * packed.bits.shape[2] * rows
    found = []
    for index in np.flatnonzero(by_words > _PRODUCT_NS):
        members = of_mask == index
        count = np.count_nonzero(members)
        y0, y1, x0, x1 = _hull(packed.boxes[members])
        pixels = count * (y1 - y0) * 8 * (-(-x1 // 8) - x0 // 8)
        by_product = _PRODUCT_NS + _PIXEL_NS * pixels + _PIXEL_PAIR_NS * pixels * count
        if by_product < by_words[index] and 4 * pixels <= _BYTES:
            found.append(int(classes[index]))
    return found


def _shared_rows(
    packed: PackedMasks, first: NDArray[np.intp], second: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows [top, bottom) that the boxes of each pair share, (k,) int64 each."""
    y0, y1 = packed.boxes[:, 0], packed.boxes[:, 1]
    return np.maximum(y0[first], y0[second]), np.minimum(y1[first], y1[second])


def _hull(boxes: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """Return (y0, y1, x0, x1) around all boxes (n, 4), n >= 1."""
    y0, y1, x0, x1 = boxes.T
    return int(y0.min()), int(y1.max()), int(x0.min()), int(x1.max())
