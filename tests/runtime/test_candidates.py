from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from solov2_edge.runtime.candidates import find_candidates


def pooled(scores: NDArray[np.float32], grids: tuple[int, ...]) -> NDArray[np.float32]:
    """Points NMS by its definition: a score stays where no left, upper or upper-left neighbour exceeds it."""
    result, start = np.zeros_like(scores), 0
    for grid in grids:
        level = scores[start : start + grid * grid].reshape(grid, grid, -1)
        for y in range(grid):
            for x in range(grid):
                window = level[max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1].max(axis=(0, 1))
                result[start + y * grid + x] = np.where(level[y, x] == window, level[y, x], 0)
        start += grid * grid
    return result


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    decimals=st.sampled_from([1, 6]),
    threshold=st.sampled_from([0.3, 0.95, 0.99]),  # many candidates, and few
    points_nms=st.booleans(),
)
def test_equals_pooling_every_level(seed: int, decimals: int, threshold: float, points_nms: bool) -> None:
    grids = (5, 3, 3, 2, 1)
    scores = np.random.default_rng(seed).random((48, 4)).round(decimals).astype(np.float32)
    expected = np.argwhere((pooled(scores, grids) if points_nms else scores) > threshold)
    found = find_candidates(scores, grids, threshold, points_nms)
    np.testing.assert_array_equal(np.stack([found.cells, found.labels], axis=1), expected)
    np.testing.assert_array_equal(found.scores, scores[tuple(expected.T)])


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ([[0.5, 0.4], [0.4, 0.3]], [0]),  # left, up and upper-left suppress
        ([[0.3, 0.4], [0.4, 0.5]], [0, 1, 2, 3]),  # right and lower neighbours do not
        ([[0.5, 0.5], [0.5, 0.5]], [0, 1, 2, 3]),  # ties survive
        ([[0.2, 0.5], [0.4, 0.3]], [0, 1, 2]),  # the upper right neighbour does not suppress
    ],
)
def test_only_left_and_upper_neighbours_suppress(level: list[list[float]], kept: list[int]) -> None:
    scores = np.array(level, np.float32).reshape(4, 1)
    assert find_candidates(scores, (2,), 0.1, True).cells.tolist() == kept


def test_other_classes_and_other_levels_do_not_suppress() -> None:
    scores = np.array([[0.9, 0.2], [0.2, 0.8]], np.float32)
    assert len(find_candidates(scores, (1, 1), 0.1, True)) == 4
