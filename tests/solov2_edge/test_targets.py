"""Cells that learn an object: levels, centre cells, the centre region, overlaps, truncation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solov2_edge.targets import assign_targets
from solov2_edge.variants import variant

SPEC = variant("light-448-r18", ("a", "b"))
FIRST = {0: 0, 1: 1600, 2: 1600 + 1296, 3: 1600 + 1296 + 576, 4: 1600 + 1296 + 576 + 256}


def _assign(boxes: list[list[float]], labels: list[int] | None = None, centres: list[list[float]] | None = None):
    b = np.array(boxes, np.float32).reshape(-1, 4)
    c = (b[:, :2] + b[:, 2:]) / 2 if centres is None else np.array(centres, np.float32).reshape(-1, 2)
    names = np.array(labels if labels is not None else [0] * len(b), np.int64)
    return assign_targets(b, names, c.astype(np.float32), (448, 448), SPEC)


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        (20, {0}),  # 1..56 only
        (28, {0, 1}),  # the lower end of 28..112 is inclusive
        (56, {0, 1, 2}),  # the upper end of 1..56 is inclusive
        (57, {1, 2}),
        (230, {3, 4}),
        (448, {3, 4}),
    ],
)
def test_an_object_trains_on_every_level_whose_range_holds_its_size(size: float, levels: set[int]) -> None:
    start = (448 - size) / 2
    cells = _assign([[start, start, start + size, start + size]]).cells
    ends = {level: first + SPEC.grids[level] ** 2 for level, first in FIRST.items()}
    got = {level for level, first in FIRST.items() if ((cells >= first) & (cells < ends[level])).any()}
    assert got == levels


def test_a_small_object_trains_in_the_cell_of_its_centre() -> None:
    targets = _assign([[100, 200, 110, 210]], labels=[1])  # centre (105, 205); cells are 11.2 pixels
    row, column = 18, 9
    assert targets.cells.tolist() == [row * 40 + column]
    assert targets.objects.tolist() == [0]
    assert targets.class_map[row * 40 + column] == 1
    assert (targets.class_map == 2).sum() == 3871  # the rest is background


def test_the_centre_region_is_at_most_three_by_three_cells() -> None:
    wide = _assign([[0, 200, 448, 207]])  # size 56: levels 0..2; 0.2 of the width spans 8 cells of level 0
    level0 = wide.cells[wide.cells < 1600]
    assert (level0 // 40).tolist() == [18] * 3
    assert (level0 % 40).tolist() == [19, 20, 21]


def test_the_centre_of_mass_decides_not_the_centre_of_the_box() -> None:
    targets = _assign([[100, 100, 120, 120]], centres=[[118, 104]])
    assert targets.cells[0] == (104 * 40 // 448) * 40 + 118 * 40 // 448


def test_later_objects_take_the_class_and_both_keep_their_masks() -> None:
    targets = _assign([[100, 100, 110, 110], [101, 101, 111, 111]], labels=[0, 1])
    assert targets.cells[0] == targets.cells[1]
    assert targets.objects.tolist() == [0, 1]
    assert targets.class_map[targets.cells[0]] == 1


def test_a_centre_on_a_grid_line_belongs_to_the_cell_after_it() -> None:
    # 0.5 / (1 / 12) is 6 in float32 once truncated; a floored division says 5.
    spec = replace(SPEC, scale_ranges=((1, 2), (1, 2), (1, 2), (1, 2), (1, 896)))
    box, centre = np.array([[174, 174, 274, 274]], np.float32), np.array([[224, 224]], np.float32)
    cells = assign_targets(box, np.zeros(1, np.int64), centre, (448, 448), spec).cells - FIRST[4]
    assert 6 * 12 + 6 in cells
    assert cells.min() == 5 * 12 + 5  # the region reaches one cell up and left: 214 / 37.3 = 5.7


def test_cells_stay_inside_the_grid() -> None:
    targets = _assign([[436, 436, 448, 448]], centres=[[447.9, 447.9]])
    assert targets.cells.tolist() == [39 * 40 + 39]


@pytest.mark.parametrize("centres", [[[np.nan, np.nan]], None])
def test_empty_masks_and_empty_pictures_teach_background(centres: list[list[float]] | None) -> None:
    targets = _assign([[1, 1, 9, 9]] if centres else [], centres=centres)
    assert len(targets.cells) == 0
    assert (targets.class_map == 2).all()
