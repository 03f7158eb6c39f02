"""Core ML exports of small networks, as saved on disk; executed by the program interpreter."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest

from solov2_edge.converters import to_coreml
from solov2_edge.converters.mil_interpreter import load
from solov2_edge.converters.mil_package import read_package
from solov2_edge.converters.parity import differences, model_outputs, normalised
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.to_coreml import export_coreml
from solov2_edge.errors import GateError, InputError
from solov2_edge.manifest import METADATA_KEY, InputContract, Manifest, manifest_path, sha256_of, size_of
from solov2_edge.variants import VARIANTS

CASES = {
    "bgr": {"spec": "bgr", "precision": "fp32"},
    "dcn": {"spec": "v2", "precision": "fp16", "input_kind": "tensor", "deployment_target": "iOS17"},
}


class Probing:
    """Calibration with the probes themselves, so that nothing they hold is cut off."""

    def __init__(self, model):
        self.model = model

    def batches(self, spec, contract):
        return iter(Probes(self.model, contract).batches)

    def to_manifest(self):
        return {"count": 3, "sha256": "0" * 64}


@pytest.fixture(scope="module")
def exports(tmp_path_factory, specs, make_model):
    """Name -> (model, path, manifest), made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            options = dict(CASES[name])
            model = make_model(specs[options.pop("spec")])
            path = tmp_path_factory.mktemp("coreml") / f"{name}.mlpackage"
            manifest = export_coreml(
                model, path, height=64, width=96, source_sha256="a" * 64, weights_licence="CC0-1.0", **options
            )
            made[name] = (model, path, manifest)
        return made[name]

    return get


def counts(path):
    (function,) = read_package(path).model.mlProgram.functions.values()
    return Counter(op.type for op in function.block_specializations[function.opset].operations)


@pytest.mark.parametrize("name", CASES)
def test_parity_on_a_frame_the_export_never_saw(exports, name, frame):
    model, path, manifest = exports(name)
    kind = manifest.input.kind
    batch = frame[None] if kind == "image" else normalised(frame[None], model.spec)
    with load(path) as segment:
        raw = segment.raw(frame[..., ::-1])
    measured = differences(raw, model_outputs(model, batch, kind))
    assert max(measured.values()) < (1e-2 if manifest.precision == "fp16" else 1e-4)
    assert np.ptp(raw.kernels) > 0.5


@pytest.mark.parametrize("name", CASES)
def test_contract_of_the_package(exports, name):
    _, path, _ = exports(name)
    package = read_package(path).model
    assert package.specificationVersion == {"bgr": 7, "dcn": 8}[name]  # iOS16, iOS17
    (given,) = package.description.input
    assert given.name == "image"
    if name == "bgr":
        image = given.type.imageType
        assert (image.height, image.width, image.colorSpace) == (64, 96, image.RGB)
    else:
        assert list(given.type.multiArrayType.shape) == [1, 3, 64, 96]
    outputs = {o.name: (list(o.type.multiArrayType.shape), o.type.multiArrayType) for o in package.description.output}
    assert {key: shape for key, (shape, _) in outputs.items()} == {
        "class_scores": [220, 3],
        "kernels": [220, 8],
        "mask_features": [8, 16, 24],
    }
    assert {array.dataType for _, array in outputs.values()} == {outputs["kernels"][1].FLOAT32}


def test_operators(exports):
    plain, dcn = (counts(exports(name)[1]) for name in CASES)
    for count in (plain, dcn):
        assert count["instance_norm"] == 28
        assert not {"reduce_mean", "rsqrt", "gather", "reverse", "fill"} & set(count)
        # Five grids, and here P6 as well, are resized to a size and not by a rounded factor.
        assert count["resize_bilinear"] == 6
    assert plain["resample"] == 0
    assert dcn["resample"] == 13  # one per deformable convolution


def test_float16_does_not_reach_sampling_grids(exports):
    (function,) = read_package(exports("dcn")[1]).model.mlProgram.functions.values()
    operations = function.block_specializations[function.opset].operations
    types = {output.name: output.type.tensorType.dataType for op in operations for output in op.outputs}
    float16, float32 = 10, 11  # MIL.proto's DataType
    for op in operations:
        if op.type == "resample":
            kinds = [types[op.inputs[key].arguments[0].name] for key in ("x", "coordinates")]
            assert kinds == [float16, float32]


def test_metadata(exports):
    _, path, manifest = exports("bgr")
    texts = read_package(path).model.description.metadata
    assert (texts.author, texts.license) == ("solov2-edge", "CC0-1.0")
    assert "small" in texts.shortDescription
    assert "iOS16" in texts.shortDescription
    assert json.loads(texts.userDefined["solov2_edge.class_names"]) == ["ant", "bee", "cat"]
    assert Manifest.from_json(texts.userDefined[METADATA_KEY]) == manifest.embedded()
    beside = Manifest.from_json(manifest_path(path).read_text())
    assert beside == manifest
    assert (beside.sha256, beside.size_bytes) == (sha256_of(path), size_of(path))
    assert (beside.format, beside.source_sha256, beside.weights_licence) == ("coreml", "a" * 64, "CC0-1.0")
    assert set(beside.tools) == {"solov2-edge", "torch", "coremltools"}
    assert 0 < max(beside.parity.values()) < 3e-6  # a forgotten epsilon in 28 norms makes it 5e-6
    assert [exports(name)[2].dcn_lowering for name in CASES] == ["none", "lowered"]


def test_coremltools_opens_it(exports):
    from solov2_edge.converters.coreml_toolchain import load_coremltools, quiet

    path = exports("bgr")[1]
    with quiet():
        model = load_coremltools().models.MLModel(str(path), skip_model_load=True)
        assert model.license == "CC0-1.0"
        assert sorted(file.name for file in path.rglob("*") if file.is_file()) == [
            "Manifest.json",
            "model.mlmodel",
            "weight.bin",
        ]


def test_the_same_network_gives_the_same_bytes(exports, tmp_path, capfd):
    model, _, manifest = exports("bgr")
    said = []
    again = export_coreml(
        model,
        tmp_path / "again.mlpackage",
        height=64,
        width=96,
        source_sha256="a" * 64,
        weights_licence="CC0-1.0",
        log=said.append,
    )
    assert again == manifest
    assert capfd.readouterr() == ("", "")
    assert len(said) == 1


@pytest.mark.parametrize("precision", ["int8", "palette6", "palette4", "int4", "w8a8"])
def test_compressed(precision, tmp_path, specs, make_model, frame):
    model = make_model(specs["plain"])
    path = tmp_path / "m.mlpackage"
    calibration = Probing(model) if precision == "w8a8" else None
    said = []
    manifest = export_coreml(
        model, path, height=64, width=96, precision=precision, calibration=calibration, log=said.append
    )
    assert manifest.precision == precision
    assert manifest.calibration == (calibration.to_manifest() if calibration else None)
    assert [line.partition(":")[0] for line in said[:3]] == [
        "converting to Core ML",
        "converting to float16",
        f"compressing to {precision}",
    ]
    assert "within its own rounding" in said[3]
    count = counts(path)
    kinds = {"palette6": "constexpr_lut_to_dense", "palette4": "constexpr_lut_to_dense"}
    kinds |= {"int4": "constexpr_blockwise_shift_scale"}
    assert count[kinds.get(precision, "constexpr_affine_dequantize")] > 5
    assert bool(count["quantize"]) == (precision == "w8a8")
    version = read_package(path).model.specificationVersion
    assert version == {"w8a8": 8, "int4": 9}.get(precision, 7)
    with load(path) as segment:
        measured = differences(segment.raw(frame[..., ::-1]), model_outputs(model, frame[None], "image"))
    assert 1e-3 < max(measured.values()) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int2"}, "must be one of fp32, fp16, int8"),
        ({"height": 60}, "multiple of 32"),
        ({"input_kind": "video"}, "image or tensor"),
        ({"path": "model.onnx"}, r"must end in \.mlpackage"),
        ({"path": "absent/model.mlpackage"}, "does not exist"),
        ({"deployment_target": "iOS15"}, "iOS16, iOS17, iOS18"),
        ({"precision": "int4", "deployment_target": "iOS17"}, "int4 needs iOS18.*got deployment target iOS17"),
        ({"precision": "w8a8", "deployment_target": "iOS16", "calibration": Probing(None)}, "w8a8 needs iOS17"),
        ({"precision": "w8a8"}, "calibration pictures; give a folder"),
        ({"precision": "int8", "calibration": Probing(None)}, "int8 needs no calibration"),
    ],
)
def test_what_cannot_be_done_is_refused(options, message, tmp_path, specs, make_model):
    arguments = {"height": 64, "width": 96, **options}
    path = tmp_path / arguments.pop("path", "model.mlpackage")
    with pytest.raises(InputError, match=message):
        export_coreml(make_model(specs["plain"]), path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_lost_parity_writes_nothing_and_leaves_what_was_there(tmp_path, specs, make_model, monkeypatch):
    path = tmp_path / "model.mlpackage"
    path.mkdir()
    (path / "old").write_text("the old package")
    manifest_path(path).write_text("its manifest")
    honest = to_coreml.convert_program

    def ruined(network, *arguments):
        network.std = network.std * 1.01
        return honest(network, to_coreml.export_program(network), *arguments[1:])

    monkeypatch.setattr(to_coreml, "convert_program", ruined)
    with pytest.raises(GateError, match="after converting to Core ML"):
        export_coreml(make_model(specs["plain"]), path, height=64, width=96)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.mlpackage", "model.mlpackage.json"]
    assert [p.name for p in path.iterdir()] == ["old"]
    assert manifest_path(path).read_text() == "its manifest"


@pytest.fixture
def finished(exports, monkeypatch):
    """Let an export take the package of another, to try only how it is put in place."""
    model, made, manifest = exports("bgr")

    def make(self, precision, calibration):
        package = self.folder / "done.mlpackage"
        shutil.copytree(made, package)
        return package, manifest

    monkeypatch.setattr(to_coreml._Work, "make", make)
    return model


def test_an_old_package_is_replaced_as_a_whole(tmp_path, finished):
    path = tmp_path / "model.mlpackage"
    path.mkdir()
    (path / "left over").write_text("of another network")
    manifest_path(path).write_text("{}")
    export_coreml(finished, path, height=64, width=96)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.mlpackage", "model.mlpackage.json"]
    assert not (path / "left over").exists()
    with load(path) as segment:
        assert segment.spec == finished.spec


@pytest.mark.parametrize("moment", ["the new one in", "the manifest"])
def test_killed_while_replacing_nothing_contradicts(tmp_path, finished, monkeypatch, moment):
    path = tmp_path / "model.mlpackage"
    path.mkdir()
    (path / "old").write_text("old")
    manifest_path(path).write_text("{}")
    real = os.replace

    def killed(source, target):
        wanted = str(path) if moment == "the new one in" else str(manifest_path(path))
        if os.fspath(target) == wanted:
            raise KeyboardInterrupt
        return real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export_coreml(finished, path, height=64, width=96)
    assert not manifest_path(path).exists()
    if moment == "the manifest":
        with load(path) as segment:  # by the manifest inside
            assert segment.spec == finished.spec
    else:
        assert not path.exists()


# The golden cases, light-448-r18 and light-512-r50-dcnv1, are converted in tests/parity.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "precision"),
    [
        *((name, (64, 96), "fp32") for name in ("light-448-r34", "light-448-r50", "light-512-r50-dcnv2")),
        ("full-r50", (64, 96), "fp32"),
        ("nano", (448, 768), "fp16"),
        ("light-448-r18", (128, 160), "int8"),
    ],
)
def test_variants(name, size, precision, tmp_path, make_model):
    spec = VARIANTS[name]
    model = make_model(spec)
    path = tmp_path / "m.mlpackage"
    manifest = export_coreml(model, path, height=size[0], width=size[1], precision=precision)
    width = {"fp32": 4, "fp16": 2, "int8": 1}[precision]
    parameters = sum(p.numel() for p in model.parameters())
    # Every weight once; sampling grids and predictions that stay float add a little.
    assert 0.98 * width * parameters < manifest.size_bytes < 1.07 * width * parameters + 1_500_000
    contract = InputContract("image", *size)
    assert manifest.input == contract
