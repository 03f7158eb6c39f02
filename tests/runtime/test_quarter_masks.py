from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.runtime import quarter_masks as module
from solov2_edge.runtime.quarter_masks import chunks, logit_bound, mask_logits, measure_masks, probabilities


def random_inputs(
    count: int = 9, channels: int = 5, height: int = 6, width: int = 70
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    kernels = rng.normal(size=(count, channels)).astype(np.float32)
    return kernels, rng.normal(size=(channels, height, width)).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
@pytest.mark.parametrize("chunk_bytes", [1, 4 * 4 * 6 * 70, 1 << 20])
def test_area_and_maskness_follow_their_definitions(threshold: float, chunk_bytes: int) -> None:
    kernels, features = random_inputs()
    measured = measure_masks(kernels, features, threshold, chunk_bytes)
    probability = 1 / (1 + np.exp(-np.einsum("ke,ehw->khw", kernels, features).astype(np.float64)))
    binary = probability > threshold
    np.testing.assert_array_equal(measured.packed.areas, binary.sum((1, 2)))
    np.testing.assert_allclose(measured.maskness, (probability * binary).sum((1, 2)) / binary.sum((1, 2)), rtol=1e-5)


def test_logits_stay_only_when_one_chunk_held_them() -> None:
    kernels, features = random_inputs()
    whole = measure_masks(kernels, features, 0.5)
    np.testing.assert_array_equal(whole.logits, mask_logits(kernels, features))
    assert measure_masks(kernels, features, 0.5, chunk_bytes=1).logits is None


def test_given_memory_and_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, features = random_inputs()
    whole = measure_masks(kernels, features, 0.5)
    memory = np.full((len(kernels) + 2, *features.shape[1:]), np.nan, np.float32)
    monkeypatch.setattr(module, "_GROUP", 4)
    again = measure_masks(kernels, features, 0.5, memory=memory)
    assert again.logits is not None
    assert np.shares_memory(again.logits, memory)
    np.testing.assert_array_equal(again.logits, whole.logits)
    np.testing.assert_array_equal(again.maskness, whole.maskness)
    for name in ("bits", "areas", "boxes"):
        np.testing.assert_array_equal(getattr(again.packed, name), getattr(whole.packed, name))


def neighbours(value: np.float32, count: int) -> NDArray[np.float32]:
    """The ``count`` float32 on either side of ``value``, and itself, rising."""
    sign = -1 if value < 0 else 1
    bits = int(np.abs(value).view(np.int32)) + sign * np.arange(-count, count + 1)
    return np.asarray(sign * bits[bits >= 0].astype(np.int32).view(np.float32), np.float32)


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.3, 0.9, 0.05, 0.999, 1e-6])
def test_comparing_logits_with_their_bound_is_comparing_probabilities(threshold: float) -> None:
    near = neighbours(logit_bound(threshold), 100_000)
    assert near[0] < logit_bound(threshold) < near[-1]
    far = np.array([-np.inf, -200, -90, -3, 0, 3, 90, 200, np.inf], np.float32)
    for logits in (near, far):
        above = probabilities(logits) > np.float32(threshold)
        np.testing.assert_array_equal(logits > logit_bound(threshold), above)
    np.testing.assert_allclose(logit_bound(threshold), np.log(threshold / (1 - threshold)), rtol=1e-5, atol=2e-7)


@pytest.mark.torch
@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.7])
def test_the_bound_is_the_oracles_within_the_rounding_of_its_sigmoid(threshold: float) -> None:
    import torch

    logits = np.linspace(-4, 4, 100_001, dtype=np.float32)
    logits = np.concatenate([logits, neighbours(logit_bound(threshold), 1000)])
    probability = torch.from_numpy(logits).sigmoid().numpy()
    clear = np.abs(probability - np.float32(threshold)) > 1.2e-7
    assert (~clear).sum() < 3000
    np.testing.assert_array_equal((logits > logit_bound(threshold))[clear], (probability > threshold)[clear])


def test_a_threshold_that_rounds_to_one_is_exceeded_nowhere() -> None:
    assert not (np.array([1e30, 1.0], np.float32) > logit_bound(1 - 1e-12)).any()


def test_an_empty_mask_between_others_has_maskness_zero() -> None:
    features = np.ones((1, 4, 4), np.float32)
    kernels = np.array([[2.0], [-2.0], [0.0], [1.0]], np.float32)
    measured = measure_masks(kernels, features, 0.5)
    assert measured.packed.areas.tolist() == [16, 0, 0, 16]
    expected = [1 / (1 + np.exp(-2)), 0, 0, 1 / (1 + np.exp(-1))]
    np.testing.assert_allclose(measured.maskness, expected, rtol=1e-6)


@pytest.mark.parametrize(("count", "chunk_bytes"), [(0, 100), (1, 1), (7, 4 * 420 * 3), (7, 10**9)])
def test_chunks_cover_every_mask_once_within_the_bound(count: int, chunk_bytes: int) -> None:
    _, features = random_inputs()
    parts = list(chunks(count, features, chunk_bytes))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
    assert all(part.stop - part.start <= max(1, chunk_bytes // (4 * 420)) for part in parts)
