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


def by_doubling(mask: Mask) -> list[NDArray[np.int64]]:
    """The outline another way: on the doubled mask a contour's vertices say on which half of their pixel they lie."""
    doubled = np.kron(mask, np.ones((2, 2), bool)).astype(np.uint8)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in contours:
        points = (np.asarray(contour, np.int64).reshape(-1, 2) + 1) // 2
        points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
        ahead = np.roll(points, -1, axis=0) - points
        parts.append(points[(ahead != np.roll(ahead, 1, axis=0)).any(axis=1)])
    return parts


@settings(deadline=None, max_examples=300)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]),
)
def test_every_corner_is_there_in_order(size: tuple[int, int], seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(size) < share
    parts, expected = outline(mask, 4, 9), by_doubling(mask)
    assert len(parts) == len(expected)
    for part, points in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(part, points + np.array((9, 4)))


def test_pixels_that_touch_at_corners_are_one_part() -> None:
    (part,) = outline(np.eye(3, dtype=bool), 0, 0)
    assert len(part) == 12
    assert area(part) == 3


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
