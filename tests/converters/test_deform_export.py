"""DCN in ONNX against PyTorch's own, onnx's reference evaluator and ONNX Runtime: v1 and v2, stride 1 and 2."""

import copy
from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from solov2_edge.converters.deform_export import replace_deform_convs, translation_table
from solov2_edge.converters.onnx_trace import quiet_exporter
from solov2_edge.deform import DeformConv2d

CASES = [("v1", 1), ("v1", 2), ("v2", 1), ("v2", 2)]


class AllCases(nn.Module):
    """One deformable convolution per case, so that one export covers them all."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.convolutions = nn.ModuleList(DeformConv2d(3, 4, stride, flavour) for flavour, stride in CASES)
        for convolution in self.convolutions:
            # Offsets of several pixels: many samples fall outside the image.
            nn.init.normal_(convolution.conv_offset.weight, std=0.4)
            nn.init.normal_(convolution.conv_offset.bias, std=2.0)

    def forward(self, images):
        return tuple(convolution(images) for convolution in self.convolutions)


@pytest.fixture(scope="module")
def network():
    return AllCases().eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(3))


def exported(network, images, lowering, opset):
    rewritten = copy.deepcopy(network)
    assert replace_deform_convs(rewritten, lowering) == len(CASES)
    with quiet_exporter():
        program = torch.onnx.export(
            rewritten,
            (images,),
            dynamo=True,
            opset_version=opset,
            verbose=False,
            input_names=["images"],
            custom_translation_table=translation_table(),
        )
    return program.model_proto


@pytest.fixture(scope="module")
def graphs(network, images):
    return {
        "native": exported(network, images, "native", 19),
        "lowered": exported(network, images, "lowered", 18),
    }


@pytest.mark.parametrize("lowering", ["native", "lowered"])
def test_rewriting_keeps_the_function(network, images, lowering):
    rewritten = copy.deepcopy(network)
    replace_deform_convs(rewritten, lowering)
    with torch.no_grad():
        for got, expected in zip(rewritten(images), network(images), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lowering", ["native", "lowered"])
def test_onnx_runtime_agrees(graphs, network, images, lowering):
    session = onnxruntime.InferenceSession(graphs[lowering].SerializeToString(), providers=["CPUExecutionProvider"])
    check(session.run(None, {"images": images.numpy()}), network, images)


def test_the_reference_evaluator_agrees(graphs, network, images):
    check(ReferenceEvaluator(graphs["native"]).run(None, {"images": images.numpy()}), network, images)


def check(outputs, network, images):
    with torch.no_grad():
        expected = network(images)
    for case, got, want in zip(CASES, outputs, expected, strict=True):
        assert np.ptp(want.numpy()) > 1, case
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-4 * np.ptp(want.numpy()), err_msg=str(case))


def test_operators(graphs):
    native, lowered = ({**Counter(node.op_type for node in graphs[key].graph.node)} for key in ("native", "lowered"))
    assert native["DeformConv"] == len(CASES)
    assert "DeformConv" not in lowered
    assert lowered["GridSample"] == len(CASES)
    assert all(node.domain == "" for graph in graphs.values() for node in graph.graph.node)
