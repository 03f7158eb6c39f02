"""A planted bad quantisation, one layer's scale times 4 in a real int8 file, and who notices."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.cli import main
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.parity import differences
from solov2_edge.converters.probes import Probes
from solov2_edge.converters.verify import verify
from solov2_edge.manifest import METADATA_KEY, Manifest, manifest_path, sha256_of, size_of
from solov2_edge.runtime import load

ROOT = Path(__file__).parents[2]
CALIBRATION = ROOT / "solov2_edge" / "assets" / "calibration"
PICTURES = ROOT / "tests" / "data" / "nuclei_val"
LAYERS = ("backbone.layer1.0.conv1.weight", "neck.lateral_convs.1.conv.weight", "mask_head.conv_kernel.weight")


def write(graph, path, manifest):
    """Write a graph with its manifest inside and beside it, hash and all."""
    for entry in graph.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = manifest.embedded().to_json()
    path.write_bytes(graph.SerializeToString())
    whole = replace(manifest, sha256=sha256_of(path), size_bytes=size_of(path))
    manifest_path(path).write_text(whole.to_json())
    return path


class Batches(CalibrationDataReader):
    def __init__(self, calibration, manifest):
        self._batches = calibration.batches(manifest.spec, manifest.input)

    def get_next(self):
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """The bundled model at int8, by ONNX Runtime's own quantiser, its parity measured and recorded."""
    folder = tmp_path_factory.mktemp("quantised")
    artefact, path = bundle().artefact, folder / "sound.int8.onnx"
    manifest = Manifest.from_json(manifest_path(artefact).read_text())
    calibration = read_calibration(CALIBRATION, limit=12, allow_small=True)
    quant_pre_process(str(artefact), str(folder / "prepared.onnx"))
    quantize_static(
        str(folder / "prepared.onnx"),
        str(folder / "bare.onnx"),
        Batches(calibration, manifest),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Relu", "MaxPool"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    graph = onnx.load(folder / "bare.onnx")
    manifest = replace(manifest, precision="int8", calibration=calibration.to_manifest(), parity={})
    write(graph, path, manifest)
    model, _ = load_model(bundle().checkpoint)
    parity = {}
    with load(path) as segment:
        for batch, reference in Probes(model, manifest.input).pairs:
            for name, value in differences(segment.raw(batch[0][..., ::-1]), reference).items():
                parity[name] = max(value, parity.get(name, 0.0))
    return write(graph, path, replace(manifest, parity=parity))


def planted(source, path, layer, *, honest):
    """Multiply one layer's weight scales by 4; ``honest``: with a manifest whose hash was made to fit."""
    graph = onnx.load(source)
    (scale,) = [w for w in graph.graph.initializer if w.name.endswith(f"{layer}_scale")]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(4), scale.name))
    manifest = Manifest.from_json(manifest_path(source).read_text())
    write(graph, path, manifest)
    if not honest:
        manifest_path(path).write_text(manifest.to_json())
    return path


def words(verb, path, *more):
    if verb == "verify":
        return ["verify", str(path), "--against", str(bundle().checkpoint), "--images", str(PICTURES / "images"), *more]
    annotated = ["--annotations", str(PICTURES / "instances.json"), "--images", str(PICTURES / "images")]
    return ["eval", str(path), "--baseline", str(bundle().artefact), "--max-drop", "1.5", *annotated, *more]


@pytest.mark.slow
def test_the_sound_file_passes(quantised, capsys):
    assert main(words("verify", quantised, "--limit", "10", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdicts"] == dict.fromkeys(document["verdicts"], True)
    assert document["precision"] == "int8"
    assert main(words("eval", quantised, "--limit", "10")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layers_scale_times_4_is_caught_by_verify(quantised, layer, tmp_path):
    path = planted(quantised, tmp_path / "planted.int8.onnx", layer, honest=True)
    found = verify(path, bundle().checkpoint, PICTURES / "images", limit=6)
    assert found.verdicts["preprocess"]
    assert found.verdicts["decode"]
    assert not (found.verdicts["network"] and found.verdicts["instances"]), found.verdict
    assert not found.verdicts["manifest"]  # what the exporter recorded is not what the file does


@pytest.mark.slow
def test_both_verbs_end_with_3(quantised, tmp_path, capsys):
    path = planted(quantised, tmp_path / "planted.int8.onnx", LAYERS[0], honest=True)
    assert main(words("verify", path, "--limit", "3", "--worst-pictures", str(tmp_path / "worst"))) == 3
    out = capsys.readouterr().out
    assert "failed: " in out
    assert "worst-01-" in out
    assert main(words("eval", path, "--limit", "12")) == 3
    assert "FAILED: planted.int8.onnx is" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["verify", "eval"])
def test_the_manifest_refuses_a_file_that_was_changed(quantised, verb, tmp_path, capsys):
    path = planted(quantised, tmp_path / "planted.int8.onnx", LAYERS[0], honest=False)
    assert main(words(verb, path)) == 2
    assert "has SHA-256" in capsys.readouterr().err
