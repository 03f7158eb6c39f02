"""The dynamic convolution against its definition, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.decode import decode
from solov2_edge.runtime.dynamic_conv import level_kernels, mask_logits
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.spec import ModelSpec

SPEC = ModelSpec(
    name="tiny",
    class_names=("a", "b"),
    tower_width=4,
    mask_width=4,
    mask_channels=4,
    norm_groups=4,
    grids=(5, 4, 3, 2, 1),
)
RNG = np.random.default_rng(3)


def convolved(kernels: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Each 3x3 kernel over the features with zeros around them, one pixel at a time."""
    channels, height, width = features.shape
    around = np.pad(features.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    taps = kernels.reshape(-1, channels, 3, 3)
    result = np.zeros((len(kernels), height, width))
    for y in range(height):
        for x in range(width):
            result[:, y, x] = (taps * around[:, y : y + 3, x : x + 3]).sum((1, 2, 3))
    return result


@pytest.mark.parametrize("size", [(6, 9), (1, 4), (3, 1), (2, 2)])
def test_3x3_kernels_convolve_with_zeros_around_the_map(size: tuple[int, int]) -> None:
    features = RNG.standard_normal((4, *size)).astype(np.float32)
    kernels = RNG.standard_normal((5, 36)).astype(np.float32)
    out = np.full((5, *size), np.nan, np.float32)
    logits = mask_logits(kernels, features, out)
    assert logits is out
    np.testing.assert_allclose(logits, convolved(kernels, features), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mask_logits(kernels, features), logits)


def test_a_middle_tap_alone_is_a_1x1_kernel() -> None:
    features, kernels = RNG.standard_normal((4, 7, 5)).astype(np.float32), RNG.standard_normal((3, 4))
    wide = np.zeros((3, 4, 3, 3), np.float32)
    wide[:, :, 1, 1] = kernels
    narrow = mask_logits(kernels.astype(np.float32), features)
    np.testing.assert_allclose(mask_logits(wide.reshape(3, 36), features), narrow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_separate_kernels_see_their_own_level_only(size: int) -> None:
    spec = replace(SPEC, mask_features="separate", kernel_size=size)
    cells = np.array([0, 24, 25, 40, 41, 49, 50, 53, 54])  # first and last of each level
    levels = [0, 0, 1, 1, 2, 2, 3, 3, 4]
    kernels = RNG.standard_normal((9, spec.kernel_length)).astype(np.float32)
    features = RNG.standard_normal((spec.feature_channels, 6, 5)).astype(np.float32)
    logits = mask_logits(level_kernels(kernels, cells, spec), features)
    for row, level in enumerate(levels):
        own = features[4 * level : 4 * level + 4]
        np.testing.assert_allclose(logits[row], mask_logits(kernels[row : row + 1], own)[0], rtol=1e-5, atol=1e-5)


def test_unified_kernels_pass_untouched() -> None:
    kernels = np.ones((2, 4), np.float32)
    assert level_kernels(kernels, np.array([0, 54]), SPEC) is kernels


@pytest.mark.parametrize(
    ("change", "chunk"),
    [({"kernel_size": 3}, 0), ({"mask_features": "separate"}, 0), ({"mask_features": "separate", "kernel_size": 3}, 1)],
)
def test_decoding_does_not_depend_on_chunks(change: dict[str, Any], chunk: int) -> None:
    spec = replace(SPEC, **change)
    geometry = fixed_geometry(96, 128, 96, 128)
    raw = RawOutputs(
        RNG.random((spec.num_cells, 2), np.float32),
        RNG.standard_normal((spec.num_cells, spec.kernel_length)).astype(np.float32),
        RNG.standard_normal((spec.feature_channels, 24, 32)).astype(np.float32),
    )
    whole = decode(raw, geometry, spec)
    parts = decode(raw, geometry, spec, chunk_bytes=4 * 24 * 32 * (7 if chunk else 3))
    assert len(whole) > 5
    np.testing.assert_array_equal(whole.masks, parts.masks)
    np.testing.assert_array_equal(whole.scores, parts.scores)
    with pytest.raises(InputError, match="another network"):
        decode(raw, geometry, SPEC)


def test_features_that_are_not_finite_are_found_whatever_the_kernels() -> None:
    spec = replace(SPEC, kernel_size=3)
    scores = np.zeros((spec.num_cells, 2), np.float32)
    scores[0, 0] = 0.9
    kernels = np.ones((spec.num_cells, 36), np.float32)
    kernels[:, 4::9] = 0  # the middle taps
    features = np.ones((4, 24, 32), np.float32)
    features[2, 5, 5] = np.nan
    with pytest.raises(Exception, match="non-finite values"):
        decode(RawOutputs(scores, kernels, features), fixed_geometry(96, 128, 96, 128), spec)


@pytest.mark.parametrize(("length", "channels"), [(5, 4), (18, 4), (4, 8), (4, 40)])
def test_kernels_that_fit_no_features_are_refused(length: int, channels: int) -> None:
    with pytest.raises(InputError, match="got shapes"):
        RawOutputs(np.zeros((55, 2), "f4"), np.zeros((55, length), "f4"), np.zeros((channels, 6, 6), "f4"))
