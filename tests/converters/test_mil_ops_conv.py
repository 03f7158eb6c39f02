"""Convolution, products, pooling and normalisation against PyTorch's own."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb
from torch.nn import functional

from solov2_edge.converters import mil_ops_conv

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)
Y = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)
T = torch.from_numpy


def close(got, expected, tolerance=2e-6):
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("options", "torch_options", "groups"),
    [
        ({"pad_type": "valid"}, {}, 1),
        ({"pad_type": "valid", "strides": [2, 1]}, {"stride": (2, 1)}, 2),
        ({"pad_type": "custom", "pad": [1, 1, 2, 2], "dilations": [1, 2]}, {"padding": (1, 2), "dilation": (1, 2)}, 4),
    ],
)
def test_conv(interpret, bias, options, torch_options, groups):
    weight = RNG.standard_normal((8, 4 // groups, 3, 3)).astype(np.float32)
    offset = RNG.standard_normal(8).astype(np.float32) if bias else None
    got = interpret(
        lambda x: mb.conv(x=x, weight=weight, groups=groups, **({"bias": offset} if bias else {}), **options), X
    )
    expected = functional.conv2d(T(X), T(weight), T(offset) if bias else None, groups=groups, **torch_options)
    close(got, expected, 1e-5)


@pytest.mark.parametrize(("kind", "pads"), [("same", (0, 1, 0, 1)), ("same_lower", (1, 0, 1, 0))])
def test_conv_same_puts_the_odd_row_after_or_before(interpret, kind, pads):
    weight = RNG.standard_normal((3, 4, 3, 3)).astype(np.float32)
    got = interpret(lambda x: mb.conv(x=x, weight=weight, strides=[2, 2], pad_type=kind), X)
    close(got, functional.conv2d(functional.pad(T(X), pads), T(weight), stride=2), 1e-5)


def test_asymmetric_padding(interpret):
    weight = RNG.standard_normal((3, 4, 2, 3)).astype(np.float32)
    got = interpret(lambda x: mb.conv(x=x, weight=weight, pad_type="custom", pad=[1, 0, 2, 3]), X)
    close(got, functional.conv2d(functional.pad(T(X), (2, 3, 1, 0)), T(weight)), 1e-5)


def test_products(interpret):
    weight, bias = RNG.standard_normal((7, 10)).astype(np.float32), RNG.standard_normal(7).astype(np.float32)
    close(interpret(lambda x: mb.linear(x=x, weight=weight, bias=bias), X[0]), X[0] @ weight.T + bias, 1e-5)
    close(interpret(lambda x, y: mb.matmul(x=x, y=y, transpose_y=True), X, Y), X @ Y.swapaxes(-1, -2), 1e-5)
    close(interpret(lambda x, y: mb.matmul(x=x, y=y, transpose_x=True), X, Y), X.swapaxes(-1, -2) @ Y, 1e-5)


POOLS = [
    ({"kernel_sizes": [2, 2], "strides": [2, 2], "pad_type": "valid"}, {"kernel_size": 2, "stride": 2}),
    (
        {"kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1]},
        {"kernel_size": 3, "stride": 2, "padding": 1},
    ),
    (
        {"kernel_sizes": [3, 2], "strides": [2, 3], "pad_type": "custom", "pad": [1, 1, 1, 1], "ceil_mode": True},
        {"kernel_size": (3, 2), "stride": (2, 3), "padding": 1, "ceil_mode": True},
    ),
]


@pytest.mark.parametrize(("options", "torch_options"), POOLS)
def test_max_pool(interpret, options, torch_options):
    close(interpret(lambda x: mb.max_pool(x=x, **options), X - 5), functional.max_pool2d(T(X - 5), **torch_options))


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize(("options", "torch_options"), POOLS)
def test_avg_pool(interpret, options, torch_options, exclude):
    got = interpret(lambda x: mb.avg_pool(x=x, exclude_padding_from_average=exclude, **options), X)
    close(got, functional.avg_pool2d(T(X), **torch_options, count_include_pad=not exclude), 1e-5)


def test_pooling_with_more_padding_on_one_side(interpret):
    got = interpret(lambda x: mb.max_pool(x=x, kernel_sizes=[2, 3], pad_type="custom", pad=[1, 0, 0, 2]), X)
    padded = functional.pad(T(X), (0, 2, 1, 0), value=float("-inf"))
    close(got, functional.max_pool2d(padded, (2, 3), 1))
    got = interpret(lambda x: mb.avg_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="same"), X[..., :5, :9])
    close(got, functional.avg_pool2d(functional.pad(T(X[..., :5, :9].copy()), (0, 1, 0, 1)), 2), 1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_normalisation(interpret, scaled):
    gamma, beta = (RNG.standard_normal(4).astype(np.float32) for _ in range(2))
    extra = {"gamma": gamma, "beta": beta} if scaled else {}
    g, b = (T(gamma), T(beta)) if scaled else (None, None)
    got = interpret(lambda x: mb.instance_norm(x=x, epsilon=np.float32(1e-2), **extra), X)
    close(got, functional.instance_norm(T(X), weight=g, bias=b, eps=1e-2), 1e-5)
    mean, variance = X.mean((0, 2, 3)), X.var((0, 2, 3))
    got = interpret(lambda x: mb.batch_norm(x=x, mean=mean, variance=variance, epsilon=np.float32(1e-2), **extra), X)
    close(got, functional.batch_norm(T(X), T(mean), T(variance), g, b, eps=1e-2), 1e-5)
    gamma, beta = (RNG.standard_normal((6, 10)).astype(np.float32) for _ in range(2))
    extra = {"gamma": gamma, "beta": beta} if scaled else {}
    got = interpret(lambda x: mb.layer_norm(x=x, axes=[-2, -1], epsilon=np.float32(1e-2), **extra), X)
    g, b = (T(gamma), T(beta)) if scaled else (None, None)
    close(got, functional.layer_norm(T(X), (6, 10), g, b, eps=1e-2), 1e-5)


def test_every_op_of_the_module_is_tested_here():
    # By name and not by what ran before: the tests of a file may run in several processes.
    named = set(re.findall(r"\w+", Path(__file__).read_text(encoding="utf-8")))
    assert set(mil_ops_conv.OPS) <= named, sorted((set(mil_ops_conv.OPS)) - named)
