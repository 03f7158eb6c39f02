import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from solov2_edge.converters.damping import DAMPING, damped_model
from solov2_edge.converters.onnx_passes import judge
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.errors import GateError


@pytest.fixture
def unsteady(lowered, monkeypatch):
    """The lowered artefact's probes, as if every one were too noisy at full offsets."""
    probes = Probes(lowered.model, lowered.manifest.input)
    probes.damped()
    usual = Probes.judge

    def judge_steady_only(self, stage, run, precision):
        if self is probes:
            raise UnsteadyNetworkError("too noisy")
        return usual(self, stage, run, precision)

    monkeypatch.setattr(Probes, "judge", judge_steady_only)
    return probes


def test_only_offset_weights_are_scaled(lowered):
    model, damped = lowered.model.state_dict(), damped_model(lowered.model).state_dict()
    for name, value in model.items():
        expected = value * DAMPING if name.endswith("conv_offset.weight") else value
        assert torch.equal(damped[name], expected), name


def test_the_damped_graph_is_the_damped_model(lowered, unsteady):
    assert max(judge(onnx.load(lowered.path), unsteady, "the export", "fp32").values()) < 1e-4


@pytest.mark.parametrize("name", ["conv_offset.weight", "conv_offset.bias", "cls_convs.1.conv.weight"])
def test_a_fault_is_still_seen(name, lowered, unsteady):
    graph = onnx.load(lowered.path)
    weight = next(w for w in graph.graph.initializer if name in w.name)
    array = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array[::-1]), weight.name))
    with pytest.raises(GateError, match="after the export"):
        judge(graph, unsteady, "the export", "fp32")


def test_float16_is_not_excused(lowered, unsteady):
    with pytest.raises(UnsteadyNetworkError):
        judge(onnx.load(lowered.path), unsteady, "the float16 pass", "fp16")
