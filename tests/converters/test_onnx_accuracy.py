"""The bundled model's 8-bit ONNX files, one for each engine, on validation pictures that chose nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from solov2_edge.bundled import bundle
from solov2_edge.checkpoint import load_model
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_quantise import ENGINES
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.manifest import manifest_path
from solov2_edge.runtime import load
from solov2_edge.runtime.evaluate import evaluate

MAX_DROP = 0.5  # points of AP

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mask_ap(checkout):
    data = checkout / "tests/data/nuclei_val"

    def measure(path: Path, **options: str) -> float:
        with load(path, threads=1, **options) as segment:
            return evaluate(segment, data / "instances.json", data / "images").ap

    return measure


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The model at float32, and as int8 for each engine."""
    folder, (model, _) = tmp_path_factory.mktemp("bundled"), load_model(bundle().checkpoint)
    paths = {name: folder / f"{name}.onnx" for name in ("fp32", *ENGINES)}
    export_onnx(model, paths["fp32"], height=448, width=448)
    given = {"height": 448, "width": 448, "precision": "int8", "calibration": read_calibration(bundle().calibration)}
    for target in ENGINES:
        export_onnx(model, paths[target], target=target, **given)
    return paths


def test_int8_keeps_the_accuracy(exported, mask_ap):
    exact = mask_ap(exported["fp32"])
    assert exact > 53
    assert mask_ap(exported["cpu"]) > exact - MAX_DROP
    assert mask_ap(exported["tensorrt"]) > exact - MAX_DROP
    assert exported["cpu"].stat().st_size < 0.3 * exported["fp32"].stat().st_size


def test_a_trained_networks_levels_are_joined_as_integers(exported):
    graph = Graph(onnx.load(exported["cpu"]))
    assert {graph.producer(name).op_type for name in graph.outputs} == {"Sigmoid", "DequantizeLinear", "Relu"}
    assert graph.producer(graph.producer("class_scores").input[0]).op_type == "Add"  # the shift, once


def test_int8_keeps_the_accuracy_in_openvino(exported, mask_ap):
    """In the form for OpenVINO, and in that for ONNX Runtime, between whose layers OpenVINO rounds differently."""
    exact = mask_ap(exported["fp32"])
    for target in ("openvino", "cpu"):
        assert mask_ap(exported[target], engine="openvino") > exact - MAX_DROP, target


@pytest.mark.parametrize("layer", ["mask_head.kernel_convs.0.conv", "neck.fpn_convs.0.conv"])
def test_a_planted_bad_scale_costs_accuracy(layer, exported, mask_ap, tmp_path):
    """One layer's scale times four: what conversion would have refused, evaluation must notice as well."""
    model = onnx.load(exported["cpu"])
    (step,) = [
        t for t in model.graph.initializer if t.name.startswith(f"network.{layer}.weight") and t.name.endswith("_step")
    ]
    step.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(step) * np.float32(4), step.name))
    bad = tmp_path / "bad.onnx"
    onnx.save(model, bad)
    assert not manifest_path(bad).exists()
    assert mask_ap(bad) < mask_ap(exported["cpu"]) - MAX_DROP
