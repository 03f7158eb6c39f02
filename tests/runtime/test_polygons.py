from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.polygons import outline

Mask = NDArray[np.bool_]


def area(polygon: NDArray[np.float32]) -> float:
    x, y = polygon.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def filled(mask: Mask) -> Mask:
    """The mask with its holes filled: what a flood of the background from outside does not reach."""
    padded = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, parts = cv2.connectedComponents(padded, connectivity=4)
    return np.asarray((parts != parts[0, 0])[1:-1, 1:-1])


@settings(deadline=None)
@given(mask=hnp.arrays(np.bool_, st.tuples(st.integers(1, 10), st.integers(1, 10))))
def test_area_is_the_mask_with_its_holes_filled(mask: Mask) -> None:
    parts = outline(mask, 0, 0)
    assert sum(area(part) for part in parts) == np.count_nonzero(filled(mask))
    for part in parts:
        assert part.dtype == np.float32
        assert len(part) >= 4
        steps = part - np.roll(part, 1, axis=0)
        assert ((steps != 0).sum(axis=1) == 1).all()  # along pixel edges, no repeated vertex


def test_one_pixel_is_its_unit_square() -> None:
    (part,) = outline(np.ones((1, 1), bool), 5, 7)
    assert sorted(map(tuple, part.tolist())) == [(7, 5), (7, 6), (8, 5), (8, 6)]


def test_an_l_has_six_corners() -> None:
    (part,) = outline(np.array([[1, 0], [1, 1]], bool), 0, 0)
    assert sorted(map(tuple, part.tolist())) == [(0, 0), (0, 2), (1, 0), (1, 1), (2, 1), (2, 2)]


def test_parts_come_apart_and_empty_masks_have_none() -> None:
    assert len(outline(np.array([[1, 0, 1]], bool), 0, 0)) == 2
    assert outline(np.zeros((3, 3), bool), 0, 0) == []
    assert outline(np.zeros((0, 0), bool), 0, 0) == []


def test_tolerance_simplifies_within_its_bound() -> None:
    y, x = np.mgrid[:120, :120]
    disc = (y - 60) ** 2 + (x - 60) ** 2 < 50**2
    (exact,), (simple,) = outline(disc, 0, 0), outline(disc, 0, 0, tolerance=1.5)
    assert len(simple) < len(exact) / 4
    canvas = np.zeros((480, 480), np.uint8)
    cv2.fillPoly(canvas, [(simple * 4).astype(np.int32)], 1)
    redrawn = canvas[2::4, 2::4] > 0
    assert np.count_nonzero(redrawn & disc) / np.count_nonzero(redrawn | disc) > 0.96


def test_a_part_too_small_to_simplify_stays_exact() -> None:
    (part,) = outline(np.ones((1, 1), bool), 0, 0, tolerance=10)
    assert area(part) == 1


def test_negative_tolerance_is_refused() -> None:
    with pytest.raises(InputError, match="tolerance"):
        outline(np.ones((1, 1), bool), 0, 0, tolerance=-1)
