from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from solov2_edge.runtime import pair_iou as module
from solov2_edge.runtime.matrix_nms import matrix_nms
from solov2_edge.runtime.packed_masks import pack
from solov2_edge.runtime.pair_iou import common_by_product, common_by_words, product_pays, touching_pairs

Mask = NDArray[np.bool_]
KINDS = ("rectangles", "duplicates", "nested", "pixels", "whole", "noise")
KERNELS = ("gaussian", "linear")


def scene(kind: str, count: int, height: int, width: int, rng: np.random.Generator) -> Mask:
    """Masks (count, height, width), none empty."""
    masks = np.zeros((count, height, width), bool)
    for number, mask in enumerate(masks):
        y, x = rng.integers(0, height), rng.integers(0, width)
        if kind == "rectangles":
            mask[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width // 2 + 2)] = True
        elif kind == "nested":
            margin = number % (min(height, width) // 2 + 1)
            mask[margin // 2 : height - margin // 2, margin // 2 : width - margin // 2] = True
        elif kind == "pixels":
            mask[y, x] = True
        elif kind == "whole":
            mask[:] = True
        elif kind == "noise":
            mask[:] = rng.random((height, width)) < rng.random()
            mask[y, x] = True
        elif number < 3:
            mask[y : y + 3, x : x + 5] = True
        else:
            mask[:] = masks[rng.integers(0, 3)]
    return masks


def every_class(
    packed: object, labels: NDArray[np.int64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> list[int]:
    return [int(label) for label in np.unique(labels)]


def no_class(packed: object, labels: NDArray[np.int64], first: NDArray[np.intp], second: NDArray[np.intp]) -> list[int]:
    return []


FORMS = {"product": every_class, "words": no_class, "chosen": product_pays}
SCENES = {
    "kind": st.sampled_from(KINDS),
    "count": st.integers(0, 30),
    "size": st.tuples(st.integers(1, 12), st.sampled_from([1, 9, 64, 65, 150])),
    "classes": st.integers(1, 5),
    "seed": st.integers(0, 2**32 - 1),
}


def decays(
    masks: Mask, labels: NDArray[np.int64], scores: NDArray[np.float32], kernel: str
) -> list[NDArray[np.float32]]:
    """What Matrix NMS gives with the product for every class, for none, and for those the cost model chooses."""
    results = []
    for form in FORMS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "product_pays", form)
            results.append(matrix_nms(masks, scores, labels, kernel=kernel))
    return results


@settings(deadline=None)
@given(empty=st.booleans(), kernel=st.sampled_from(KERNELS), **SCENES)
def test_both_forms_give_the_very_same_scores(
    kind: str, count: int, size: tuple[int, int], classes: int, seed: int, empty: bool, kernel: str
) -> None:
    rng = np.random.default_rng(seed)
    masks = scene(kind, count, *size, rng)
    if empty:
        masks[::3] = False
    labels = rng.integers(0, classes, count)
    scores = np.sort(rng.random(count).astype(np.float32).round(1))[::-1]  # with ties
    product, words, chosen = decays(masks, labels, scores, kernel)
    np.testing.assert_array_equal(product, words)
    np.testing.assert_array_equal(chosen, words)


@pytest.mark.torch
@settings(deadline=None, max_examples=60)
@given(kernel=st.sampled_from(KERNELS), **SCENES)
def test_both_forms_equal_the_oracle(
    kind: str, count: int, size: tuple[int, int], classes: int, seed: int, kernel: str
) -> None:
    import torch

    from solov2_edge.reference import matrix_nms as oracle

    rng = np.random.default_rng(seed)
    count += 1  # the oracle's maximum over no masks is an error
    masks, labels = scene(kind, count, *size, rng), rng.integers(0, classes, count)
    scores = np.sort(rng.random(count).astype(np.float32).round(1))[::-1].copy()
    wanted = oracle(torch.from_numpy(masks), torch.from_numpy(labels), torch.from_numpy(scores), kernel).numpy()
    for got in decays(masks, labels, scores, kernel):
        np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.torch
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [1, 80])
@pytest.mark.parametrize("kind", KINDS)
def test_500_masks_equal_the_oracle(kind: str, classes: int, kernel: str) -> None:
    import torch

    from solov2_edge.reference import matrix_nms as oracle

    rng = np.random.default_rng(7)
    masks, labels = scene(kind, 500, 20, 70, rng), rng.integers(0, classes, 500)
    scores = np.sort(rng.random(500).astype(np.float32))[::-1].copy()
    wanted = oracle(torch.from_numpy(masks), torch.from_numpy(labels), torch.from_numpy(scores), kernel).numpy()
    product, words, chosen = decays(masks, labels, scores, kernel)
    np.testing.assert_allclose(words, wanted, atol=2e-6)
    np.testing.assert_array_equal(product, words)
    np.testing.assert_array_equal(chosen, words)


def all_pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(count, 1)


@pytest.mark.parametrize("common", [common_by_words, lambda packed, i, j: common_by_product(packed)[i, j]])
@pytest.mark.parametrize("kind", KINDS)
def test_common_pixels_are_counted(kind: str, common: Callable[..., NDArray[np.int64]]) -> None:
    masks = scene(kind, 20, 11, 130, np.random.default_rng(3))
    first, second = all_pairs(20)
    np.testing.assert_array_equal(common(pack(masks), first, second), (masks[first] & masks[second]).sum((1, 2)))


def test_only_pairs_of_one_class_whose_boxes_overlap_are_looked_at() -> None:
    masks = np.zeros((4, 4, 8), bool)
    masks[0, :2, :2] = masks[1, 1:, 1:] = masks[2, :2, 2:4] = masks[3, 1, 1] = True
    first, second = touching_pairs(pack(masks).boxes, np.array([0, 0, 0, 1]), 0, 4)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (1, 2)]


def chosen(masks: Mask, labels: NDArray[np.int64]) -> list[int]:
    packed = pack(masks)
    return product_pays(packed, labels, *touching_pairs(packed.boxes, labels, 0, len(masks)))


def test_the_product_is_chosen_for_a_crowd_in_one_place_and_for_its_class_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_WORD_NS", 1.2)  # numpy 2's, with numpy 1 too
    masks = np.zeros((300, 112, 192), bool)
    masks[:200, 40:60, 50:70] = True
    masks[200:, :100, :150] = True
    labels = np.repeat([4, 9], [200, 100])
    assert chosen(masks, labels) == [4]
    assert chosen(masks[200:], labels[200:]) == []
    assert chosen(masks[:3], labels[:3]) == []
    assert chosen(masks[:0], labels[:0]) == []


def test_a_product_that_needs_too_much_memory_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.ones((200, 16, 16), bool)
    labels = np.zeros(200, np.int64)
    assert chosen(masks, labels) == [0]
    monkeypatch.setattr(module, "_BYTES", 4 * 200 * 16 * 16 - 1)
    assert chosen(masks, labels) == []
