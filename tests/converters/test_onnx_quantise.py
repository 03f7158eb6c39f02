from collections import Counter

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.onnx_census import EITHER, check_weights, require_integers, take_census
from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_int8 import int8_builder, judge_int8
from solov2_edge.converters.onnx_islands import layer_work, make_plan
from solov2_edge.converters.onnx_quantise import ENGINES, quantise
from solov2_edge.converters.probes import Probes, drawn_frame
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import Manifest, manifest_path
from solov2_edge.runtime import load


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    """32 pictures as varied as the probes' drawn one, each another part of it."""
    folder = tmp_path_factory.mktemp("calibration")
    frame = drawn_frame(160, 224)
    for number in range(32):
        y, x = 3 * number, 4 * number
        cv2.imwrite(str(folder / f"{number:02}.png"), frame[y : y + 64, x : x + 96])
    return read_calibration(folder)


@pytest.fixture(scope="module")
def builders(plain, calibration):
    """Builders of the small network's 8-bit graphs, by target."""
    spec, contract = plain.model.spec, plain.manifest.input
    probes = Probes(plain.model, contract)
    graph = onnx.load(plain.path)
    return {
        target: int8_builder(graph, lambda: calibration.batches(spec, contract), target, probes) for target in ENGINES
    }


@pytest.fixture(scope="module")
def exported(plain, calibration, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "small.int8.onnx"
    manifest = export_onnx(plain.model, path, height=64, width=96, precision="int8", calibration=calibration)
    return path, manifest


def engine_operators(data, folder):
    """What ONNX Runtime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def test_every_convolution_runs_in_integers(exported, tmp_path):
    path, manifest = exported
    graph = onnx.load(path)
    census = take_census(graph)
    assert census.floating == 0
    found = engine_operators(path.read_bytes(), tmp_path)
    assert found["MatMulIntegerToFloat"] == found["Col2Im"] == 5  # class scores of three classes, on five levels
    assert found["QLinearConv"] + found["MatMulIntegerToFloat"] == census.integer > 50
    assert found["Conv"] == found["NhwcFusedConv"] == found["ConvInteger"] == 0
    assert manifest.precision == "int8"


def test_the_file_runs_and_says_what_it_was_calibrated_on(exported, plain, calibration, frame):
    path, manifest = exported
    assert Manifest.from_json(manifest_path(path).read_text()) == manifest
    assert manifest.calibration == {"count": 32, "sha256": calibration.sha256}
    with load(path) as segment:  # recorded is what verification measures again
        probes = Probes(plain.model, manifest.input)
        assert manifest.parity == pytest.approx(probes.measure(lambda batch: segment.raw(batch[0][..., ::-1])))
    assert path.stat().st_size < 0.8 * plain.path.stat().st_size  # the small network is mostly nodes
    with load(path) as segment, load(plain.path) as exact:
        raw, expected = segment.raw(frame), exact.raw(frame)
    assert np.corrcoef(raw.kernels.ravel(), expected.kernels.ravel())[0, 1] > 0.95


def test_the_same_pictures_give_the_same_bytes(exported, plain, calibration, tmp_path):
    again = tmp_path / "again.onnx"
    export_onnx(plain.model, again, height=64, width=96, precision="int8", calibration=calibration)
    assert again.read_bytes() == exported[0].read_bytes()


def resized_from(graph, resize):
    """The operator that gives what is resized, what moves or picks its values left out."""
    node = graph.producer(resize.input[0])
    while node.op_type in ("Transpose", "Reshape", "MaxPool"):
        node = graph.producer(node.input[0])
    return node.op_type


def test_islands_stay_float(builders):
    graph = Graph(builders["cpu"].build())
    # Random weights give levels of so different a range that their kernels are not joined as integers.
    assert {graph.producer(name).op_type for name in graph.outputs} == {"Sigmoid", "Concat", "Relu"}
    for norm in graph.of_type("InstanceNormalization"):
        assert graph.producer(norm.input[0]).op_type == "Reshape"
        assert graph.producer(graph.producer(norm.input[0]).input[0]).op_type in ("DequantizeLinear", "Add")
    resizes = graph.of_type("Resize")
    assert all(graph.attribute(node, "mode") == b"linear" for node in resizes)
    # of rounded maps, or one of another
    assert {resized_from(graph, node) for node in resizes} == {"DequantizeLinear", "Resize"}
    constants = [conv for conv in graph.of_type("Conv") if graph.is_constant(conv.input[0])]
    assert len(constants) == 6  # coordinates, on five levels and in the mask branch


def test_for_tensorrt_everything_is_signed_and_symmetric(builders):
    graph = Graph(builders["tensorrt"].build())
    assert take_census(builders["tensorrt"].build()).floating == 1  # the first
    pairs = graph.of_type("QuantizeLinear", "DequantizeLinear")
    zeros = [graph.constant(node.input[2]) for node in pairs]
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zeros)
    assert not graph.of_type("Gather")
    assert {resized_from(graph, node) for node in graph.of_type("Resize")} >= {"Relu", "Add"}
    assert len(graph.of_type("Relu")) > 30


def test_for_openvino_the_graph_is_that_of_float32(builders):
    """OpenVINO turns maps, pools and normalises by itself: what ONNX Runtime's form adds would only cost it time."""
    builder = builders["openvino"]
    quantised = builder.build()
    rounding = ("QuantizeLinear", "DequantizeLinear", "Relu")  # a ReLU may be the range that begins at zero
    before, after = (
        Counter(node.op_type for node in graph.graph.node if node.op_type not in rounding)
        for graph in (builder.prepared, quantised)
    )
    assert after == before
    assert take_census(quantised).floating == 0
    graph = Graph(quantised)
    zeros = [graph.constant(node.input[2]).dtype for node in graph.of_type("QuantizeLinear")]
    assert set(zeros) == {np.dtype(np.uint8)}


@pytest.mark.parametrize("target", ENGINES)
def test_noise_of_rounding_is_small_and_measured(builders, target):
    builder = builders[target]
    worst = builder.judge(builder.build())
    assert set(worst) == {"class_scores", "kernels", "mask_features"}
    assert 1e-3 < max(worst.values()) < 0.5


def test_layers_can_be_kept_float(builders):
    builder = builders["cpu"]
    assert "mask_head.cls_convs.0" in builder.layers
    census = take_census(builder.build(frozenset({"mask_head.cls_convs.0", "backbone.conv1"})))
    assert census.floating == 6  # the tower's convolution on five levels, and the stem
    with pytest.raises(InputError, match=r"no layer is called neck\.nothing; the layers are backbone"):
        builder.build(frozenset({"neck.nothing"}))
    assert builder.build(frozenset(builder.layers)) is builder.prepared
    with pytest.raises(InputError, match="every layer is asked to stay float"):
        quantise(builder.prepared, builder.counts, keep_float=frozenset(builder.layers))


def test_an_int8_file_of_float_layers_alone_is_refused(builders, plain, calibration, tmp_path):
    asked = frozenset(builders["cpu"].layers)
    given = {"height": 64, "width": 96, "precision": "int8", "calibration": calibration, "keep_float": asked}
    with pytest.raises(GateError, match="1 convolutions were to run in integers and 0 do"):
        export_onnx(plain.model, tmp_path / "m.onnx", **given)
    assert list(tmp_path.iterdir()) == []


def test_work_of_layers_adds_up_over_levels(builders):
    graph = Graph(builders["tensorrt"].prepared)
    work = layer_work(graph)
    assert list(work) == ["backbone.conv1", *builders["tensorrt"].layers]
    cells = 10**2 + 8**2 + 6**2 + 4**2 + 2**2
    assert work["mask_head.cls_convs.0"] == cells * 16 * 16 * 9
    assert work["mask_head.conv_cls"] == cells * 3 * 16 * 9


def spoil(model, ending, factor):
    """Multiply one stored step whose name ends so."""
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(model)
    (step,) = [tensor for tensor in spoilt.graph.initializer if tensor.name.endswith(ending)]
    step.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(step) * np.float32(factor), step.name))
    return spoilt


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_a_planted_weight_scale_is_named(builders, target):
    builder = builders[target]
    bad = spoil(builder.build(), "layer1.0.conv1.weight_step", 4)
    with pytest.raises(GateError, match=r"backbone.layer1.0.conv1.weight is [\d.]+ steps from the float one"):
        check_weights(builder.prepared, bad, EITHER)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_a_planted_activation_scale_is_noticed(builders, target):
    """A range of a quarter clips; one of four times the width only rounds more coarsely, which accuracy must tell."""
    builder = builders[target]
    with pytest.raises(GateError, match=r"the noise of \w+ is [\d.]+ of its standard deviation after going to int8"):
        builder.judge(spoil(builder.build(), "relu_1_step", 0.1))


def test_int8_in_name_only_is_refused(plain, builders):
    with pytest.raises(GateError, match="5 convolutions were to run in integers and 0 do"):
        require_integers(take_census(onnx.load(plain.path)), 5)
    with pytest.raises(GateError, match="0 convolutions were to run in integers and 0 do"):
        require_integers(take_census(onnx.load(plain.path)), 0)


def test_a_weight_without_an_original_is_refused(builders):
    builder = builders["cpu"]
    quantised = builder.build()
    for tensor in builder.prepared.graph.initializer:
        if tensor.name.endswith("layer1.0.conv1.weight"):
            other = onnx.ModelProto()
            other.CopyFrom(builder.prepared)
            next(t for t in other.graph.initializer if t.name == tensor.name).name = "another"
    with pytest.raises(GateError, match=r"layer1\.0\.conv1\.weight has no float original"):
        check_weights(other, quantised, EITHER)


def test_a_failed_gate_writes_nothing(plain, calibration, tmp_path, monkeypatch):
    def refuse(*_):
        raise GateError("the noise is too large")

    monkeypatch.setattr("solov2_edge.converters.onnx_int8.judge_int8", refuse)
    with pytest.raises(GateError, match="too large"):
        export_onnx(plain.model, tmp_path / "m.onnx", height=64, width=96, precision="int8", calibration=calibration)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "int8 needs calibration pictures"),
        ({"precision": "fp16", "calibration": True}, "fp16 takes no calibration pictures"),
        ({"precision": "int8", "calibration": True, "target": "npu"}, "one of cpu, tensorrt, openvino, got 'npu'"),
        ({"target": "tensorrt"}, "fp32 is one file for every engine"),
        ({"keep_float": frozenset({"backbone.conv1"})}, "fp32 is one file for every engine"),
    ],
)
def test_what_cannot_be_done_is_refused(options, message, plain, calibration, tmp_path):
    given = {**options, "calibration": calibration} if "calibration" in options else options
    with pytest.raises(InputError, match=message):
        export_onnx(plain.model, tmp_path / "m.onnx", height=64, width=96, **given)


def test_deformable_convolutions_and_their_offsets_stay_float(native_half, lowered, calibration):
    graph = onnx.load(lowered.path)
    spec, contract = lowered.model.spec, lowered.manifest.input
    builder = int8_builder(graph, lambda: calibration.batches(spec, contract), "cpu", Probes(lowered.model, contract))
    assert not any("conv_offset" in name for name in builder.layers)
    census = take_census(builder.build())
    assert census.floating == 13  # the offsets'
    assert census.integer > 40


def test_judging_needs_the_same_outputs(builders):
    builder = builders["cpu"]
    same = judge_int8(builder.prepared, builder.prepared, builder.batches(), "nothing")
    assert max(same.values()) == 0


def test_what_is_resized_is_rounded_only_after_integer_convolutions(builders):
    """Otherwise layers that stay float would be measured with a rounding of nobody's."""
    builder = builders["cpu"]
    graph = Graph(builder.prepared)
    mask = frozenset(layer for layer in builder.layers if "mask_feature_head.convs_all_levels" in layer)
    middle = frozenset(layer for layer in mask if "convs_all_levels.2" in layer)
    assert len(mask) == 7
    # Six maps, of which three are resized and three added up, in two sums; without the middle level two of P5's alone.
    for kept, count in ((frozenset(), 8), (middle, 2), (mask, 0)):
        values = (set(make_plan(graph, kept, resized=resized).values) for resized in (True, False))
        assert len(set.difference(*values)) == count
