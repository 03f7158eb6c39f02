import numpy as np
import pytest
from onnx import TensorProto, helper

from solov2_edge.converters.onnx_census import take_census
from solov2_edge.converters.onnx_large_norms import large_norms_by_sums

GROUPS, CHANNELS, HEIGHT, WIDTH = 4, 12, 10, 6
STEP, ZERO, OUT_STEP = 0.03, 120, 0.02
SIZE = CHANNELS * HEIGHT * WIDTH


def normalising(graphs, scale, shift, *, rounded=True, zero=0, epsilon=1e-5):
    """Group normalisation of integers as 8-bit files have it, read by rounding or by a ReLU."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "in_step", "in_zero"], ["i"]),
        helper.make_node("DequantizeLinear", ["i", "in_step", "in_zero"], ["r"]),
        helper.make_node("Reshape", ["r", "grouped"], ["g"]),
        helper.make_node("InstanceNormalization", ["g", "ones", "zeros"], ["n"], "norm", epsilon=epsilon),
        helper.make_node("Reshape", ["n", "plain"], ["p"]),
        helper.make_node("Mul", ["p", "scale"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "step", "zero"], ["y"])
        if rounded
        else helper.make_node("Relu", ["a"], ["y"]),
    ]
    constants = {
        "in_step": np.float32(STEP),
        "in_zero": np.uint8(ZERO),
        "grouped": np.array([1, GROUPS, CHANNELS // GROUPS * HEIGHT, WIDTH]),
        "plain": np.array([1, CHANNELS, HEIGHT, WIDTH]),
        "ones": np.ones(GROUPS, np.float32),
        "zeros": np.zeros(GROUPS, np.float32),
        "scale": scale.astype(np.float32).reshape(1, -1, 1, 1),
        "shift": shift.astype(np.float32).reshape(1, -1, 1, 1),
        "step": np.float32(OUT_STEP),
        "zero": np.uint8(zero),
    }
    shape = [1, CHANNELS, HEIGHT, WIDTH]
    return graphs.made(nodes, constants, {"x": shape}, "y", shape, TensorProto.UINT8 if rounded else TensorProto.FLOAT)


def drawn(seed):
    random = np.random.default_rng(seed)
    scale = random.uniform(0.3, 1.5, CHANNELS) * random.choice([-1, 1], CHANNELS)
    x = random.normal(0.4, 1, (1, CHANNELS, HEIGHT, WIDTH)).astype(np.float32)
    return scale, random.normal(0, 0.5, CHANNELS), {"x": x}


@pytest.mark.parametrize("seed", range(4))
def test_a_rounded_map_comes_out_of_one_convolution(graphs, seed):
    scale, shift, x = drawn(seed)
    model = normalising(graphs, scale, shift)
    rewritten = large_norms_by_sums(model, SIZE)
    operators = graphs.operators(rewritten)
    assert "InstanceNormalization" not in operators
    assert operators[-1] == "QLinearConv"
    exact, got = graphs.run(model, x).astype(int), graphs.run(rewritten, x).astype(int)
    assert (exact == 0).mean() > 0.2  # the ReLU is at work, and
    assert (exact > 0).mean() > 0.2
    assert np.abs(got - exact).max() <= 1
    assert (got != exact).mean() < 0.02  # a shift is a whole number of 127ths of a step: few values sit on an edge


@pytest.mark.parametrize("seed", range(4))
def test_a_float_map_is_the_same(graphs, seed):
    scale, shift, x = drawn(seed)
    model = normalising(graphs, scale, shift, rounded=False)
    rewritten = large_norms_by_sums(model, SIZE)
    operators = graphs.operators(rewritten)
    assert "InstanceNormalization" not in operators
    assert operators.count("ReduceMean") == 2
    assert operators[-3:] == ["Conv", "Reshape", "Relu"]
    assert take_census(rewritten).floating == 0  # no layer, a scale
    np.testing.assert_allclose(graphs.run(rewritten, x), graphs.run(model, x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("value", [0.0, 1.7, -3.5])
@pytest.mark.parametrize("rounded", [True, False])
def test_a_map_of_one_value_gives_the_shift(graphs, value, rounded):
    """No variance: the difference of mean square and squared mean may be a rounding error below 0."""
    scale, shift, x = drawn(0)
    x["x"][:] = value
    model = normalising(graphs, scale, shift, rounded=rounded)
    exact, got = graphs.run(model, x), graphs.run(large_norms_by_sums(model, SIZE), x)
    np.testing.assert_allclose(got.astype(float), exact.astype(float), atol=1 if rounded else 0.01)


def test_small_maps_and_other_graphs_stay(graphs):
    scale, shift, _ = drawn(0)
    model = normalising(graphs, scale, shift)
    assert graphs.operators(large_norms_by_sums(model, SIZE + 1)) == graphs.operators(model)
    tiny = normalising(graphs, np.linspace(1e-6, 1, CHANNELS), shift)  # a shift in its unit would be a million
    assert graphs.operators(large_norms_by_sums(tiny, SIZE)) == graphs.operators(tiny)


def test_a_rounding_that_cuts_nothing_off_is_left_to_itself(graphs):
    scale, shift, x = drawn(1)
    model = normalising(graphs, scale, shift, zero=100)
    rewritten = large_norms_by_sums(model, SIZE)
    assert graphs.operators(rewritten)[-1] == "QuantizeLinear"
    assert np.abs(graphs.run(model, x).astype(int) - graphs.run(rewritten, x)).max() <= 1
