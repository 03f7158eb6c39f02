import numpy as np
import pytest
from onnx import helper

from solov2_edge.converters.onnx_census import Census, take_census
from solov2_edge.converters.onnx_taps import FEW, few_outputs_by_taps

CHANNELS, HEIGHT, WIDTH = 8, 7, 5
STEP, OUT_STEP = 0.05, 1.0


def convolving(graphs, outputs, *, stride=1, pads=(1, 1, 1, 1), ending="float"):
    """An integer convolution as 8-bit files have it."""
    random = np.random.default_rng(outputs)
    steps = random.uniform(0.01, 0.03, outputs).astype(np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["i"]),
        helper.make_node("DequantizeLinear", ["i", "step", "zero"], ["r"]),
        helper.make_node("DequantizeLinear", ["w", "w_step", "w_zero"], ["wr"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "b_step", "b_zero"], ["br"], axis=0),
        helper.make_node(
            "Conv", ["r", "wr", "br"], ["c"], "conv", kernel_shape=[3, 3], pads=pads, strides=[stride] * 2
        ),
        helper.make_node("QuantizeLinear", ["c", "out_step", "out_zero"], ["ci"]),
        helper.make_node("DequantizeLinear", ["ci", "out_step", "out_zero"], ["y" if ending == "float" else "cr"]),
    ]
    if ending == "read twice":
        nodes.append(helper.make_node("DequantizeLinear", ["ci", "out_step", "out_zero"], ["other"]))
        nodes.append(helper.make_node("Add", ["cr", "other"], ["y"]))
    constants = {
        "step": np.float32(STEP),
        "zero": np.uint8(3),
        "w": random.integers(-127, 128, (outputs, CHANNELS, 3, 3)).astype(np.int8),
        "w_step": steps,
        "w_zero": np.zeros(outputs, np.int8),
        "b": random.integers(-9000, 9000, outputs).astype(np.int32),
        "b_step": (STEP * steps).astype(np.float32),
        "b_zero": np.zeros(outputs, np.int32),
        "out_step": np.float32(OUT_STEP),
        "out_zero": np.uint8(128),
    }
    rows = [(side + pads[0] + pads[2] - 3) // stride + 1 for side in (HEIGHT, WIDTH)]
    return graphs.made(nodes, constants, {"x": [1, CHANNELS, HEIGHT, WIDTH]}, "y", [1, outputs, *rows])


@pytest.mark.parametrize("outputs", range(1, FEW + 1))
def test_the_sums_are_the_convolution_before_its_rounding(graphs, outputs):
    model = convolving(graphs, outputs)
    rewritten = few_outputs_by_taps(model)
    assert "Conv" not in graphs.operators(rewritten)
    assert take_census(rewritten) == take_census(model) == Census(1, 0)
    x = {"x": np.random.default_rng(0).uniform(0, 12, (1, CHANNELS, HEIGHT, WIDTH)).astype(np.float32)}
    rounded, got = graphs.run(model, x), graphs.run(rewritten, x)
    assert np.ptp(rounded) > 40 * OUT_STEP
    inside = np.abs(rounded) < 120  # 8 bits end there
    assert inside.mean() > 0.5
    assert np.abs(got - rounded)[inside].max() <= OUT_STEP / 2 * 1.001
    assert np.abs(got - rounded)[inside].mean() > OUT_STEP / 10  # it is not rounded itself


@pytest.mark.parametrize(
    "options", [{"stride": 2}, {"pads": (0, 0, 0, 0)}, {"ending": "read twice"}, {"outputs": FEW + 1}]
)
def test_other_convolutions_stay(graphs, options):
    model = convolving(graphs, **{"outputs": 1, **options})
    assert graphs.operators(few_outputs_by_taps(model)) == graphs.operators(model)
