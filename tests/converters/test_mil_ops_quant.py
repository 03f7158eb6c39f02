"""Quantised activations and compressed constants against numpy."""

import re
from pathlib import Path

import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types

from solov2_edge.converters import mil_ops_quant

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 4, 6, 10)).astype(np.float32)


def close(got, expected, tolerance=2e-6):
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_quantize_and_dequantize(interpret, kind):
    zero = np.array([1, 2, 3, 4], kind)
    scale = np.array([0.01, 0.02, 0.03, 0.5], np.float32)

    def build(x):
        steps = mb.quantize(input=x, zero_point=zero, scale=scale, axis=1, output_dtype=kind)
        return mb.dequantize(input=steps, zero_point=zero, scale=scale, axis=1)

    wide, origin = scale.reshape(1, 4, 1, 1), zero.reshape(1, 4, 1, 1).astype(np.float32)
    limits = np.iinfo(kind)
    steps = np.clip(np.round(X / wide) + origin, limits.min, limits.max)
    assert len(np.unique(steps)) > 60
    close(interpret(build, X), (steps - origin) * wide, 1e-6)


def test_quantize_rounds_half_to_even_with_one_scale(interpret):
    x = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 300, -300]], np.float32)

    def build(x):
        return mb.cast(x=mb.dequantize(input=mb.quantize(input=x, scale=np.float32(1), output_dtype="int8"),
                                       scale=np.float32(1)), dtype="int32")  # fmt: skip

    assert interpret(build, x).tolist() == [[0, 2, 2, 0, -2, 127, -128]]


# Compressed constants: an array is added to zeros, so that what comes out is the decoded constant.

ZEROS = np.zeros((4, 6), np.float32)
INTEGERS = RNG.integers(-128, 128, (4, 6)).astype(np.int8)


def pack(numbers, bits):
    """Least significant bit first, over byte boundaries."""
    flags = [(int(number) >> bit) & 1 for number in np.ravel(numbers) for bit in range(bits)]
    flags += [0] * (-len(flags) % 8)
    return np.array([sum(flags[i + bit] << bit for bit in range(8)) for i in range(0, len(flags), 8)], np.uint8)


def sub_byte(numbers, kind):
    """coremltools' arrays of less than a byte carry their kind in the dtype's metadata."""
    return numbers.astype(types.nptype_from_builtin(types.string_to_builtin(kind)))


@pytest.mark.parametrize("axis", [0, 1])
def test_affine(interpret, axis):
    count = ZEROS.shape[axis]
    scale = (RNG.random(count) + 0.1).astype(np.float32)
    zero = RNG.integers(-5, 6, count).astype(np.int8)
    parts = {"quantized_data": INTEGERS, "zero_point": zero, "scale": scale, "axis": axis}
    got = interpret(lambda x: mb.add(x=x, y=mb.constexpr_affine_dequantize(**parts)), ZEROS, target="iOS16")
    shape = [-1 if i == axis else 1 for i in range(2)]
    close(got, (INTEGERS.astype(np.float32) - zero.reshape(shape)) * scale.reshape(shape))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_one_lookup_table(interpret, bits):
    table = RNG.standard_normal(1 << bits).astype(np.float32)
    indices = RNG.integers(0, 1 << bits, (4, 6))
    parts = {"indices": pack(indices, bits), "lut": table, "shape": np.array([4, 6], np.uint32)}
    got = interpret(lambda x: mb.add(x=x, y=mb.constexpr_lut_to_dense(**parts)), ZEROS, target="iOS16")
    close(got, table[indices])


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_pruned(interpret, target):
    mask = RNG.random((4, 6)) < 0.4
    values = RNG.standard_normal(int(mask.sum())).astype(np.float32)
    expected = np.zeros((4, 6), np.float32)
    expected[mask] = values
    if target == "iOS16":
        parts = {"mask": pack(mask, 1), "shape": np.array([4, 6], np.uint32)}
    else:
        parts = {"mask": sub_byte(mask, "uint1")}
    parts["nonzero_data"] = values
    got = interpret(lambda x: mb.add(x=x, y=mb.constexpr_sparse_to_dense(**parts)), ZEROS, target=target)
    close(got, expected, 0)


def test_cast_constant(interpret):
    half = RNG.standard_normal((4, 6)).astype(np.float16)
    parts = {"source_val": half, "output_dtype": "fp32"}
    got = interpret(lambda x: mb.add(x=x, y=mb.constexpr_cast(**parts)), ZEROS, target="iOS16")
    close(got, half.astype(np.float32), 0)


@pytest.mark.parametrize(("kind", "low", "high"), [("int4", -8, 8), ("uint4", 0, 16), ("int8", -128, 128)])
@pytest.mark.parametrize("shifted", [False, True])
def test_blockwise(interpret, kind, low, high, shifted):
    data, offset = RNG.integers(low, high, (4, 6)), RNG.integers(low, high, (2, 3)) * shifted
    scale = (RNG.random((2, 3)) + 0.1).astype(np.float32)
    parts = {"data": sub_byte(data, kind), "scale": scale} | ({"offset": sub_byte(offset, kind)} if shifted else {})
    got = interpret(lambda x: mb.add(x=x, y=mb.constexpr_blockwise_shift_scale(**parts)), ZEROS, target="iOS18")
    spread = [part.repeat(2, 0).repeat(2, 1) for part in (offset, scale)]
    close(got, (data - spread[0]) * spread[1])


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_lookup_table_per_block(interpret, bits):
    indices = RNG.integers(0, 1 << bits, (4, 6))
    table = RNG.standard_normal((2, 1, 1 << bits, 1)).astype(np.float32)
    parts = {"indices": sub_byte(indices, f"uint{bits}"), "lut": table}
    got = interpret(lambda x: mb.add(x=x, y=mb.constexpr_lut_to_dense(**parts)), ZEROS, target="iOS18")
    close(got, [table[row // 2, 0, indices[row], 0] for row in range(4)])


def test_float16_scales_are_multiplied_in_float32_and_rounded_once(interpret):
    scale = np.array([0.1], np.float16)
    parts = {"quantized_data": INTEGERS, "zero_point": np.int8(0), "scale": scale[0], "axis": 0}
    zeros = ZEROS.astype(np.float16)
    got = interpret(lambda x: mb.add(x=x, y=mb.constexpr_affine_dequantize(**parts)), zeros, target="iOS16")
    close(got, (INTEGERS * scale.astype(np.float32)).astype(np.float16).astype(np.float32), 0)


def test_every_op_of_the_module_is_tested_here():
    # By name and not by what ran before: the tests of a file may run in several processes.
    named = set(re.findall(r"\w+", Path(__file__).read_text(encoding="utf-8")))
    assert set(mil_ops_quant.OPS | mil_ops_quant.CONSTANT_OPS) <= named, sorted(
        (set(mil_ops_quant.OPS | mil_ops_quant.CONSTANT_OPS)) - named
    )
