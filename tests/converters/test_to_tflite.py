import json

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from solov2_edge.converters import to_tflite, writing
from solov2_edge.converters.calibration import Calibration
from solov2_edge.converters.parity import differences, model_outputs, normalised
from solov2_edge.converters.tflite_facts import read_facts
from solov2_edge.converters.to_tflite import export_tflite
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import Manifest, manifest_path, sha256_of
from solov2_edge.runtime import load
from solov2_edge.runtime.tflite_file import read_manifest_text
from solov2_edge.variants import VARIANTS

CASES = [
    ("tflite_plain", "fp32"),
    ("tflite_plain", "fp16"),
    ("tflite_plain", "int8-dynamic"),
    pytest.param(("tflite_dcn", "fp32"), marks=pytest.mark.slow),
    pytest.param(("tflite_dcn", "fp16"), marks=pytest.mark.slow),
]
ALLOWED = {"fp32": 1e-4, "fp16": 1e-2, "int8-dynamic": 0.25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tflite")


@pytest.fixture(params=CASES, ids=lambda value: "-".join(value) if isinstance(value, tuple) else value)
def exported(request, folder, monkeypatch):
    """(network, path, manifest) of a small network at a precision, lowered once for all of them."""
    name, precision = request.param
    network = request.getfixturevalue(name)
    path = folder / f"{name}.{precision}.tflite"
    if not path.exists():
        monkeypatch.setattr(to_tflite, "lower", lambda *_: network.flatbuffer)
        export_tflite(
            network.model,
            path,
            height=64,
            width=96,
            input_kind=network.traceable.contract.kind,
            precision=precision,
            source_sha256="ab" * 32,
            weights_licence="CC0-1.0",
        )
    return network, path, Manifest.from_json(manifest_path(path).read_text())


def test_parity_on_a_frame_the_export_never_saw(exported, frame):
    network, path, manifest = exported
    kind = manifest.input.kind
    batch = frame[None] if kind == "image" else normalised(frame[None], network.model.spec)
    with load(path, threads=1) as segment:
        raw = segment.raw(frame[..., ::-1])
    measured = differences(raw, model_outputs(network.model, batch, kind))
    assert max(measured.values()) < ALLOWED[manifest.precision]
    assert np.ptp(raw.kernels) > 0.5


def test_contract_of_the_signature(exported):
    _, path, manifest = exported
    runner = Interpreter(str(path)).get_signature_runner()
    ((name, given),) = runner.get_input_details().items()
    image = manifest.input.kind == "image"
    assert (name, given["dtype"]) == ("image", np.uint8 if image else np.float32)
    assert tuple(given["shape"]) == ((1, 64, 96, 3) if image else (1, 3, 64, 96))
    outputs = {name: (tuple(o["shape"]), o["dtype"]) for name, o in runner.get_output_details().items()}
    assert outputs == {
        "class_scores": ((220, 3), np.float32),
        "kernels": ((220, 8), np.float32),
        "mask_features": ((8, 16, 24), np.float32),
    }


def test_manifest_beside_and_inside(exported):
    _, path, beside = exported
    assert beside.sha256 == sha256_of(path)
    assert beside.size_bytes == path.stat().st_size
    assert beside.source_sha256 == "ab" * 32
    assert beside.weights_licence == "CC0-1.0"
    assert beside.dcn_lowering == ("lowered" if beside.spec.dcn != "none" else "none")
    assert set(beside.parity) == {"class_scores", "kernels", "mask_features"}
    assert 0 < max(beside.parity.values()) < ALLOWED[beside.precision]
    assert beside.tools["litert-torch"]
    assert Manifest.from_json(read_manifest_text(path)) == beside.embedded()


def test_types_and_size(exported):
    network, path, manifest = exported
    facts = read_facts(path.read_bytes())
    numbers = sum(weight.numel() for name, weight in network.model.named_parameters() if weight.dim() == 4)
    width = {"fp32": 4, "fp16": 2, "int8-dynamic": 1}[manifest.precision]
    kind = {"fp32": "float32", "fp16": "float16", "int8-dynamic": "int8"}[manifest.precision]
    # The head's weights serve five levels and are stored once. The first layer stays float in int8.
    assert 0.9 * width * numbers < facts.constant_bytes[kind] < 1.05 * width * numbers + 4096 * (width == 4)
    assert (facts.custom_ops, facts.max_rank, facts.inner_transposes, facts.dynamic_tensors) == ((), 4, 0, 0)
    if manifest.precision == "fp16":
        assert facts.ops["DEQUANTIZE"] == len({id(m) for m in network.model.modules() if _convolves(m)})


def _convolves(module):
    weight = getattr(module, "weight", None)
    return weight is not None and weight.dim() == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "fp32, fp16, int8-dynamic, int8, int16x8"),
        ({"precision": "int8"}, "int8 needs calibration pictures"),
        ({"calibration": Calibration((), "")}, "fp32 takes no calibration"),
        ({"precision": "int8-dynamic", "calibration": Calibration((), "")}, "takes no calibration"),
        ({"height": 60}, "multiple of 32"),
        ({"input_kind": "video"}, "image or tensor"),
        ({"path": "model.onnx"}, r"must end in \.tflite"),
        ({"path": "absent/model.tflite"}, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused(options, message, tmp_path, specs, make_model):
    arguments = {"height": 64, "width": 96, **options}
    path = tmp_path / arguments.pop("path", "model.tflite")
    with pytest.raises(InputError, match=message):
        export_tflite(make_model(specs["plain"]), path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_stage_writes_nothing_and_leaves_what_was_there(tmp_path, tflite_plain, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the old artefact")
    manifest_path(path).write_text("its manifest")
    weight = tflite_plain.traceable.network.mask_head.conv_kernel.weight.detach().permute(0, 2, 3, 1).numpy().tobytes()
    ruined = tflite_plain.flatbuffer.replace(weight, bytes(len(weight)))
    monkeypatch.setattr(to_tflite, "lower", lambda *_: ruined)
    with pytest.raises(GateError, match="after the conversion: kernels"):
        export_tflite(tflite_plain.model, path, height=64, width=96)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "model.tflite": b"the old artefact",
        "model.tflite.json": b"its manifest",
    }


def test_killed_between_the_two_files_nothing_contradicts(tmp_path, tflite_plain, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    manifest_path(path).write_text(json.dumps({"old": True}))
    real = writing.write_aside

    def killed(target, data):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return real(target, data)

    monkeypatch.setattr(writing, "write_aside", killed)
    monkeypatch.setattr(to_tflite, "lower", lambda *_: tflite_plain.flatbuffer)
    with pytest.raises(KeyboardInterrupt):
        export_tflite(tflite_plain.model, path, height=64, width=96)
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
    with load(path, threads=1) as segment:  # by the manifest inside
        assert segment.spec == tflite_plain.model.spec


@pytest.mark.slow
def test_nothing_is_printed(tmp_path, specs, make_model, capfd):
    said = []
    model = make_model(specs["bgr"])
    export_tflite(model, tmp_path / "m.tflite", height=32, width=64, precision="fp16", log=said.append)
    assert capfd.readouterr() == ("", "")
    assert len(said) == 3


# The golden cases, light-448-r18 and light-512-r50-dcnv1, are converted in tests/parity.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [(name, (128, 160)) for name in ("light-448-r34", "light-448-r50", "light-512-r50-dcnv2", "nano")]
    + [("adelaidet-r50", (64, 96))],  # full-r50 but for two strides
)
def test_variants(name, size, tmp_path, make_model):
    model = make_model(VARIANTS[name])
    manifest = export_tflite(model, tmp_path / "m.tflite", height=size[0], width=size[1])
    parameters = sum(p.numel() for p in model.parameters())
    # Folded batch norms leave with about one weight in three hundred.
    assert 0.99 * 4 * parameters < manifest.size_bytes < 1.02 * 4 * parameters + 800_000
    assert max(manifest.parity.values()) < 1e-4
