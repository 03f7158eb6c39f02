import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from solov2_edge.converters import ncnn_graph, to_ncnn
from solov2_edge.converters.ncnn_graph import network_of
from solov2_edge.converters.ncnn_traceable import NcnnTraceable
from solov2_edge.converters.parity import differences, model_outputs, normalised
from solov2_edge.converters.to_ncnn import export_ncnn
from solov2_edge.errors import GateError, InputError
from solov2_edge.inspect_ncnn import describe_ncnn
from solov2_edge.manifest import InputContract, Manifest, manifest_path, sha256_of
from solov2_edge.runtime import load

# name of the spec, input, precision
CASES = [("bgr", "image", "fp16"), ("v1", "tensor", "fp32"), ("v2", "image", "fp32")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def exported(request, tmp_path_factory, make_model, specs):
    name, kind, precision = request.param
    model, path = make_model(specs[name]), tmp_path_factory.mktemp(name) / f"{name}.{precision}.ncnn"
    said: list[str] = []
    manifest = export_ncnn(
        model,
        path,
        height=64,
        width=96,
        input_kind=kind,
        precision=precision,
        source_sha256="a" * 64,
        weights_licence="CC0-1.0",
        log=said.append,
    )
    return model, path, manifest, said


def test_parity_on_a_frame_the_export_never_saw(exported, frame):
    model, path, manifest, said = exported
    batch = frame[None] if manifest.input.kind == "image" else normalised(frame[None], model.spec)
    with load(path, threads=1) as segment:
        raw = segment.raw(frame[..., ::-1])
    measured = differences(raw, model_outputs(model, batch, manifest.input.kind))
    assert max(measured.values()) < (1e-2 if manifest.precision == "fp16" else 1e-4)
    assert np.ptp(raw.kernels) > 0.5
    assert "of range from PyTorch" in said[-1]


def test_manifest_beside_and_inside(exported):
    model, path, manifest, _ = exported
    beside = Manifest.from_json(manifest_path(path).read_text())
    assert beside == manifest
    assert (beside.format, beside.spec, beside.source_sha256) == ("ncnn", model.spec, "a" * 64)
    assert beside.sha256 == sha256_of(path)
    assert beside.size_bytes == sum(file.stat().st_size for file in path.iterdir())
    assert beside.dcn_lowering == ("native" if model.spec.dcn != "none" else "none")
    assert 0 < max(beside.parity.values()) < (1e-2 if beside.precision == "fp16" else 1e-4)
    assert Manifest.from_json((path / "manifest.json").read_text()) == beside.embedded()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, f"{path.name}.json"]


def test_every_weight_is_stored_once(exported):
    model, path, manifest, _ = exported
    traceable = NcnnTraceable(model, manifest.input)
    stored = (path / "trunk.bin").stat().st_size + (path / "head.bin").stat().st_size
    width = 2 if manifest.precision == "fp16" else 4
    assert 0.8 * width * traceable.numbers < stored < 1.3 * width * traceable.numbers


def test_what_inspect_tells(exported):
    model, path, manifest, _ = exported
    found, facts = describe_ncnn(path)
    assert found == manifest
    assert facts["ops"]["GroupNorm"] > 3
    assert ("DeformableConv2D" in facts["ops"]) == (model.spec.dcn != "none")
    assert "InstanceNorm" not in facts["ops"]


@pytest.mark.parametrize("text", ["", "7767517\n3 3\nInput a 0 1 b\n", "nothing\n1 1\nInput a 0 1 b\n", "\xff"])
def test_a_list_of_layers_that_is_none(tmp_path, text):
    folder = tmp_path / "a.ncnn"
    folder.mkdir()
    (folder / "trunk.param").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"trunk\.param"):
        describe_ncnn(folder)


def test_a_wrong_weight_ends_at_the_gate_and_leaves_the_old_artefact(tmp_path, make_model, specs, monkeypatch):
    model, path = make_model(specs["plain"]), tmp_path / "a.fp32.ncnn"
    path.mkdir()
    (path / "old").write_text("old")

    def wrong(network, precision):
        text, weights = ncnn_graph.written(network, precision)
        numbers = np.frombuffer(weights, np.float32).copy()
        numbers[20] += 0.5
        return text, numbers.tobytes()

    monkeypatch.setattr(to_ncnn, "written", wrong)
    with pytest.raises(GateError, match="parity with PyTorch is lost after writing the networks"):
        export_ncnn(model, path, height=64, width=96)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert (path / "old").read_text() == "old"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "ncnn precision must be one of fp32, fp16, int8, got 'int4'"),
        ({"precision": "int8"}, "int8 needs calibration pictures, got none"),
        ({"path": "a.param"}, "must end in .ncnn"),
        ({"path": "nowhere/a.ncnn"}, "does not exist"),
        ({"height": 60}, "multiple of 32"),
        ({"input_kind": "video"}, "image or tensor"),
    ],
)
def test_wrong_arguments(tmp_path, make_model, specs, options, message):
    given = {"path": "a.ncnn", "height": 64, "width": 96, **options}
    path = tmp_path / given.pop("path")
    with pytest.raises(InputError, match=message):
        export_ncnn(make_model(specs["plain"]), path, **given)
    assert list(tmp_path.iterdir()) == []


def graph_of(nodes, output, **constants):
    sides = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 3, 8, 8])
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(helper.make_graph(nodes, "test", [sides], [result], weights))


def test_an_operator_that_is_not_written_is_refused():
    graph = graph_of([helper.make_node("CumSum", ["image", "axis"], ["sums"])], "sums", axis=np.array(1))
    with pytest.raises(GateError, match="ncnn is not written for the operator CumSum"):
        network_of(graph, (3, 8, 8))


def test_a_relu_is_fused_only_where_nobody_else_reads_the_convolution():
    options = {"pads": [0] * 4, "strides": [1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], **options),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"], **options),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Add", ["d", "c"], ["both"]),
    ]
    graph = graph_of(nodes, "both", w=np.zeros((3, 3, 1, 1), np.float32))
    layers = network_of(graph, (3, 8, 8)).layers
    assert [layer.kind for layer in layers] == ["Input", "Convolution", "Convolution", "Split", "ReLU", "BinaryOp"]
    assert [layer.parameters.get(9) for layer in layers if layer.kind == "Convolution"] == [1, None]


def test_the_contract_of_an_image_is_planes_of_pixels(make_model, specs):
    contract = InputContract("image", 64, 96)
    for name in ("plain", "bgr"):
        traceable = NcnnTraceable(make_model(specs[name]), contract)
        pixels = torch.arange(0, 3.0).view(1, 3, 1, 1).expand(1, 3, 2, 2) * 100
        spec = specs[name]
        order = pixels.flip(1) if spec.channel_order == "bgr" else pixels
        wanted = (order - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
        torch.testing.assert_close(traceable.normalise(pixels), wanted)
