import numpy as np
import pytest
from onnx import TensorProto, helper

from solov2_edge.converters.onnx_norms import norms_into_rounding

GROUPS, CHANNELS, SIDE = 4, 12, 6
STEP = 0.02


def normalising(graphs, scale, shift, zero=0):
    """Group normalisation as exports have it, then rounding to uint8."""
    nodes = [
        helper.make_node("Reshape", ["x", "grouped"], ["g"]),
        helper.make_node("InstanceNormalization", ["g", "ones", "zeros"], ["n"], epsilon=1e-5),
        helper.make_node("Reshape", ["n", "plain"], ["p"]),
        helper.make_node("Mul", ["p", "scale"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "step", "zero"], ["y"]),
    ]
    constants = {
        "grouped": np.array([1, GROUPS, CHANNELS // GROUPS * SIDE, SIDE]),
        "plain": np.array([1, CHANNELS, SIDE, SIDE]),
        "ones": np.ones(GROUPS, np.float32),
        "zeros": np.zeros(GROUPS, np.float32),
        "scale": scale.astype(np.float32).reshape(1, -1, 1, 1),
        "shift": shift.astype(np.float32).reshape(1, -1, 1, 1),
        "step": np.float32(STEP),
        "zero": np.uint8(zero),
    }
    shape = [1, CHANNELS, SIDE, SIDE]
    return graphs.made(nodes, constants, {"x": shape}, "y", shape, TensorProto.UINT8)


@pytest.mark.parametrize("seed", range(4))
def test_scale_shift_and_relu_become_steps_and_zeros(graphs, seed):
    random = np.random.default_rng(seed)
    model = normalising(graphs, random.uniform(0.3, 1.5, CHANNELS), random.normal(0, 0.5, CHANNELS))
    rewritten = norms_into_rounding(model)
    assert graphs.operators(rewritten) == ["Reshape", "InstanceNormalization", "Reshape", "QuantizeLinear"]
    x = {"x": random.normal(3, 2, (1, CHANNELS, SIDE, SIDE)).astype(np.float32)}
    exact, got = graphs.run(model, x).astype(int), graphs.run(rewritten, x).astype(int)
    assert (exact == 0).mean() > 0.2  # the ReLU is at work, and
    assert (exact > 0).mean() > 0.2
    # Zeros are whole numbers, so a value may round to the next integer; never further.
    assert np.abs(got - exact).max() <= 1
    assert np.abs(got - exact).mean() < 0.3


@pytest.mark.parametrize(
    ("scale", "shift", "zero"),
    [
        (np.linspace(-0.1, 1, CHANNELS), np.zeros(CHANNELS), 0),  # a step cannot be negative
        (np.linspace(1e-6, 1, CHANNELS), np.zeros(CHANNELS), 0),  # one channel's step would be a million
        (np.ones(CHANNELS), np.linspace(-3, 5.2, CHANNELS), 0),  # a zero beyond 255
        (np.ones(CHANNELS), np.zeros(CHANNELS), 7),  # nothing is cut off below: no ReLU
    ],
)
def test_what_cannot_be_written_so_stays(graphs, scale, shift, zero):
    model = normalising(graphs, scale, shift, zero)
    assert graphs.operators(norms_into_rounding(model)) == graphs.operators(model)
