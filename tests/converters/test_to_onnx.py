import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from solov2_edge.converters import onnx_passes, to_onnx, writing
from solov2_edge.converters.parity import differences, model_outputs, normalised
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import METADATA_KEY, Manifest, manifest_path, sha256_of
from solov2_edge.runtime import load
from solov2_edge.variants import VARIANTS

ARTEFACTS = ["plain", "native_half", "lowered"]


@pytest.fixture(params=ARTEFACTS)
def exported(request):
    return request.getfixturevalue(request.param)


def test_parity_on_a_frame_the_export_never_saw(exported, frame):
    kind = exported.manifest.input.kind
    batch = frame[None] if kind == "image" else normalised(frame[None], exported.model.spec)
    with load(exported.path) as segment:
        raw = segment.raw(frame[..., ::-1])
    measured = differences(raw, model_outputs(exported.model, batch, kind))
    assert max(measured.values()) < (1e-2 if exported.manifest.precision == "fp16" else 1e-4)
    assert np.ptp(raw.kernels) > 0.5


def test_contract_of_the_graph(exported):
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    image = exported.manifest.input.kind == "image"
    assert (given.name, given.type) == ("image", "tensor(uint8)" if image else "tensor(float)")
    assert given.shape == ([1, 64, 96, 3] if image else [1, 3, 64, 96])
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("class_scores", "tensor(float)", [220, 3]),
        ("kernels", "tensor(float)", [220, 8]),
        ("mask_features", "tensor(float)", [8, 16, 24]),
    ]


def test_manifest_beside_and_inside(exported):
    beside = Manifest.from_json(manifest_path(exported.path).read_text())
    assert beside == exported.manifest
    assert beside.sha256 == sha256_of(exported.path)
    assert beside.size_bytes == exported.path.stat().st_size
    assert beside.source_sha256 == sha256_of(exported.checkpoint)
    assert beside.weights_licence == "CC0-1.0"
    assert set(beside.parity) == {"class_scores", "kernels", "mask_features"}
    assert 0 < max(beside.parity.values()) < (1e-2 if beside.precision == "fp16" else 1e-4)
    props = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert Manifest.from_json(props[METADATA_KEY]) == beside.embedded()
    assert props["author"]
    assert "small" in props["description"]


def test_operators(plain, native_half, lowered):
    counts = [Counter(node.op_type for node in onnx.load(e.path).graph.node) for e in (plain, native_half, lowered)]
    for count in counts:
        # Batch norms are folded, coordinates are constants, group norms have the form every opset knows.
        assert not {"BatchNormalization", "Range", "GroupNormalization", "Identity", "Gather"} & set(count)
        assert count["InstanceNormalization"] == 28
    assert counts[1]["DeformConv"] == 13
    assert counts[2]["GridSample"] == 13
    assert [e.manifest.dcn_lowering for e in (plain, native_half, lowered)] == ["none", "native", "lowered"]
    opsets = [onnx.load(e.path).opset_import[0].version for e in (plain, native_half, lowered)]
    assert opsets == [18, 19, 18]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "fp32, fp16, int8"),
        ({"opset": 17}, r"opset must be 18\.\.22"),
        ({"opset": 18}, "no DeformConv.*opset 19.*'lowered'"),
        ({"height": 60}, "multiple of 32"),
        ({"input_kind": "video"}, "image or tensor"),
        ({"dcn": "emulated"}, "native, lowered"),
        ({"path": "model.tflite"}, r"must end in \.onnx"),
        ({"path": "absent/model.onnx"}, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused(options, message, tmp_path, specs, make_model):
    arguments = {"height": 64, "width": 96, **options}
    path = tmp_path / arguments.pop("path", "model.onnx")
    with pytest.raises(InputError, match=message):
        export_onnx(make_model(specs["v1"]), path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_pass_writes_nothing_and_leaves_what_was_there(tmp_path, plain, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old artefact")
    manifest_path(path).write_text("its manifest")

    def ruin(model):
        model.graph.node[-1].op_type = "Neg"
        return model

    monkeypatch.setattr(to_onnx, "_trace", lambda *_: onnx.load(plain.path))
    monkeypatch.setattr(to_onnx, "passes_for", lambda _: (onnx_passes.GraphPass("ruin", ruin, "fp32"),))
    with pytest.raises(GateError, match="after ruin"):
        export_onnx(plain.model, path, height=64, width=96)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "model.onnx": b"the old artefact",
        "model.onnx.json": b"its manifest",
    }


def test_killed_between_the_two_files_nothing_contradicts(tmp_path, plain, monkeypatch):
    """A new artefact beside an old manifest would be refused by every reader."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    manifest_path(path).write_text(json.dumps({"old": True}))
    real = writing.write_aside

    def killed(target, data):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return real(target, data)

    monkeypatch.setattr(writing, "write_aside", killed)
    monkeypatch.setattr(to_onnx, "_trace", lambda *_: onnx.load(plain.path))
    with pytest.raises(KeyboardInterrupt):
        export_onnx(plain.model, path, height=64, width=96)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    with load(path) as segment:  # by the manifest inside
        assert segment.spec == plain.model.spec


def test_nothing_is_printed(plain, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(to_onnx, "passes_for", onnx_passes.passes_for)
    said = []
    export_onnx(plain.model, tmp_path / "m.onnx", height=32, width=64, log=said.append)
    assert capfd.readouterr() == ("", "")
    assert len(said) == 1 + len(onnx_passes.passes_for("fp32"))  # the export and each pass


# The golden cases, light-448-r18 and light-512-r50-dcnv1, are converted to float32 in tests/parity.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "precision"),
    [
        ("nano", (448, 768), "fp32"),
        ("nano", (256, 320), "fp16"),
        ("light-448-r18", (256, 320), "fp16"),
        ("light-448-r50", (256, 320), "fp32"),
    ],
)
def test_variants(name, size, precision, tmp_path, make_model):
    spec = VARIANTS[name]
    model = make_model(spec)
    manifest = export_onnx(model, tmp_path / "m.onnx", height=size[0], width=size[1], precision=precision)
    width = {"fp32": 4, "fp16": 2}[precision]
    parameters = sum(p.numel() for p in model.parameters())
    # Folded batch norms leave with about one weight in three hundred.
    assert 0.99 * width * parameters < manifest.size_bytes < 1.05 * width * parameters + 200_000
