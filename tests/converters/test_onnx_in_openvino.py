"""What convert writes as .onnx, in OpenVINO: against PyTorch at float, against ONNX Runtime at 8 bits."""

from collections import Counter
from functools import partial

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from solov2_edge.cli import main
from solov2_edge.converters import onnx_quantise
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.matching import match
from solov2_edge.converters.onnx_large_norms import large_norms_by_sums
from solov2_edge.converters.parity import differences, model_outputs, noise, normalised
from solov2_edge.converters.probes import drawn_frame
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.converters.verify import verify
from solov2_edge.errors import InputError
from solov2_edge.manifest import GraphDecode, sha256_of
from solov2_edge.runtime import load
from solov2_edge.runtime.ort_tensorrt import runs_in_tensorrt
from solov2_edge.runtime.signal_stack import kept_signal_stack
from solov2_edge.runtime.vino_import import openvino
from solov2_edge.runtime.vino_operators import extensions

ARTEFACTS = ["plain", "native_half", "lowered"]
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def run(model, inputs):
    """The first output in OpenVINO, with our operators."""
    with kept_signal_stack():
        core = openvino.Core()
        for extension in extensions():
            core.add_extension(extension)
        return core.compile_model(core.read_model(model.SerializeToString()), "CPU", EXACT)(inputs)[0]


@pytest.mark.parametrize("name", ARTEFACTS)
def test_parity_on_a_frame_the_export_never_saw(name, request, frame):
    exported = request.getfixturevalue(name)
    kind = exported.manifest.input.kind
    batch = frame[None] if kind == "image" else normalised(frame[None], exported.model.spec)
    with load(exported.path, engine="openvino", threads=1) as segment:
        raw = segment.raw(frame[..., ::-1])
    measured = differences(raw, model_outputs(exported.model, batch, kind))
    assert max(measured.values()) < (1e-2 if exported.manifest.precision == "fp16" else 1e-4)
    assert np.ptp(raw.kernels) > 0.5


def test_bfloat16_is_what_asking_for_it_gives(plain, frame):
    with kept_signal_stack():
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        with pytest.raises(InputError, match="CPU does not compute in bf16"):
            load(plain.path, engine="openvino", providers="cpu-bf16", threads=1)
        return
    with load(plain.path, engine="openvino", providers="cpu-bf16", threads=1) as segment, load(plain.path) as exact:
        assert segment.providers == ("CPU in bf16",)
        measured = differences(segment.raw(frame), exact.raw(frame))
    assert 1e-3 < max(measured.values()) < 0.2


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_convolutions(graphs, group, bias, modulated):
    random = np.random.default_rng(group)
    constants = {
        "w": random.normal(size=(6, 4 // group, 3, 3)).astype(np.float32),
        "offsets": random.normal(0, 3, (1, 18, 5, 4)).astype(np.float32),
        "b": random.normal(size=6).astype(np.float32),
        "m": random.random((1, 9, 5, 4)).astype(np.float32),
    }
    given = ["x", "w", "offsets", "b" if bias else "", "m" if modulated else ""]
    while not given[-1]:
        given.pop()
    settings = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2], "group": group}
    node = helper.make_node("DeformConv", given, ["y"], **settings)
    constants = {name: value for name, value in constants.items() if name in given}
    x_info, y_info = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 4, 9, 7]), ("y", [1, 6, 5, 4]))
    )
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([node], "g", [x_info], [y_info], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    x = {"x": random.normal(size=(1, 4, 9, 7)).astype(np.float32)}
    np.testing.assert_allclose(run(model, x), graphs.run(model, x), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_integers_that_a_normalisation_scales(graphs, seed):
    random = np.random.default_rng(seed)
    channels, shape = 5, [1, 5, 6, 4]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "whole"], ["i"]),
        helper.make_node("QLinearConv", ["i", "one", "whole", "w", "s", "z", "t", "whole", "b"], ["y"], group=channels),
    ]
    constants = {
        "one": np.float32(1),
        "whole": np.uint8(0),
        "w": random.choice([-127, 127], (channels, 1, 1, 1)).astype(np.int8),
        "s": random.uniform(1e-4, 1e-3, channels).astype(np.float32),
        "z": np.zeros(channels, np.int8),
        "t": np.float32(0.04),
        "b": random.integers(-9000, 9000, channels).astype(np.int32),
    }
    model = graphs.made(nodes, constants, {"x": shape}, "y", shape, TensorProto.UINT8)
    x = {"x": random.integers(0, 256, shape).astype(np.float32)}
    exact, got = graphs.run(model, x), run(model, x)
    assert len(set(exact.ravel().tolist())) > 20
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - exact).max() <= 1
    assert (got == exact).mean() > 0.98


def test_an_integer_convolution_it_cannot_read_is_one_sentence(graphs, plain, tmp_path):
    model = onnx.load(plain.path)
    (conv, *_) = [node for node in model.graph.node if node.op_type == "Relu"]
    conv.op_type, conv.domain = "Mish", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"it does not know the operators .*Mish.*; run it in ONNX Runtime") as caught:
        load(path, engine="openvino", threads=1)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    drawn = drawn_frame(160, 224)
    for number in range(32):
        y, x = 3 * number, 4 * number
        cv2.imwrite(str(folder / f"{number:02}.png"), drawn[y : y + 64, x : x + 96])
    return read_calibration(folder)


@pytest.fixture(scope="module")
def integers(plain, calibration, tmp_path_factory):
    """The small network in 8 bits, its normalisations written as those of large maps are."""
    given = {"precision": "int8", "calibration": calibration}
    path = tmp_path_factory.mktemp("int8") / "small.int8.onnx"
    with pytest.MonkeyPatch.context() as patch:
        _, *others = onnx_quantise.LAST_FORMS["cpu"]
        sums = partial(large_norms_by_sums, large=64)
        patch.setitem(onnx_quantise.LAST_FORMS, "cpu", (sums, *others))
        export_onnx(plain.model, path, height=64, width=96, source_sha256=sha256_of(plain.checkpoint), **given)
    return path


def test_an_8_bit_file_is_as_near_to_float32_as_in_onnxruntime(integers, plain):
    operators = Counter(node.op_type for node in onnx.load(integers).graph.node)
    assert operators["Col2Im"] == 5  # class scores are sums over taps
    assert operators["QLinearConv"] > 2  # and normalisations scale integers
    frame = cv2.resize(drawn_frame(160, 224), (130, 80))
    with load(integers, engine="openvino", threads=1) as here, load(integers) as there, load(plain.path) as exact:
        ours, theirs = (noise(each.raw(frame), exact.raw(frame)) for each in (here, there))
    for name, (error, _) in ours.items():
        assert error < 2 * theirs[name][0], name  # two engines round differently, neither further from float32


def test_the_8_bit_file_for_openvino_computes_the_same_in_both_engines(plain, calibration, frame, tmp_path):
    path = tmp_path / "small.int8-openvino.onnx"
    options = {"precision": "int8", "calibration": calibration, "target": "openvino"}
    manifest = export_onnx(plain.model, path, height=64, width=96, **options)
    assert manifest.quantisation == {"target": "openvino"}
    assert not runs_in_tensorrt(manifest)
    with load(path, engine="openvino", threads=1) as here, load(path) as there, load(plain.path) as exact:
        ours, theirs = (noise(each.raw(frame), exact.raw(frame)) for each in (here, there))
    for name, (error, signal) in ours.items():
        assert 0 < error < min(2 * theirs[name][0], 0.05 * signal), name


def test_a_file_that_decodes_in_its_graph(plain, tmp_path):
    path = tmp_path / "small-decoded.onnx"
    decode = GraphDecode(max_candidates=300, max_instances=40)
    export_onnx(plain.model, path, height=64, width=96, decode=decode)
    frame = cv2.resize(drawn_frame(160, 224), (130, 80))
    with load(path, engine="openvino", threads=1) as here, load(path) as there:
        found, wanted = here(frame), there(frame)
    assert len(found) == len(wanted) > 3
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-3)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    assert min(match(wanted, found).ious) > 0.9


def test_verification_in_openvino_passes(plain, frame, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), frame)
    result = verify(plain.path, plain.checkpoint, tmp_path, engine="openvino", threads=1)
    assert result.passed
    assert result.engine.startswith("openvino ")
    words = ["verify", plain.path, "--against", plain.checkpoint, "--images", tmp_path, "--engine", "litert"]
    assert main([str(word) for word in words]) == 2
    assert "run in engine 'onnxruntime' or 'openvino', got engine='litert'" in capsys.readouterr().err
