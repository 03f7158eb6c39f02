import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solov2_edge.converters.matching import mask_iou, match
from solov2_edge.errors import InputError
from solov2_edge.runtime import Instances

NAMES = ("ant", "bee")


def boxes(*rows, shape=(20, 30)):
    """Instances of filled boxes: (y0, x0, y1, x1, score, label)."""
    masks = np.zeros((len(rows), *shape), bool)
    for mask, (y0, x0, y1, x1, *_) in zip(masks, rows, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances.from_masks(masks, [r[4] for r in rows], np.array([r[5] for r in rows], int), NAMES)


def test_the_best_pair_goes_first():
    reference = boxes((0, 0, 10, 10, 0.9, 0), (0, 2, 10, 12, 0.8, 0))
    result = boxes((0, 2, 10, 12, 0.7, 0), (0, 30, 1, 30, 0.6, 0))
    matching = match(reference, result)
    assert matching.pairs == ((1, 0),)
    assert matching.ious == (1.0,)
    assert matching.score_differences == (pytest.approx(0.1),)
    assert matching.matched(0.5) == ({1}, {0})


def test_labels_must_be_equal():
    assert match(boxes((0, 0, 5, 5, 0.9, 0)), boxes((0, 0, 5, 5, 0.9, 1))).pairs == ()


def test_nothing_matches_nothing():
    empty = Instances.empty(20, 30, NAMES)
    assert match(empty, empty).pairs == ()
    assert match(empty, boxes((0, 0, 5, 5, 0.9, 0))).pairs == ()


def test_empty_masks_match_by_score():
    reference = boxes((0, 0, 0, 0, 0.9, 0), (0, 0, 0, 0, 0.5, 0))
    result = boxes((0, 0, 0, 0, 0.52, 0), (0, 0, 5, 5, 0.4, 0))
    matching = match(reference, result)
    assert matching.pairs == ((1, 0),)
    assert matching.ious == (1.0,)


def test_frames_must_be_of_one_size():
    with pytest.raises(InputError, match="one frame"):
        mask_iou(Instances.empty(20, 30, NAMES), Instances.empty(20, 31, NAMES))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 5))
def test_iou_is_that_of_dense_masks_and_pairs_are_disjoint(seed, n, m):
    rng = np.random.default_rng(seed)

    def some(count):
        masks = np.zeros((count, 9, 11), bool)
        for mask in masks:
            y, x = rng.integers(0, 9), rng.integers(0, 11)
            mask[y : y + 5, x : x + 6] = rng.random((9, 11))[y : y + 5, x : x + 6] > 0.4
        return Instances.from_masks(masks, rng.random(count), rng.integers(0, 2, count), NAMES)

    a, b = some(n), some(m)
    left, right = a.masks.reshape(n, 99).astype(int), b.masks.reshape(m, 99).astype(int)
    common = left @ right.T
    union = left.sum(1)[:, None] + right.sum(1)[None] - common
    np.testing.assert_allclose(mask_iou(a, b), np.where(union > 0, common / np.maximum(union, 1), 1.0))
    matching = match(a, b)
    assert len({i for i, _ in matching.pairs}) == len(matching.pairs) == len({j for _, j in matching.pairs})
    assert list(matching.ious) == sorted(matching.ious, reverse=True)
    assert all(a.labels[i] == b.labels[j] for i, j in matching.pairs)
