import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from solov2_edge.converters.half import rounded_everywhere, to_half
from solov2_edge.errors import GateError

SHAPE = (1, 4, 6, 6)


def graph(scale: float) -> ModelProto:
    """uint8 in, normalised, convolved to about ``scale``, group-normalised, a sigmoid and a plain output."""
    rng = np.random.default_rng(0)
    weights = {
        "mean": np.full((1, 4, 1, 1), 120, np.float32),
        "weight": (rng.standard_normal((4, 4, 3, 3)) * scale / 300).astype(np.float32),
        "ones": np.ones(2, np.float32),
        "zeros": np.zeros(2, np.float32),
    }
    shapes = {"grouped": np.array([1, 2, -1]), "flat": np.array(SHAPE)}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "weight"], ["wide"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["wide", "grouped"], ["in_groups"]),
        helper.make_node("InstanceNormalization", ["in_groups", "ones", "zeros"], ["normal"]),
        helper.make_node("Reshape", ["normal", "flat"], ["plain"]),
        helper.make_node("Sigmoid", ["plain"], ["scores"]),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, SHAPE)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("scores", "plain")],
            [numpy_helper.from_array(v, k) for k, v in {**weights, **shapes}.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def run(model, optimised=True):
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    image = np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["scores", "plain"], {"image": image})


@pytest.mark.parametrize("scale", [1.0, 1000.0])  # 1000 squared is beyond float16
def test_statistics_survive_large_activations(scale):
    expected = run(graph(scale))
    half = to_half(graph(scale))
    checker.check_model(half, full_check=True)
    for optimised, model in ((True, half), (False, rounded_everywhere(half))):
        for got, want in zip(run(model, optimised), expected, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, want, atol=5e-3 * np.ptp(want))


def test_types():
    half = to_half(graph(1.0))
    kinds = {weight.name: weight.data_type for weight in half.graph.initializer}
    assert kinds["weight_half"] == TensorProto.FLOAT16
    assert kinds["mean"] == kinds["ones"] == TensorProto.FLOAT  # preprocessing and statistics
    assert kinds["grouped"] == TensorProto.INT64
    casts = {node.output[0]: node.attribute[0].i for node in half.graph.node if node.op_type == "Cast"}
    assert casts == {
        "float": TensorProto.FLOAT,
        "centred_as_half": TensorProto.FLOAT16,
        "in_groups_as_float": TensorProto.FLOAT,
        "normal_as_half": TensorProto.FLOAT16,
        "plain": TensorProto.FLOAT,  # an output: cast back under its own name
    }


def test_the_source_is_not_changed():
    model = graph(1.0)
    before = model.SerializeToString()
    to_half(model)
    assert model.SerializeToString() == before


def test_an_overflow_is_seen_only_where_everything_is_rounded():
    half = to_half(graph(3e5))  # convolution outputs beyond 65504
    assert not np.isfinite(run(rounded_everywhere(half), optimised=False)[1]).all()


def test_a_weight_beyond_float16_is_refused():
    with pytest.raises(GateError, match=r"weight holds .* beyond float16"):
        to_half(graph(1e8))
