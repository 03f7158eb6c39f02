"""Levels joined before they are made real or shifted, against the same levels one by one."""

import numpy as np
import pytest
from onnx import helper

from solov2_edge.converters.onnx_joins import join_integers, shift_joined

SIZES = ((4, 6), (3, 3), (2, 1))  # H, W of the levels
CELLS = sum(height * width for height, width in SIZES)
STEPS, ZEROS = (0.03, 0.05, 0.04), (128, 120, 140)


def levels(graphs, channels, ahead, *, axis=0, perm=(0, 2, 3, 1), spied=False):
    """A head's output on three levels: ``ahead`` gives a level's nodes from x{level} to y{level} and its constants."""
    nodes, constants, inputs = [], {}, {}
    for level, (height, width) in enumerate(SIZES):
        before, stored = ahead(level)
        nodes += [
            *before,
            helper.make_node("Transpose", [f"y{level}"], [f"t{level}"], perm=perm),
            helper.make_node("Reshape", [f"t{level}", f"rows{level}"], [f"r{level}"]),
        ]
        sides = (channels, height * width) if axis else (height * width, channels)
        constants |= {**stored, f"rows{level}": np.array(sides)}
        inputs[f"x{level}"] = [1, channels, height, width]
    joined = "joined" if spied else "out"
    nodes.append(helper.make_node("Concat", [f"r{level}" for level in range(len(SIZES))], [joined], axis=axis))
    if spied:
        nodes += [
            helper.make_node("ReduceSum", ["y0"], ["total"], keepdims=0),
            helper.make_node("Add", ["joined", "total"], ["out"]),
        ]
    shape = [channels, CELLS] if axis else [CELLS, channels]
    return graphs.made(nodes, constants, inputs, "out", shape)


def rounding(level, steps=STEPS):
    names = [f"step{level}", f"zero{level}"]
    nodes = [
        helper.make_node("QuantizeLinear", [f"x{level}", *names], [f"i{level}"]),
        helper.make_node("DequantizeLinear", [f"i{level}", *names], [f"y{level}"]),
    ]
    return nodes, {names[0]: np.float32(steps[level]), names[1]: np.uint8(ZEROS[level])}


def shifting(channels, same=True):
    def ahead(level):
        shift = np.linspace(-1, 1, channels).reshape(1, -1, 1, 1) + (0 if same else level)
        node = helper.make_node("Add", [f"x{level}", f"shift{level}"], [f"y{level}"])
        return [node], {f"shift{level}": shift.astype(np.float32)}

    return ahead


def drawn(channels):
    random = np.random.default_rng(channels)
    return {f"x{n}": random.uniform(-4.5, 4.5, (1, channels, *size)).astype(np.float32) for n, size in enumerate(SIZES)}


@pytest.mark.parametrize("channels", [1, 5])
def test_integers_are_joined_on_the_widest_range(graphs, channels):
    model = levels(graphs, channels, rounding)
    joined = join_integers(model)
    operators = graphs.operators(joined)
    assert operators.count("DequantizeLinear") == 1
    assert operators[-2:] == ["Concat", "DequantizeLinear"]
    x = drawn(channels)
    low = min(-step * zero for step, zero in zip(STEPS, ZEROS, strict=True))
    high = max(step * (255 - zero) for step, zero in zip(STEPS, ZEROS, strict=True))
    rows = np.concatenate([value.transpose(0, 2, 3, 1).reshape(-1, channels) for value in x.values()])
    assert np.abs(graphs.run(joined, x) - rows).max() <= (high - low) / 255 / 2 + 1e-6
    assert np.abs(graphs.run(model, x) - rows).max() > max(STEPS) / 2  # the narrowest level cut off before


def test_a_level_that_would_lose_a_bit_stays_apart(graphs):
    narrow = (0.02, 0.05, 0.04)
    model = levels(graphs, 5, lambda level: rounding(level, narrow))
    assert graphs.operators(join_integers(model)) == graphs.operators(model)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_are_added_once(graphs, channels, same):
    model = levels(graphs, channels, shifting(channels, same))
    joined = shift_joined(model)
    operators = graphs.operators(joined)
    assert operators.count("Add") == 1
    assert operators.count("Transpose") == (0 if channels == 1 else 3)
    np.testing.assert_array_equal(graphs.run(joined, drawn(channels)), graphs.run(model, drawn(channels)))


@pytest.mark.parametrize("options", [{"axis": 1}, {"perm": (0, 1, 3, 2)}, {"spied": True}])
def test_other_joins_stay(graphs, options):
    for ahead, rewriting in ((rounding, join_integers), (shifting(4), shift_joined)):
        model = levels(graphs, 4, ahead, **options)
        assert graphs.operators(rewriting(model)) == graphs.operators(model)
