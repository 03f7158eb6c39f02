from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solov2_edge.errors import InputError
from solov2_edge.runtime.masks import CroppedMasks


@settings(deadline=None)
@given(masks=hnp.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9))))
def test_dense_masks_come_back_with_their_areas_and_boxes(masks: Any) -> None:
    cropped = CroppedMasks.from_dense(masks)
    assert len(cropped) == len(masks)
    np.testing.assert_array_equal(cropped.dense(), masks)
    np.testing.assert_array_equal(cropped.areas(), masks.sum((1, 2)))
    boxes = cropped.boxes()
    assert boxes.shape == (len(masks), 4)
    assert boxes.dtype == np.float32
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        inside = np.zeros_like(mask)
        inside[y0:y1, x0:x1] = True
        assert not (mask & ~inside).any()
        if mask.any():
            assert mask[[y0, y1 - 1]].any(axis=1).all()
            assert mask[:, [x0, x1 - 1]].any(axis=0).all()
        else:
            assert [x0, y0, x1, y1] == [0, 0, 0, 0]


def test_boxes_are_tight_where_the_crop_is_not() -> None:
    crop = np.zeros((5, 6), bool)
    crop[1:3, 2:5] = True
    assert CroppedMasks(20, 30, ((10, 20),), (crop,)).boxes().tolist() == [[22, 11, 25, 13]]


def test_select_reorders_and_shares_crops() -> None:
    masks = CroppedMasks.from_dense(np.eye(3, dtype=bool)[:, None])
    chosen = masks.select(np.array([2, 0]))
    np.testing.assert_array_equal(chosen.dense(), masks.dense()[[2, 0]])
    assert chosen.crops[0] is masks.crops[2]


@pytest.mark.parametrize(
    ("height", "corners", "crops", "message"),
    [
        (0, (), (), "at least 1 x 1"),
        (4, ((0, 0),), (), "one corner"),
        (4, ((0, 0),), (np.zeros((2, 2)),), "bool"),
        (4, ((3, 0),), (np.zeros((2, 2), bool),), "inside"),
        (4, ((0, -1),), (np.zeros((2, 2), bool),), "inside"),
    ],
)
def test_impossible_masks_are_refused(
    height: int, corners: tuple[tuple[int, int], ...], crops: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        CroppedMasks(height, 4, corners, crops)


@pytest.mark.parametrize("masks", [np.zeros((2, 2), bool), np.zeros((1, 2, 2), np.float32)])
def test_only_dense_bool_masks_are_cropped(masks: Any) -> None:
    with pytest.raises(InputError, match="bool"):
        CroppedMasks.from_dense(masks)
