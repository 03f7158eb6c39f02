from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime import matrix_nms as module
from solov2_edge.runtime.matrix_nms import matrix_nms

Mask = NDArray[np.bool_]


def dense_decay(masks: Mask, labels: NDArray[np.int64], kernel: str, sigma: float) -> NDArray[np.float64]:
    """The definition, over all rows of the full matrix; 0 / 0 counts as 0."""
    count = len(masks)
    iou = np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1, count):
            if labels[i] == labels[j]:
                union = np.count_nonzero(masks[i] | masks[j])
                iou[i, j] = np.count_nonzero(masks[i] & masks[j]) / union if union else 0
    largest = iou.max(axis=0, initial=0)
    if kernel == "gaussian":
        ratio = np.exp(-sigma * iou**2) / np.exp(-sigma * largest[:, None] ** 2)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nan_to_num((1 - iou) / (1 - largest[:, None]), nan=0, posinf=np.inf)
    return np.asarray(ratio.min(axis=0, initial=1))


def random_masks(seed: int, count: int, height: int, width: int) -> Mask:
    """Rectangles, so that many overlap, some coincide and some are empty."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(0, height // 2 + 2), x : x + rng.integers(0, width // 2 + 2)] = True
    return masks


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 25),
    size=st.tuples(st.integers(1, 9), st.sampled_from([1, 8, 63, 64, 65, 130])),
    classes=st.integers(1, 3),
    kernel=st.sampled_from(["gaussian", "linear"]),
    sigma=st.sampled_from([0.5, 2.0]),
    block=st.sampled_from([1, 40, 1 << 20]),
)
def test_equals_the_dense_definition(
    seed: int, count: int, size: tuple[int, int], classes: int, kernel: str, sigma: float, block: int
) -> None:
    masks = random_masks(seed, count, *size)
    labels = np.random.default_rng(seed).integers(0, classes, count)
    scores = np.linspace(0.9, 0.2, count, dtype=np.float32)
    whole, module._BLOCK = module._BLOCK, block
    try:
        decayed = matrix_nms(masks, scores, labels, kernel=kernel, sigma=sigma)
    finally:
        module._BLOCK = whole
    np.testing.assert_allclose(decayed, scores * dense_decay(masks, labels, kernel, sigma), atol=2e-6)
    assert decayed.dtype == np.float32
    assert (decayed <= scores).all()


@pytest.mark.parametrize(("kernel", "third"), [("gaussian", np.exp(-2.0)), ("linear", 0.0)])
def test_three_copies_of_one_mask(kernel: str, third: float) -> None:
    masks = np.ones((3, 4, 4), bool)
    decayed = matrix_nms(masks, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64), kernel=kernel)
    np.testing.assert_allclose(decayed, [0.9, 0.8 * third, 0.7 * third], rtol=1e-6)


def test_a_decayed_mask_decays_others_less() -> None:
    # B lies half in A; C coincides with B's other half: B, itself decayed, is compensated by comp.
    masks = np.zeros((3, 1, 6), bool)
    masks[0, 0, 0:3] = masks[1, 0, 1:5] = masks[2, 0, 3:6] = True
    decayed = matrix_nms(masks, np.ones(3, np.float32), np.zeros(3, np.int64))
    first, second = 2 / 5, 2 / 5
    np.testing.assert_allclose(decayed, [1, np.exp(-2 * first**2), np.exp(-2 * (second**2 - first**2))], rtol=1e-6)


def test_other_classes_leave_each_other_alone() -> None:
    scores = np.array([0.9, 0.9], np.float32)
    np.testing.assert_array_equal(matrix_nms(np.ones((2, 3, 3), bool), scores, np.array([0, 1])), scores)


def test_nothing_in_nothing_out() -> None:
    assert matrix_nms(np.zeros((0, 4, 4), bool), np.zeros(0, np.float32), np.zeros(0, np.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("kernel", "scores", "message"), [("soft", [0.5], "gaussian, linear"), ("linear", [0.5, 0.4], "one score")]
)
def test_wrong_arguments_are_refused(kernel: str, scores: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        matrix_nms(np.ones((1, 2, 2), bool), np.array(scores, np.float32), np.zeros(1, np.int64), kernel=kernel)
