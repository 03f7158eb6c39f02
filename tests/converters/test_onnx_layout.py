import numpy as np
import pytest
from onnx import helper

from solov2_edge.converters.onnx_layout import average_by_convolution, repeat_by_gather, resize_channels_last

X = {"x": np.random.default_rng(1).normal(size=(1, 3, 6, 4)).astype(np.float32)}
LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def resizing(graphs, size, settings, before=()):
    nodes = [
        *before,
        helper.make_node("Resize", ["r" if before else "x", "", "", "size"], ["y"], name="up", **settings),
    ]
    return graphs.made(nodes, {"size": np.array(size)}, {"x": [1, 3, 6, 4]}, "y", size)


@pytest.mark.parametrize("before", [(), (helper.make_node("Relu", ["x"], ["r"], name="r"),)])
@pytest.mark.parametrize("size", [[1, 3, 12, 8], [1, 3, 5, 7]])
def test_bilinear_resizing_gives_the_same_with_channels_last(graphs, before, size):
    model = resizing(graphs, size, LINEAR, before)
    rewritten = resize_channels_last(model)
    (resize,) = [node for node in rewritten.graph.node if node.op_type == "Resize"]
    assert resize.output[0] == "y_last"
    np.testing.assert_allclose(graphs.run(rewritten, X), graphs.run(model, X), atol=1e-6)
    # After a ReLU, which channels-first normalisation precedes, a form that ONNX Runtime does not turn back.
    assert graphs.operators(rewritten).count("Reshape") == (2 if before else 0)


def test_nearest_neighbours_are_read_again(graphs):
    model = resizing(graphs, [1, 3, 12, 12], NEAREST)
    rewritten = repeat_by_gather(model)
    assert graphs.operators(rewritten) == ["Transpose", "Gather", "Gather", "Transpose"]
    np.testing.assert_array_equal(graphs.run(rewritten, X), graphs.run(model, X))


@pytest.mark.parametrize(("size", "settings"), [([1, 3, 9, 6], NEAREST), ([1, 3, 12, 8], LINEAR)])
def test_other_enlargements_are_left_alone(graphs, size, settings):
    model = resizing(graphs, size, settings)
    assert graphs.operators(repeat_by_gather(model)) == ["Resize"]


def test_an_average_is_a_convolution(graphs):
    pool = helper.make_node("AveragePool", ["x"], ["y"], name="pool", kernel_shape=[2, 2], strides=[2, 2])
    model = graphs.made([pool], {}, {"x": [1, 3, 6, 4]}, "y", [1, 3, 3, 2])
    rewritten = average_by_convolution(model)
    assert graphs.operators(rewritten) == ["Conv"]
    np.testing.assert_allclose(graphs.run(rewritten, X), graphs.run(model, X), atol=1e-6)


def test_an_average_over_padding_is_not(graphs):
    pool = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 1, 0])
    model = graphs.made([pool], {}, {"x": [1, 3, 6, 4]}, "y", [1, 3, 4, 2])
    assert graphs.operators(average_by_convolution(model)) == ["AveragePool"]
