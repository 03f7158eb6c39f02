"""Ops that move numbers, against numpy."""

import re
from pathlib import Path

import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb

from solov2_edge.converters import mil_ops_shape

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)
Y = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)


def close(got, expected, tolerance=2e-6):
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: mb.reshape(x=x, shape=[2, 0, 6, -1]), X.reshape(2, 4, 6, 10)),
        (lambda x: mb.reshape(x=x, shape=[-1, 12]), X.reshape(-1, 12)),
        (lambda x: mb.transpose(x=x, perm=[0, 2, 3, 1]), X.transpose(0, 2, 3, 1)),
        (lambda x: mb.expand_dims(x=mb.reshape(x=x, shape=[8, 6, 10]), axes=[1, -1]), X.reshape(8, 1, 6, 10, 1)),
        (lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 48, 1, 10]), axes=[-2]), X.reshape(1, 48, 10)),
        (lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 48, 1, 10])), X.reshape(48, 10)),
        (lambda x: mb.concat(values=[x, mb.relu(x=x), x], axis=-2), np.concatenate([X, np.maximum(X, 0), X], 2)),
        (lambda x: mb.stack(values=[x, mb.relu(x=x)], axis=1), np.stack([X, np.maximum(X, 0)], 1)),
        (lambda x: mb.split(x=x, num_splits=2, axis=3), np.split(X, 2, 3)),
        (lambda x: mb.topk(x=x, k=3, axis=2), [-np.sort(-X, 2)[:, :, :3], np.argsort(-X, 2, kind="stable")[:, :, :3]]),
        (lambda x: mb.topk(x=x, k=2, ascending=True), [np.sort(X, 3)[..., :2], np.argsort(X, 3)[..., :2]]),
        (lambda x: mb.topk(x=mb.sign(x=x), k=9), [-np.sort(-np.sign(X), 3)[..., :9],
                                                  np.argsort(-np.sign(X), 3, kind="stable")[..., :9]]),
        (lambda x: mb.topk(x=x, k=1, axis=1, return_indices=False), X.max(1, keepdims=True)),
        (lambda x: mb.split(x=x, split_sizes=[1, 3], axis=1), [X[:, :1], X[:, 1:]]),
        (lambda x: mb.slice_by_index(x=x, begin=[0, 1, -3, 9], end=[2, 4, -1, 2], stride=[1, 2, 1, -3]),
         X[0:2, 1:4:2, -3:-1, 9:2:-3]),
        (lambda x: mb.slice_by_index(x=x, begin=[1, 2, 3, 4], end=[2, 0, 5, 0], begin_mask=[True, False, False, False],
                                     end_mask=[False, True, False, False], squeeze_mask=[False, False, False, True]),
         X[:2, 2:, 3:5, 4]),
        (lambda x: mb.slice_by_size(x=x, begin=[0, 1, 2, 3], size=[2, 2, -1, 4]), X[:, 1:3, 2:, 3:7]),
        (lambda x: mb.pad(x=x, pad=[1, 0, 2, 3], mode="constant", constant_val=np.float32(7)),
         np.pad(X, ((0, 0), (0, 0), (1, 0), (2, 3)), constant_values=7)),
        (lambda x: mb.pad(x=x, pad=[5, 2, 3, 9], mode="reflect"),
         np.pad(X, ((0, 0), (0, 0), (5, 2), (3, 9)), mode="reflect")),
        (lambda x: mb.pad(x=x, pad=[4, 2, 3, 9], mode="replicate"),
         np.pad(X, ((0, 0), (0, 0), (4, 2), (3, 9)), mode="edge")),
        (lambda x: mb.gather(x=x, indices=np.array([[3, 0], [-1, 1]], np.int32), axis=-3),
         np.take(X, np.array([[3, 0], [3, 1]]), 1)),
        (lambda x: mb.gather_along_axis(x=x, indices=np.argsort(Y, 2).astype(np.int32), axis=2),
         np.take_along_axis(X, np.argsort(Y, 2), 2)),
        (lambda x: mb.identity(x=x), X),
        (lambda x: mb.tile(x=x, reps=[1, 2, 3, 1]), np.tile(X, (1, 2, 3, 1))),
        (lambda x: mb.reverse(x=x, axes=[1, -1]), X[:, ::-1, :, ::-1]),
        (lambda x: mb.pixel_shuffle(x=x, upscale_factor=2),
         X.reshape(2, 1, 2, 2, 6, 10).transpose(0, 1, 4, 2, 5, 3).reshape(2, 1, 12, 20)),
    ],
)  # fmt: skip
def test_moving_numbers(interpret, build, expected):
    got = interpret(build, X)
    for one, other in zip(got, expected, strict=True) if isinstance(expected, list) else [(got, expected)]:
        close(one, other, 0)


def test_every_op_of_the_module_is_tested_here():
    # By name and not by what ran before: the tests of a file may run in several processes.
    named = set(re.findall(r"\w+", Path(__file__).read_text(encoding="utf-8")))
    assert set(mil_ops_shape.OPS) <= named, sorted((set(mil_ops_shape.OPS)) - named)
