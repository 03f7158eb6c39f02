"""The network that fine-tuning trains against the int8 file that is exported from it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from solov2_edge.converters import onnx_quantise
from solov2_edge.converters.calibration import read_calibration
from solov2_edge.converters.onnx_large_norms import large_norms_by_sums
from solov2_edge.converters.to_onnx import export_onnx
from solov2_edge.manifest import OUTPUT_NAMES, InputContract
from solov2_edge.model import SOLOv2
from solov2_edge.qat import rounded_network
from solov2_edge.qat_network import RoundedSOLOv2
from solov2_edge.qat_rules import RULES
from solov2_edge.qat_steps import weights_on_steps

SIZE = (64, 96)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    """Smooth random pictures; the files are read as frames by the tests as well."""
    folder, rng = tmp_path_factory.mktemp("smooth"), np.random.default_rng(0)
    for number in range(8):
        noise = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3)).astype(np.float32), (0, 0), 1.5)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX))
    return read_calibration(folder, allow_small=True)


def _rounded(model: SOLOv2, target: str, calibration) -> RoundedSOLOv2:
    batches = calibration.batches(model.spec, InputContract("tensor", *SIZE))
    return rounded_network(model.spec, model.state_dict(), target, map(torch.from_numpy, batches)).eval()


def _outputs(network: SOLOv2, batch: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        logits, kernels, features = network(torch.from_numpy(batch))
    return [logits[0].sigmoid().numpy(), kernels[0].numpy(), features[0].numpy()]


def _unpredicted(path: Path, model: SOLOv2, network: RoundedSOLOv2, calibration) -> float:
    """Return the part of the file's noise that ``network`` does not have, rms over rms: the median of the pictures.

    The file is computed as it says, without ONNX Runtime's optimisations: those skip roundings of their own.
    Resized integers often lie exactly between two steps. Float32's own rounding then decides, and one integer that
    falls the other way changes everything behind a group norm: such pictures say nothing of where rounding stands.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    parts = []
    pairs = (calibration.batches(model.spec, InputContract(kind, *SIZE)) for kind in ("image", "tensor"))
    for picture, batch in zip(*pairs, strict=True):
        file = session.run(list(OUTPUT_NAMES), {"image": picture})
        rounded, exact = (np.sqrt(_squares(file, _outputs(n, batch))) for n in (network, model))
        parts.append(rounded / exact)
    return float(np.median(parts))


def _squares(some: list[np.ndarray], others: list[np.ndarray]) -> np.ndarray:
    return np.array([np.square(a - b).sum() for a, b in zip(some, others, strict=True)])


@pytest.fixture(scope="module")
def export(specs, make_model, calibration, tmp_path_factory):
    """Return a function: name of a spec, target -> model, network with rounding, int8 file; each made once.

    The model's weights are on steps, as fine-tuning leaves them: the exporter finds nothing to round otherwise.

    ``literal`` leaves out the rewritings that move the shifts of group norms by up to half a step and that give few
    class scores unrounded.
    """
    made = {}

    def exported(name: str, target: str, *, literal: bool = True) -> tuple[SOLOv2, RoundedSOLOv2, Path]:
        key = (name, target, literal)
        if key not in made:
            model, path = make_model(specs[name]), tmp_path_factory.mktemp(name) / "x.onnx"
            model.load_state_dict(weights_on_steps(_rounded(model, target, calibration)))
            options = {"precision": "int8", "target": target, "calibration": calibration}
            with pytest.MonkeyPatch.context() as patch:
                if literal:
                    patch.setitem(onnx_quantise.LAST_FORMS, "cpu", (large_norms_by_sums,))
                export_onnx(model, path, height=SIZE[0], width=SIZE[1], **options)
            made[key] = (model, _rounded(model, target, calibration), path)
        return made[key]

    return exported


@pytest.mark.parametrize(("name", "target"), [("plain", "cpu"), ("plain", "tensorrt"), ("v2", "cpu")])
def test_the_trained_network_computes_what_the_exported_file_says(name, target, export, calibration):
    """At most a seventh of the noise between float and int8 (a fiftieth of its power) is left unpredicted."""
    model, network, path = export(name, target)
    assert _unpredicted(path, model, network, calibration) < 1 / 7


def test_the_file_for_cpus_is_predicted_up_to_the_shifts_of_group_norms(export, calibration):
    model, network, path = export("plain", "cpu", literal=False)
    assert _unpredicted(path, model, network, calibration) < 1 / 2


@pytest.mark.parametrize("target", RULES)
def test_every_rounding_of_the_file_has_its_place_in_the_network(target, export):
    _, network, path = export("plain", target)
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    in_file = {
        (round(float(np.log(stored[node.input[1]])), 2), int(stored[node.input[2]]))
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    here = {(round(float(np.log(scale.step)), 2), scale.zero) for scale in network.scales.values()}
    assert here == in_file


def test_methods_and_targets_are_the_exporters():
    """OpenVINO's form has none of its own: it rounds as that for CPUs does, the picture apart."""
    methods = {"openvino": RULES["cpu"].method, **{name: rules.method for name, rules in RULES.items()}}
    assert methods == onnx_quantise.METHOD_FOR
