from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.runtime.quarter_masks import chunks, mask_logits, measure_masks


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
