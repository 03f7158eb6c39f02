"""A planted bad quantisation, one layer's scale times 4 in an int8 file as it ships, and who notices."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from onnx import numpy_helper

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.cli import main
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.tflite_graph import read_graph
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.converters.to_tflite import export_tflite
from solov2_edge.converters.verify import verify
from solov2_edge.manifest import Manifest, manifest_path, sha256_of, size_of

PICTURES = Path(__file__).parents[2] / "tests" / "data" / "nuclei_val"
LAYERS = {
    "onnx": ("backbone.layer1.0.conv1.weight", "neck.lateral_convs.1.conv.weight", "mask_head.conv_kernel.weight"),
    "tflite": ("conv02", "conv10", "conv16"),
}
CASES = [(name, layer) for name, layers in LAYERS.items() for layer in layers]
EXPORTERS = {"onnx": export_onnx, "tflite": export_tflite}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """Return a function: format -> the bundled model's int8 file in it, made once."""
    folder, made = tmp_path_factory.mktemp("quantised"), {}

    def of(name):
        if name not in made:
            (model, checkpoint), made[name] = load_model(bundle().checkpoint), folder / f"sound.int8.{name}"
            pictures = read_calibration(bundle().calibration, limit=32)
            given = {"precision": "int8", "calibration": pictures, "source_sha256": checkpoint.sha256}
            EXPORTERS[name](model, made[name], height=448, width=448, **given)
        return made[name]

    return of


def planted(source, path, layer, *, honest):
    """Multiply one layer's weight scales by 4; ``honest``: with a manifest whose hash was made to fit."""
    path.write_bytes((_in_onnx if source.suffix == ".onnx" else _in_tflite)(source.read_bytes(), layer))
    manifest = Manifest.from_json(manifest_path(source).read_text())
    if honest:
        manifest = replace(manifest, sha256=sha256_of(path), size_bytes=size_of(path))
    manifest_path(path).write_text(manifest.to_json())
    return path


def _in_onnx(data, layer):
    graph = onnx.load_from_string(data)
    (step,) = [tensor for tensor in graph.graph.initializer if tensor.name == f"network.{layer}_step"]
    step.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(step) * np.float32(4), step.name))
    return graph.SerializeToString()


def _in_tflite(data, name):
    model, graph = read_graph(data)
    (layer,) = [layer for layer in graph.layers if layer.name == name]
    weights = model.subgraphs[0].tensors[graph.operators[layer.operator].inputs[1]]
    assert len(weights.quantization.scale) == layer.weights[0]  # one per output channel
    weights.quantization.scale = np.asarray(weights.quantization.scale, np.float32) * 4
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def words(verb, path, *more):
    if verb == "verify":
        return ["verify", str(path), "--against", str(bundle().checkpoint), "--images", str(PICTURES / "images"), *more]
    annotated = ["--annotations", str(PICTURES / "instances.json"), "--images", str(PICTURES / "images")]
    return ["eval", str(path), "--baseline", str(bundle().artefact), "--max-drop", "1.5", *annotated, *more]


@pytest.mark.parametrize("name", LAYERS)
def test_the_sound_file_passes(name, quantised, capsys):
    path = quantised(name)
    assert main(words("verify", path, "--limit", "10", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdicts"] == dict.fromkeys(document["verdicts"], True)
    assert (document["precision"], document["generated"]["frames"]) == ("int8", 2)
    assert main(words("eval", path, "--limit", "10")) == 0


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_a_layers_scale_times_4_is_caught_by_verify(name, layer, quantised, tmp_path):
    """With the hash made to fit: the checkpoint contradicts, and so does what the exporter recorded."""
    path = planted(quantised(name), tmp_path / f"planted.int8.{name}", layer, honest=True)
    found = verify(path, bundle().checkpoint, PICTURES / "images", limit=6)
    assert found.verdicts["preprocess"]
    assert found.verdicts["decode"]
    assert not (found.verdicts["network"] and found.verdicts["instances"]), found.verdict
    assert not found.verdicts["manifest"]


@pytest.mark.parametrize("name", LAYERS)
def test_both_verbs_end_with_3(name, quantised, tmp_path, capsys):
    path = planted(quantised(name), tmp_path / f"planted.int8.{name}", LAYERS[name][0], honest=True)
    assert main(words("verify", path, "--limit", "3", "--worst-pictures", str(tmp_path / "worst"))) == 3
    out = capsys.readouterr().out
    assert "failed: " in out
    assert "manifest FAILED" in out
    assert "worst-01-" in out
    assert main(words("eval", path, "--limit", "12")) == 3
    assert f"FAILED: planted.int8.{name} is" in capsys.readouterr().out


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("verb", ["verify", "eval"])
def test_the_manifest_refuses_a_file_that_was_changed(name, verb, quantised, tmp_path, capsys):
    path = planted(quantised(name), tmp_path / f"planted.int8.{name}", LAYERS[name][0], honest=False)
    assert main(words(verb, path)) == 2
    assert "has SHA-256" in capsys.readouterr().err
