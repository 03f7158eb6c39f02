import numpy as np
import onnx
from onnx import helper, numpy_helper

from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_rewrites import fold_division, split_constant_channels

RNG = np.random.default_rng(7)


def values(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def test_constant_channels_leave_the_convolution(graphs):
    nodes = [
        helper.make_node("Concat", ["x", "c"], ["xc"], axis=1),
        helper.make_node("Conv", ["xc", "w.weight", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    constants = {"c": values(1, 2, 6, 5), "w.weight": values(4, 5, 3, 3), "b": values(4)}
    model = graphs.made(nodes, constants, {"x": [1, 3, 6, 5]}, "y", [1, 4, 6, 5])
    x = {"x": values(1, 3, 6, 5)}
    rewritten = split_constant_channels(model)
    assert graphs.operators(rewritten) == ["Conv", "Conv", "Add"]
    np.testing.assert_allclose(graphs.run(rewritten, x), graphs.run(model, x), atol=1e-5)
    weights = {w.name: numpy_helper.to_array(w).shape for w in rewritten.graph.initializer}
    assert weights["w.weight_of_map"] == (4, 3, 3, 3)
    assert "w.weight" not in weights


def test_a_concatenation_of_two_maps_stays(graphs):
    nodes = [helper.make_node("Concat", ["x", "z"], ["xz"], axis=1), helper.make_node("Conv", ["xz", "w"], ["y"])]
    model = graphs.made(nodes, {"w": values(4, 5, 1, 1)}, {"x": [1, 3, 6, 5], "z": [1, 2, 6, 5]}, "y", [1, 4, 6, 5])
    assert graphs.operators(split_constant_channels(model)) == ["Concat", "Conv"]


def test_division_folds_into_the_first_convolution(graphs):
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Conv", ["normal", "w.weight"], ["y"], pads=[1, 1, 1, 1]),
    ]
    std = np.array([50, 60, 70], np.float32).reshape(1, 3, 1, 1)
    constants = {"mean": values(1, 3, 1, 1), "std": std, "w.weight": values(4, 3, 3, 3)}
    model = graphs.made(nodes, constants, {"x": [1, 3, 6, 5]}, "y", [1, 4, 6, 5])
    x = {"x": values(1, 3, 6, 5) * 100}
    rewritten = fold_division(model)
    assert graphs.operators(rewritten) == ["Sub", "Conv"]
    np.testing.assert_allclose(graphs.run(rewritten, x), graphs.run(model, x), atol=1e-4)


def test_an_export_has_round_channels_and_one_last_resize(plain):
    graph = Graph(onnx.load(plain.path))
    convolutions = [c for c in graph.of_type("Conv") if not graph.is_constant(c.input[0])]
    assert {graph.constant(c.input[1]).shape[1] % 4 for c in convolutions[1:]} == {0}
    assert sum(graph.shape(r.output[0])[2:] == (16, 24) for r in graph.of_type("Resize")) == 2  # of FPN and masks
    assert not graph.of_type("Div")
