"""Elementwise ops, activations and reductions against numpy."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb

from solov2_edge.converters import mil_ops_math

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)
Y = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)
T = torch.from_numpy


def close(got, expected, tolerance=2e-6):
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


POSITIVE = np.abs(X) + 0.1

UNARY = {
    "abs": (X, np.abs),
    "ceil": (X, np.ceil),
    "floor": (X, np.floor),
    "round": (np.array([[0.5, 1.5, 2.5, -0.5]], np.float32), lambda x: np.array([[0, 2, 2, 0]])),
    "sign": (X, np.sign),
    "exp": (X, np.exp),
    "log": (POSITIVE, np.log),
    "sqrt": (POSITIVE, np.sqrt),
    "rsqrt": (POSITIVE, lambda x: x**-0.5),
    "square": (X, lambda x: x * x),
    "inverse": (POSITIVE, lambda x: 1 / (x + 1e-4)),
    "relu": (X, lambda x: np.maximum(x, 0)),
    "relu6": (X * 9, lambda x: np.clip(x, 0, 6)),
    "sigmoid": (X, lambda x: 1 / (1 + np.exp(-x))),
    "silu": (X, lambda x: x / (1 + np.exp(-x))),
    "tanh": (X, np.tanh),
    "erf": (X, lambda x: torch.special.erf(T(x)).numpy()),
    "softplus": (X, lambda x: np.log1p(np.exp(x))),
    "softmax": (X, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary(interpret, name):
    x, expected = UNARY[name]
    close(interpret(lambda x: getattr(mb, name)(x=x), x), expected(x))


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "floor_div": np.floor_divide,
    "mod": np.mod,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_broadcasts(interpret, name):
    y = Y[:1, :, :1, :] + 3
    close(interpret(lambda x, y: getattr(mb, name)(x=x, y=y), X, y), BINARY[name](X, y), 1e-5)


def test_pow(interpret):
    close(interpret(lambda x, y: mb.pow(x=x, y=y), POSITIVE, Y), POSITIVE**Y, 1e-5)


COMPARISONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison_and_selection(interpret, name):
    y = np.where(X > 0, X, Y)

    def build(x, y):
        return mb.select(cond=getattr(mb, name)(x=x, y=y), a=x, b=mb.mul(x=y, y=np.float32(2)))

    close(interpret(build, X, y), np.where(COMPARISONS[name](X, y), X, 2 * y))


@pytest.mark.parametrize(("name", "expected"), [("logical_and", np.logical_and), ("logical_or", np.logical_or)])
def test_logic(interpret, name, expected):
    def build(x, y):
        both = getattr(mb, name)(x=mb.greater(x=x, y=np.float32(0)), y=mb.greater(x=y, y=np.float32(0)))
        return mb.cast(x=both, dtype="fp32")

    close(interpret(build, X, Y), expected(X > 0, Y > 0).astype(np.float32))


def test_parametrised_activations(interpret):
    close(interpret(lambda x: mb.clip(x=x, alpha=np.float32(-0.5), beta=np.float32(0.25)), X), np.clip(X, -0.5, 0.25))
    close(interpret(lambda x: mb.leaky_relu(x=x, alpha=np.float32(0.2)), X), np.where(X > 0, X, 0.2 * X))
    hard = interpret(lambda x: mb.sigmoid_hard(x=x, alpha=np.float32(0.3), beta=np.float32(0.4)), X)
    close(hard, np.clip(0.3 * X + 0.4, 0, 1))


def test_cast_truncates(interpret):
    x = np.array([[-1.7, 1.7, 0.0, 2.5]], np.float32)
    assert interpret(lambda x: mb.cast(x=x, dtype="int32"), x).tolist() == [[-1, 1, 0, 2]]
    half = interpret(lambda x: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), X)
    close(half, X.astype(np.float16).astype(np.float32), 0)


REDUCTIONS = {
    "reduce_mean": np.mean,
    "reduce_sum": np.sum,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_l2_norm": lambda x, axis, keepdims: np.sqrt((x * x).sum(axis, keepdims=keepdims)),
    "reduce_sum_square": lambda x, axis, keepdims: (x * x).sum(axis, keepdims=keepdims),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("keep", [False, True])
def test_reduction(interpret, name, keep):
    got = interpret(lambda x: getattr(mb, name)(x=x, axes=[1, -1], keep_dims=keep), X)
    close(got, REDUCTIONS[name](X, axis=(1, -1), keepdims=keep), 1e-5)


def test_argmax(interpret):
    got = interpret(lambda x: mb.reduce_argmax(x=x, axis=1, keep_dims=False), X)
    assert (got == X.argmax(1)).all()


def test_every_op_of_the_module_is_tested_here():
    # By name and not by what ran before: the tests of a file may run in several processes.
    named = set(re.findall(r"\w+", Path(__file__).read_text(encoding="utf-8")))
    assert set(mil_ops_math.OPS) <= named, sorted((set(mil_ops_math.OPS)) - named)
