import numpy as np
import pytest
import torch
from torch import nn

from solov2_edge.converters.damping import damped_model
from solov2_edge.converters.parity import differences, model_outputs
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.converters.rewriting import judge_rewriting, offset_weights
from solov2_edge.converters.tflite_judge import check_graph, check_size, judge
from solov2_edge.converters.tflite_lower import lower_module
from solov2_edge.errors import GateError


@pytest.fixture(scope="module")
def probes(tflite_dcn):
    return Probes(tflite_dcn.model, tflite_dcn.traceable.contract)


@pytest.fixture
def unsteady(probes, monkeypatch):
    """The probes as if every one were too noisy at full offsets."""
    probes.damped()
    usual = Probes.judge

    def judge_steady_only(self, stage, run, precision):
        if self is probes:
            raise UnsteadyNetworkError("too noisy")
        return usual(self, stage, run, precision)

    monkeypatch.setattr(Probes, "judge", judge_steady_only)
    return probes


def stored(weight):
    """A convolution's weights as TFLite keeps them."""
    return weight.detach().permute(0, 2, 3, 1).contiguous().numpy().tobytes()


def replaced(flatbuffer, weight):
    """The model with a convolution's weights in another order."""
    content = stored(weight)
    assert flatbuffer.count(content) == 1
    return flatbuffer.replace(content, np.frombuffer(content, np.float32)[::-1].tobytes())


@pytest.mark.slow
def test_a_faithful_model_passes(tflite_dcn, probes):
    measured = judge(tflite_dcn.flatbuffer, tflite_dcn.traceable, probes, "the conversion", "fp32")
    assert 0 < max(measured.values()) < 1e-4


@pytest.mark.slow
def test_the_damped_model_is_the_damped_network(tflite_dcn, unsteady):
    measured = judge(tflite_dcn.flatbuffer, tflite_dcn.traceable, unsteady, "the conversion", "fp32")
    assert max(measured.values()) < 1e-4
    batch = unsteady.batches[0]
    apart = differences(
        model_outputs(damped_model(tflite_dcn.model), batch, "tensor"), model_outputs(tflite_dcn.model, batch, "tensor")
    )
    assert max(apart.values()) > 1e-2  # so that judging the model undamped would have failed


@pytest.mark.slow
def test_a_fault_is_seen_with_offsets_held_still(tflite_dcn, unsteady):
    tower = tflite_dcn.traceable.network.mask_head.cls_convs[0].conv.weight
    broken = replaced(tflite_dcn.flatbuffer, tower)
    with pytest.raises(GateError, match=r"after the conversion: .*class_scores"):
        judge(broken, tflite_dcn.traceable, unsteady, "the conversion", "fp32")


@pytest.mark.slow
def test_changed_offset_weights_are_missed_in_the_file(tflite_dcn, unsteady):
    broken = replaced(tflite_dcn.flatbuffer, offset_weights(tflite_dcn.traceable)[0])
    with pytest.raises(GateError, match="offset convolution are not in the model"):
        judge(broken, tflite_dcn.traceable, unsteady, "the conversion", "fp32")


@pytest.mark.slow
def test_float16_is_not_excused(tflite_dcn, unsteady):
    with pytest.raises(UnsteadyNetworkError):
        judge(tflite_dcn.flatbuffer, tflite_dcn.traceable, unsteady, "going to fp16", "fp16")


@pytest.mark.slow
def test_a_wrong_rewriting_is_named(tflite_dcn, unsteady):
    said = []
    judge_rewriting(tflite_dcn.traceable, unsteady, said.append)
    assert "held still" in said[0]
    weight = tflite_dcn.traceable.network.mask_head.conv_kernel.bias
    with torch.no_grad():
        weight += 1
        try:
            with pytest.raises(GateError, match=r"after rewriting the network.*kernels"):
                judge_rewriting(tflite_dcn.traceable, unsteady, said.append)
        finally:
            weight -= 1


def test_what_is_no_model_is_refused(tflite_plain):
    probes = Probes(tflite_plain.model, tflite_plain.traceable.contract)
    with pytest.raises(GateError, match="LiteRT cannot run the model after the conversion"):
        judge(b"\x1c\0\0\0TFL3" + bytes(200), tflite_plain.traceable, probes, "the conversion", "fp32")


def test_weights_stored_twice_are_refused(tflite_plain):
    numbers = tflite_plain.traceable.numbers
    check_size(tflite_plain.flatbuffer, numbers, 4)
    copies = numbers + sum(weight.numel() for weight in tflite_plain.traceable.network.mask_head.cls_convs.parameters())
    grown = tflite_plain.flatbuffer + bytes(4 * 4 * copies)
    with pytest.raises(GateError, match="stored more than once"):
        check_size(grown, numbers, 4)


class _Unfit(nn.Module):
    """Rank 5 and transposes in the middle."""

    def forward(self, x):
        middle = torch.softmax(x, 2).reshape(1, 2, 3, 2, 4).permute(0, 2, 4, 1, 3)
        return {"y": torch.softmax(middle.reshape(1, 12, 4), 2)}


def test_a_graph_delegates_refuse():
    model = lower_module(_Unfit(), {"x": torch.randn(1, 6, 8)})
    with pytest.raises(GateError, match=r"tensors of rank 5 and 1 transposes inside the network.*nothing was written"):
        check_graph(model)


def test_a_graph_delegates_take(tflite_plain):
    facts = check_graph(tflite_plain.flatbuffer)
    assert facts.ops["TRANSPOSE"] == 1  # of the mask features, to the contract's order
    assert facts.ops["CONV_2D"] == 58
    assert facts.kernels == {("CONV_2D", "float32", "float32"): 58}
    assert not {"BROADCAST_TO", "GATHER_ND", "BATCH_MATMUL"} & set(facts.ops)
