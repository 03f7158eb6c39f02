from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from solov2_edge.converters.onnx_passes import runner
from solov2_edge.converters.onnx_stem import stem_by_pixel_groups
from solov2_edge.converters.parity import differences, model_outputs
from solov2_edge.converters.to_onnx import export_onnx


def stem_of(model, batch):
    """The first convolution's result after ReLU, (1, C, H / 2, W / 2)."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    name = next(
        node for node in graph.graph.node if node.op_type in ("MaxPool", "Conv") and "relu" in node.input[0]
    ).input[0]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {"image": batch})[0]


@pytest.fixture(scope="module", params=["conv7", "conv3x2", "bgr"])
def network(request, specs, make_model, tmp_path_factory):
    spec = specs["bgr" if request.param == "bgr" else "plain"]
    if request.param == "conv3x2":
        spec = replace(spec, backbone=replace(spec.backbone, stem="conv3x2"))
    model = make_model(spec)
    path = tmp_path_factory.mktemp("stem") / "m.onnx"
    export_onnx(model, path, height=64, width=96)
    return model, onnx.load(path)


def test_the_stem_of_groups_equals_the_convolution(network, frame):
    model, graph = network
    grouped = stem_by_pixel_groups(graph)
    onnx.checker.check_model(grouped, full_check=True)
    assert not {"Cast", "Sub"} & {node.op_type for node in grouped.graph.node}
    batch = frame[None]
    exact, got = stem_of(graph, batch), stem_of(grouped, batch)
    assert got.shape == exact.shape
    scale = np.abs(exact).max()
    np.testing.assert_allclose(got[..., 2:-1, 2:-1] / scale, exact[..., 2:-1, 2:-1] / scale, atol=1e-5)
    # The picture is surrounded by the mean in whole pixel values: off by half of one at most.
    assert np.abs(got - exact).max() / scale < 0.02
    outputs = runner(grouped, onnxruntime.SessionOptions(), "test")(batch)
    assert max(differences(outputs, model_outputs(model, batch, "image")).values()) < 1e-2


def test_a_tensor_input_stays(native_half):
    graph = onnx.load(native_half.path)
    assert stem_by_pixel_groups(graph) is graph
