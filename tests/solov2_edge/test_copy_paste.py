"""Pasting objects: what is in front, what is hidden, what is dropped, whatever the two sizes."""

from __future__ import annotations

import numpy as np
import pytest

from solov2_edge.copy_paste import Scene, paste_objects


def _scene(height: int, width: int, value: int, boxes: list[tuple[int, int, int, int]], label: int = 0) -> Scene:
    masks = np.zeros((len(boxes), height, width), np.uint8)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return Scene(np.full((height, width, 3), value, np.uint8), masks, (label,) * len(boxes))


class _All(np.random.Generator):
    """Takes every object."""

    def random(self, *_args: object, **_kwargs: object) -> np.ndarray:  # type: ignore[override]
        return np.zeros(64)[: _args[0] if _args else 1]  # type: ignore[misc]


def _rng(seed: int = 0) -> np.random.Generator:
    return _All(np.random.PCG64(seed))


def test_what_is_pasted_lies_in_front() -> None:
    below = _scene(10, 12, 50, [(0, 0, 6, 6), (8, 8, 10, 12)])
    above = _scene(10, 12, 200, [(3, 3, 9, 9)], label=1)
    got = paste_objects(below, above, _rng())
    assert got.labels == (0, 0, 1)
    np.testing.assert_array_equal(got.masks[2], above.masks[0])
    np.testing.assert_array_equal(got.masks[0], below.masks[0] * (1 - above.masks[0]))
    assert (got.picture[above.masks[0] > 0] == 200).all()
    assert (got.picture[above.masks[0] == 0] == 50).all()
    assert (below.picture == 50).all(), "the scene itself stays as it was"


def test_an_object_that_is_hidden_wholly_is_dropped() -> None:
    got = paste_objects(_scene(8, 8, 1, [(2, 2, 4, 4), (6, 6, 8, 8)]), _scene(8, 8, 2, [(1, 1, 5, 5)], 3), _rng())
    assert got.labels == (0, 3)
    assert got.masks.sum(axis=(1, 2)).tolist() == [4, 16]


@pytest.mark.parametrize("size", [(6, 20), (20, 6), (5, 5), (30, 40)])
@pytest.mark.parametrize("seed", range(5))
def test_sources_of_any_size(size: tuple[int, int], seed: int) -> None:
    height, width = size
    source = _scene(height, width, 9, [(0, 0, height, width)], 1)
    got = paste_objects(_scene(12, 14, 1, [(0, 0, 1, 1)]), source, _rng(seed))
    pasted = got.masks[-1]
    assert got.picture.shape == (12, 14, 3)
    assert pasted.sum() == min(height, 12) * min(width, 14)
    np.testing.assert_array_equal(got.picture[..., 0] == 9, pasted > 0)


def test_masks_never_overlap_and_labels_stay_theirs() -> None:
    rng = np.random.default_rng(4)
    below = _scene(16, 16, 1, [(0, 0, 8, 8), (8, 8, 16, 16)], 5)
    above = _scene(16, 16, 2, [(4, 4, 7, 12), (8, 0, 12, 16), (13, 13, 15, 15)], 6)
    sizes = set()
    for _ in range(20):
        got = paste_objects(below, above, rng)
        assert got.masks.sum(axis=0).max() <= 1
        assert len(got.labels) == len(got.masks)
        assert [label for label in got.labels if label == 5] == [5, 5]
        sizes.add(len(got.labels))
    assert sizes > {2, 5}, "nothing, some and everything were taken"
