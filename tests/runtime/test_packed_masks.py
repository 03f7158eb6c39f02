from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.runtime.packed_masks import count_bits, pack


def random_masks(seed: int, count: int, height: int, width: int) -> NDArray[np.bool_]:
    """Rectangles, some of them empty."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(0, height // 2 + 2), x : x + rng.integers(0, width // 2 + 2)] = True
    return masks


@pytest.mark.parametrize("width", [1, 7, 64, 65, 192])
def test_pack_counts_pixels_and_bounds_them(width: int) -> None:
    masks = random_masks(width, 30, 11, width)
    packed = pack(masks)
    np.testing.assert_array_equal(packed.areas, masks.sum((1, 2)))
    for mask, box in zip(masks, packed.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        expected = [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box.tolist() == expected


def test_counting_bits_equals_counting_pixels() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, (5, 9), np.uint64, endpoint=False)
    expected = [sum(int(word).bit_count() for word in row) for row in words]
    assert count_bits(words).tolist() == expected
    assert count_bits(words[:, 2:7]).tolist() == [sum(int(word).bit_count() for word in row[2:7]) for row in words]
