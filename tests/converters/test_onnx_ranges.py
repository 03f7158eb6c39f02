import numpy as np
import pytest
from onnx import helper

from solov2_edge.converters.onnx_qdq import quantise_weight, scale_of
from solov2_edge.converters.onnx_ranges import count_values
from solov2_edge.errors import InputError


@pytest.fixture
def doubling(graphs):
    nodes = [helper.make_node("Add", ["x", "x"], ["two"]), helper.make_node("Relu", ["two"], ["y"])]
    return graphs.made(nodes, {}, {"x": [2, 3]}, "y", [2, 3])


def test_inner_values_and_the_input_are_counted(doubling):
    batches = [np.full((2, 3), value, np.float32) for value in (-1.5, 0.5, 2.0)]
    said = []
    counts = count_values(doubling, ["x", "two", "y"], batches * 16, said.append)
    assert counts["x"].range("minmax") == (-1.5, 2.0)
    assert counts["two"].range("minmax") == (-3.0, 4.0)
    assert counts["y"].range("minmax") == (0.0, 4.0)
    assert said == ["calibrating: 16 pictures", "calibrating: 32 pictures", "calibrating: 48 pictures"]


def test_no_picture_is_refused(doubling):
    with pytest.raises(InputError, match="calibration needs pictures"):
        count_values(doubling, ["two"], [], lambda _: None)


def test_scales_cover_the_range_and_mean_zero_exactly():
    scale = scale_of(-1.0, 3.0, symmetric=False)
    assert scale.step == pytest.approx(4 / 255)
    assert (scale.zero, scale.signed) == (64, False)
    assert scale_of(0.0, 3.0, symmetric=False).zero == 0
    signed = scale_of(-1.0, 3.0, symmetric=True)
    assert (signed.zero, signed.signed, signed.step) == (0, True, pytest.approx(3 / 127))
    assert scale_of(0.0, 0.0, symmetric=False).step > 0


def test_weights_are_within_half_a_step_per_channel():
    weight = np.random.default_rng(3).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[1] *= 100
    weight[2] = 0
    integers, steps = quantise_weight(weight)
    assert integers.dtype == np.int8
    assert np.abs(integers).max() == 127
    assert np.all(np.abs(weight - integers * steps[:, None, None, None]) <= 0.5001 * steps[:, None, None, None])
