"""Resizing and resampling against the reference's examples and PyTorch's own."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb
from torch.nn import functional

from solov2_edge.converters import mil_ops_resize
from solov2_edge.errors import InputError

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)
T = torch.from_numpy


def close(got, expected, tolerance=2e-6):
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("mode", "targets"),
    [
        ("UNALIGN_CORNERS", {5: [0, 0.1, 0.5, 0.9, 1], 6: [0, 0, 1 / 3, 2 / 3, 1, 1], 1: [0.5]}),
        ("STRICT_ALIGN_CORNERS", {5: [0, 0.25, 0.5, 0.75, 1], 6: [0, 0.2, 0.4, 0.6, 0.8, 1], 1: [0]}),
        ("ALIGN_CORNERS", {5: [0, 0.25, 0.5, 0.75, 1], 6: [0, 0.2, 0.4, 0.6, 0.8, 1], 1: [0.5]}),
        ("DEFAULT", {5: [0, 0.4, 0.8, 1, 1], 6: [0, 1 / 3, 2 / 3, 1, 1, 1], 1: [0]}),
        ("OFFSET_CORNERS", {5: [0.1, 0.3, 0.5, 0.7, 0.9], 6: [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]}),
    ],
)
def test_resize_bilinear_samples_where_the_reference_says(interpret, mode, targets):
    """The reference's own example: two pixels of values 0 and 1, so that a sample is its position."""
    line = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    for size, expected in targets.items():
        build = {"target_size_height": 1, "target_size_width": size, "sampling_mode": mode}
        across = interpret(lambda x, build=build: mb.resize_bilinear(x=x, **build), line)
        close(across.ravel(), expected, 1e-6)
        build = {"target_size_height": size, "target_size_width": 1, "sampling_mode": mode}
        down = interpret(lambda x, build=build: mb.resize_bilinear(x=x, **build), line.swapaxes(2, 3).copy())
        close(down.ravel(), expected, 1e-6)


def test_resizing_as_pytorch_does(interpret):
    for aligned in (False, True):
        expected = functional.interpolate(T(X), (15, 8), mode="bilinear", align_corners=aligned)
        mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS"
        got = interpret(
            lambda x, m=mode: mb.resize_bilinear(x=x, target_size_height=15, target_size_width=8, sampling_mode=m), X
        )
        close(got, expected, 1e-5)
        factors = {"scale_factor_height": 2.5, "scale_factor_width": 0.8, "align_corners": aligned}
        close(interpret(lambda x, f=factors: mb.upsample_bilinear(x=x, **f), X), expected, 1e-5)
        got = interpret(lambda x, m=mode: mb.resize(x=x, shape=[15, 8], resized_dims=np.uint32(2), sampling_mode=m), X)
        close(got, expected, 1e-5)


def test_upsampling_without_pixel_centres_is_the_default_mode(interpret):
    options = {"align_corners": False, "half_pixel_centers": False}
    got = interpret(lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=3, **options), X)
    expected = interpret(lambda x: mb.resize_bilinear(x=x, target_size_height=12, target_size_width=30), X)
    close(got, expected, 0)


def test_nearest(interpret):
    expected = X.repeat(2, 2).repeat(3, 3)
    got = interpret(lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3), X)
    close(got, expected, 0)
    got = interpret(lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=12, target_size_width=30), X)
    close(got, expected, 0)
    with pytest.raises(InputError, match="whole factors"):
        interpret(lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=7, target_size_width=10), X)


GRID = (RNG.random((2, 7, 9, 2)) * 3 - 1.5).astype(np.float32)  # half of it outside the picture


def sampled(x, grid, measure, padding, aligned, sampling="bilinear", value=0.0):
    return mb.resample(
        x=x, coordinates=grid, sampling_mode=sampling, padding_mode=padding, padding_value=np.float32(value),
        coordinates_mode=measure, align_corners=aligned,
    )  # fmt: skip


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("padding", "aligned"),
    [
        ("constant", False),
        ("constant", True),
        ("border", False),
        ("border", True),
        ("reflection", True),  # PyTorch mirrors about pixel centres if corners are aligned,
        ("symmetric", False),  # else about edges
    ],
)
def test_resample_as_pytorch_does(interpret, padding, aligned, sampling):
    got = interpret(lambda x, g: sampled(x, g, "normalized_minus_one_to_one", padding, aligned, sampling), X, GRID)
    name = {"constant": "zeros", "symmetric": "reflection"}.get(padding, padding)
    close(got, functional.grid_sample(T(X), T(GRID), sampling, name, aligned), 2e-5)
    zero_to_one = interpret(
        lambda x, g: sampled(x, g, "normalized_zero_to_one", padding, aligned, sampling), X, (GRID + 1) / 2
    )
    if sampling == "bilinear":
        close(zero_to_one, got, 2e-5)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("constant", [9, 9, 5, 1, 1.5, 2, 3, 6, 9]),
        ("border", [1, 1, 1, 1, 1.5, 2, 3, 3, 3]),
        ("reflection", [3, 2, 1.5, 1, 1.5, 2, 3, 2.5, 2]),
        ("symmetric", [2, 1, 1, 1, 1.5, 2, 3, 3, 3]),
    ],
)
@pytest.mark.parametrize("aligned", [False, True])
def test_resample_beyond_the_edge(interpret, padding, expected, aligned):
    """A line of 1, 2, 3 at pixels -2 -1 -0.5 0 0.5 1 2 2.5 3; in pixels ``align_corners`` means nothing."""
    line = np.array([1, 2, 3], np.float32).reshape(1, 1, 1, 3)
    places = np.array([-2, -1, -0.5, 0, 0.5, 1, 2, 2.5, 3], np.float32)
    grid = np.stack([places, np.zeros_like(places)], -1).reshape(1, 1, 9, 2)
    got = interpret(lambda x, g: sampled(x, g, "unnormalized", padding, aligned, value=9), line, grid)
    close(got.ravel(), expected, 1e-6)


def test_every_op_of_the_module_is_tested_here():
    # By name and not by what ran before: the tests of a file may run in several processes.
    named = set(re.findall(r"\w+", Path(__file__).read_text(encoding="utf-8")))
    assert set(mil_ops_resize.OPS) <= named, sorted((set(mil_ops_resize.OPS)) - named)
