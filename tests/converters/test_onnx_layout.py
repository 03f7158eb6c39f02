import numpy as np
import pytest
from onnx import helper

from solov2_edge.converters.onnx_layout import (
    add_channels_last,
    average_by_convolution,
    drop_batch_early,
    repeat_by_gather,
    resize_channels_last,
)

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


@pytest.mark.parametrize("order", [("small", "y"), ("y", "small")])
@pytest.mark.parametrize(("reader", "turned"), [("Conv", True), ("Relu", False)])
def test_what_joins_a_resized_map_before_a_convolution_is_turned_instead(graphs, order, reader, turned):
    inputs = ["sum", "weight"] if reader == "Conv" else ["sum"]
    nodes = [
        helper.make_node("Resize", ["x", "", "", "size"], ["y"], name="up", **LINEAR),
        helper.make_node("Resize", ["x", "", "", "size"], ["small"], name="near", **NEAREST),
        helper.make_node("Add", order, ["sum"], name="add"),
        helper.make_node(reader, inputs, ["z"], name="last"),
    ]
    stored = {"size": np.array([1, 3, 12, 8]), "weight": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}
    before = resize_channels_last(graphs.made(nodes, stored, {"x": [1, 3, 6, 4]}, "z", [1, 3, 12, 8]))
    after = add_channels_last(before)
    np.testing.assert_allclose(graphs.run(after, X), graphs.run(before, X), atol=1e-6)
    assert (after.SerializeToString() != before.SerializeToString()) is turned
    made_by = {name: node for node in after.graph.node for name in node.output}
    (add,) = [node for node in after.graph.node if node.op_type == "Add"]
    assert {made_by[name].op_type for name in add.input} == (
        {"Resize", "Transpose"} if turned else {"Transpose", "Resize"}
    )
    assert ("y_last" in add.input) is turned


@pytest.mark.parametrize(("scale", "early"), [((1, 3, 1, 1), True), ((3, 1, 1), False)])
def test_the_batch_axis_is_dropped_before_the_last_steps(graphs, scale, early):
    nodes = [
        helper.make_node("Reshape", ["x", "four"], ["a"], name="a"),
        helper.make_node("Mul", ["a", "scale"], ["b"], name="b"),
        helper.make_node("Add", ["b", "shift"], ["c"], name="c"),
        helper.make_node("Relu", ["c"], ["d"], name="d"),
        helper.make_node("Reshape", ["d", "three"], ["y"], name="y"),
    ]
    rng = np.random.default_rng(3)
    stored = {
        "four": np.array([1, 3, 4, 6]),
        "three": np.array([3, 4, 6]),
        "scale": rng.normal(size=scale).astype(np.float32),
        "shift": rng.normal(size=(1, 3, 1, 1)).astype(np.float32),
    }
    model = graphs.made(nodes, stored, {"x": [1, 3, 6, 4]}, "y", [3, 4, 6])
    rewritten = drop_batch_early(model)
    np.testing.assert_array_equal(graphs.run(rewritten, X), graphs.run(model, X))
    expected = ["Reshape", "Mul", "Add", "Relu"]
    assert graphs.operators(rewritten) == (expected if early else [*expected, "Reshape"])
