"""Candidates: the (cell, class) pairs whose score passes the threshold and points NMS.

Reference: SOLO's released code, ``get_seg_single`` and ``points_nms``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidates", "find_candidates"]

_FEW = 1 / 50  # of all scores: with more candidates than that, comparing whole maps is faster and needs less memory


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Candidates in the reference's order: levels, then cells row-major, then classes.

    Attributes:
        cells: (n,) int64, row of class scores and kernels; one cell may give several candidates.
        labels: (n,) int64, class channel.
        scores: (n,) float32 in [0, 1].
    """

    cells: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


def find_candidates(
    class_scores: NDArray[np.float32], grids: tuple[int, ...], threshold: float, points_nms: bool
) -> Candidates:
    """Return the scores above ``threshold`` (strict) that no neighbour of their class exceeds.

    Points NMS is a 2x2 max pool of stride 1 and padding 1 without its last row and column, on each level's
    (S, S, classes) map: a cell is compared with its left, upper and upper-left neighbour, and a tie survives. Few
    candidates are compared one by one, many as whole maps, which gives the same result as pooling everything.

    Args:
        class_scores: (cells, classes) float32 in [0, 1], before points NMS.
        grids: S per level; their squares sum to the number of cells.
        threshold: lowest score, in [0, 1).
        points_nms: whether to compare with neighbours.
    """
    above = class_scores > threshold
    many = points_nms and np.count_nonzero(above) > _FEW * above.size
    if many:
        _keep_peaks(class_scores, above, grids)
    cells, labels = np.divmod(np.flatnonzero(above), class_scores.shape[1])
    scores = class_scores[cells, labels]
    if points_nms and not many:
        keep = _beats_neighbours(class_scores, cells, labels, scores, grids)
        cells, labels, scores = cells[keep], labels[keep], scores[keep]
    return Candidates(cells, labels, scores)


def _keep_peaks(class_scores: NDArray[np.float32], above: NDArray[np.bool_], grids: tuple[int, ...]) -> None:
    """Clear in ``above`` (cells, classes), in place, what a left, upper or upper-left neighbour exceeds."""
    start = 0
    for side in grids:
        level = class_scores[start : start + side * side].reshape(side, side, -1)
        kept = above[start : start + side * side].reshape(side, side, -1)
        kept[1:] &= level[1:] >= level[:-1]
        kept[:, 1:] &= level[:, 1:] >= level[:, :-1]
        kept[1:, 1:] &= level[1:, 1:] >= level[:-1, :-1]
        start += side * side


def _beats_neighbours(
    class_scores: NDArray[np.float32],
    cells: NDArray[np.int64],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    grids: tuple[int, ...],
) -> NDArray[np.bool_]:
    side = np.array(grids, np.int64)
    start = np.cumsum(side * side) - side * side
    level = np.searchsorted(start, cells, side="right") - 1
    row, column = np.divmod(cells - start[level], side[level])
    up = np.where(row > 0, side[level], 0)  # at the border a cell stands in for its missing neighbour
    left = np.where(column > 0, 1, 0)
    keep = np.ones(len(cells), np.bool_)
    for step in (up, left, up + left):
        keep &= scores >= class_scores[cells - step, labels]
    # At a border up + left is the other neighbour or the cell itself: both are compared anyway.
    return keep
