"""DCN in TFLite's operators: v1 and v2, stride 1 and 2, samples far outside the map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from solov2_edge.converters.tflite_deform import GatheredDeformConv2d
from solov2_edge.converters.tflite_facts import read_facts
from solov2_edge.converters.tflite_lower import lower_module
from solov2_edge.deform import DeformConv2d

CASES = [("v1", 1), ("v1", 2), ("v2", 1), ("v2", 2)]


def make(flavour: str, stride: int, spread: float = 2.0) -> DeformConv2d:
    torch.manual_seed(1)
    convolution = DeformConv2d(3, 4, stride, flavour).eval().requires_grad_(False)
    # Offsets of several pixels: many samples fall outside the map.
    nn.init.normal_(convolution.conv_offset.weight, std=0.4)
    nn.init.normal_(convolution.conv_offset.bias, std=spread)
    return convolution


@pytest.fixture(scope="module")
def images():
    return torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("flavour", "stride"), CASES)
@pytest.mark.parametrize("spread", [0.0, 2.0, 1e4])
def test_rewriting_equals_pytorch(flavour, stride, spread, images):
    convolution = make(flavour, stride, spread)
    np.testing.assert_allclose(GatheredDeformConv2d(convolution)(images), convolution(images), atol=2e-6)


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (6, 3), (2, -1), (2, 8), (-1.5, 2), (5.5, 7.5), (-0.25, -0.75), (5, 7)])
def test_borders(y, x, images):
    """One tap moved to an exact place: on the border, half beyond it, on the last pixel."""
    convolution = make("v1", 1)
    nn.init.zeros_(convolution.conv_offset.weight)
    nn.init.zeros_(convolution.weight)
    convolution.weight[:, :, 1, 1] = 1.0
    convolution.conv_offset.bias[8:10] = torch.tensor([y, x])  # of the middle tap, seen from output pixel (0, 0)
    got, expected = GatheredDeformConv2d(convolution)(images), convolution(images)
    np.testing.assert_allclose(got, expected, atol=1e-6)


class _AllCases(nn.Module):
    """Every case once, between maps with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(GatheredDeformConv2d(make(*case)) for case in CASES)

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        x = rows.permute(0, 3, 1, 2)
        return {
            f"{flavour}_{stride}": convolution(x).permute(0, 2, 3, 1)
            for (flavour, stride), convolution in zip(CASES, self.convolutions, strict=True)
        }


def test_in_the_interpreter(images):
    rows = images.permute(0, 2, 3, 1).contiguous()
    model = lower_module(_AllCases(), {"rows": rows})
    outputs = Interpreter(model_content=model, num_threads=1).get_signature_runner()(rows=rows.numpy())
    for case in CASES:
        expected = make(*case)(images).permute(0, 2, 3, 1).numpy()
        assert np.abs(outputs[f"{case[0]}_{case[1]}"] - expected).max() < 1e-5 * np.ptp(expected), case
    facts = read_facts(model)
    assert (facts.ops["GATHER"], facts.ops["CONV_2D"]) == (16, 8)
    assert not {"GATHER_ND", "SELECT_V2", "TRANSPOSE"} & set(facts.ops)
    assert not facts.custom_ops
    assert facts.max_rank == 4
