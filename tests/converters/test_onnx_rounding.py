"""Weights rounded by what ONNX layers compute: what they take, what is gained, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_int8 import int8_builder
from solov2_edge.converters.onnx_islands import layer_of
from solov2_edge.converters.onnx_quantise import quantise
from solov2_edge.converters.onnx_rounding import POSITIONS, input_moments, with_weights
from solov2_edge.converters.probes import Probes, drawn_frame
from solov2_edge.errors import GateError


@pytest.fixture(scope="module")
def batches(plain, tmp_path_factory):
    folder, frame = tmp_path_factory.mktemp("calibration"), drawn_frame(160, 224)
    for number in range(8):
        y, x = 12 * number, 16 * number
        cv2.imwrite(str(folder / f"{number}.png"), frame[y : y + 64, x : x + 96])
    pictures = read_calibration(folder, allow_small=True)
    return list(pictures.batches(plain.model.spec, plain.manifest.input))


@pytest.fixture(scope="module")
def builders(plain, batches):
    graph, probes = onnx.load(plain.path), Probes(plain.model, plain.manifest.input)
    return {target: int8_builder(graph, lambda: batches, target, probes) for target in ("cpu", "tensorrt")}


def values_of(model, names, batch):
    watched, options = onnx.ModelProto(), onnxruntime.SessionOptions()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(watched.SerializeToString(), options).run(names, {"image": batch})


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_moments_are_of_what_the_convolutions_take(builders, batches, target):
    """w M w' is the sum of squares of what w computes: strides, pads and the order of the inputs are right."""
    builder = builders[target]
    model = quantise(builder.prepared, builder.counts, target, keep_float=builder.islands)
    graph, found = Graph(model), input_moments(model, batches[:1])
    shapes = Graph(builder.prepared)
    seen = 0
    for conv in graph.of_type("Conv"):
        name = conv.input[1].removesuffix("_real")
        alone = sum(other.input[1] == conv.input[1] for other in graph.of_type("Conv")) == 1
        height, width = shapes.shape(conv.output[0])[2:]
        if name not in found or not alone or height * width > POSITIONS:
            continue
        output, weight, *bias = values_of(model, [conv.output[0], *conv.input[1:]], batches[0])
        computed = output[0] - (bias[0][:, None, None] if bias else 0)
        rows = weight.reshape(len(weight), -1).astype(np.float64)
        expected = np.square(computed.astype(np.float64)).sum((1, 2))
        np.testing.assert_allclose(np.einsum("ok,kl,ol->o", rows, found[name], rows), expected, rtol=1e-3)
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_layers_compute_more_nearly_the_same(builders, batches, target):
    builder = builders[target]
    nearest = quantise(builder.prepared, builder.counts, target, keep_float=builder.islands)
    better = with_weights(builder.prepared, builder.weights, builder.islands)
    rounded = quantise(better, builder.counts, target, keep_float=builder.islands)
    before, after, moved = Graph(builder.prepared), Graph(nearest), Graph(rounded)
    shares = []
    for name, moments in input_moments(nearest, batches).items():
        exact, steps = before.constant(name), after.constant(f"{name}_step")
        np.testing.assert_allclose(moved.constant(f"{name}_step"), steps, rtol=1e-6)
        errors = []
        for graph in (after, moved):
            apart = exact - graph.constant(f"{name}_integer") * steps[:, None, None, None]
            rows = apart.reshape(len(exact), -1).astype(np.float64)
            errors.append(np.einsum("ok,kl,ol->", rows, moments, rows))
        shares.append(errors[1] / errors[0])
    assert len(shares) > 20
    assert max(shares) < 1.01
    assert np.mean(shares) < 0.5


def test_a_layer_that_stays_float_keeps_its_weights(builders):
    builder, kept = builders["cpu"], frozenset({"mask_head.cls_convs.0", "neck.fpn_convs.1"})
    before, after = Graph(builder.prepared), Graph(with_weights(builder.prepared, builder.weights, kept))
    convolutions = [conv for conv in after.of_type("Conv") if conv.input[1] in builder.weights]
    for conv in convolutions:
        same = np.array_equal(before.constant(conv.input[1]), after.constant(conv.input[1]))
        assert same == (layer_of(conv) in kept)
    assert {layer_of(conv) for conv in convolutions} == set(builder.layers) - {"avg_pool2d.average"}


def test_the_first_layer_of_a_file_for_tensorrt_stays_float(builders):
    assert builders["tensorrt"].islands == {"backbone.conv1"}
    assert "backbone.conv1" not in builders["tensorrt"].layers
    graph = Graph(builders["tensorrt"].build())
    (stem,) = [conv for conv in graph.of_type("Conv") if layer_of(conv) == "backbone.conv1"]
    assert graph.producer(stem.input[0]).op_type != "DequantizeLinear"
    assert builders["cpu"].islands == frozenset()


def test_a_weight_moved_too_far_is_refused(builders):
    builder = builders["cpu"]
    name = next(iter(builder.weights))
    weights = {**builder.weights, name: builder.weights[name] * np.float32(1.03)}
    with pytest.raises(GateError, match=r"is [\d.]+ steps from the float one"):
        replace(builder, weights=weights).build()
