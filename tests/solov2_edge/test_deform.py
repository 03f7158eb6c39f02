"""Deformable convolution against ONNX's reference evaluator and against an ordinary convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional

from solov2_edge.deform import DeformConv2d, deform_conv2d, split_offset


def _onnx_deform_conv(x: np.ndarray, offset: np.ndarray, w: np.ndarray, mask: np.ndarray, stride: int) -> np.ndarray:
    node = helper.make_node(
        "DeformConv", ["x", "w", "offset", "b", "mask"], ["y"], kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2
    )
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "w", "offset", "b", "mask")]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    feeds = {"x": x, "w": w, "offset": offset, "b": np.zeros(len(w), np.float32), "mask": mask}
    out: np.ndarray = ReferenceEvaluator(model).run(None, feeds)[0]
    return out


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("flavour", ["v1", "v2"])
def test_equals_the_onnx_reference(flavour: str, stride: int) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 2, 7, 8), (3, 2, 3, 3)))
    out_h, out_w = -(-7 // stride), -(-8 // stride)
    # Offsets of several pixels reach across every border.
    offset = (rng.standard_normal((1, 18, out_h, out_w)) * 3).astype(np.float32)
    mask = np.ones((1, 9, out_h, out_w), np.float32)
    if flavour == "v2":
        mask = rng.random(mask.shape).astype(np.float32)
    got = deform_conv2d(
        *map(torch.from_numpy, (x, offset, w)), stride, 1, torch.from_numpy(mask) if flavour == "v2" else None
    )
    np.testing.assert_allclose(got.numpy(), _onnx_deform_conv(x, offset, w, mask, stride), atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_fresh_v1_layer_is_an_ordinary_convolution(stride: int) -> None:
    layer, x = DeformConv2d(4, 5, stride), torch.randn(2, 4, 9, 11)
    expected = functional.conv2d(x, layer.weight, stride=stride, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_channels_2t_and_2t_plus_1_are_dy_and_dx_of_tap_t() -> None:
    x = torch.arange(30.0).view(1, 1, 5, 6)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 2] = 1  # tap 2: up one, right one
    offset = torch.zeros(1, 18, 5, 6)
    offset[:, 4], offset[:, 5] = 2.0, -1.0  # down two, left one: from (-1, +1) to (+1, 0)
    got = deform_conv2d(x, offset, weight, 1, 1)
    torch.testing.assert_close(got[0, 0, :4], x[0, 0, 1:])
    assert (got[0, 0, 4] == 0).all()  # below the last row there is nothing


def test_modulation_is_the_sigmoid_of_the_last_nine_channels() -> None:
    predicted = torch.randn(1, 27, 2, 2)
    offset, modulation = split_offset(predicted, "v2")
    assert modulation is not None
    torch.testing.assert_close(offset, predicted[:, :18])
    torch.testing.assert_close(modulation, predicted[:, 18:].sigmoid())
    assert split_offset(predicted[:, :18], "v1")[1] is None


def test_gradients() -> None:
    torch.manual_seed(0)
    x, w = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((1, 2, 4, 4), (2, 2, 3, 3)))
    offset = (torch.rand(1, 18, 4, 4, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()  # away from the kinks
    modulation = torch.rand(1, 9, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: deform_conv2d(a[0], a[1], a[2], 1, 1, a[3]), (x, offset, w, modulation))


@pytest.mark.parametrize("flavour", ["v1", "v2"])
def test_memory_format_changes_nothing(flavour: str) -> None:
    torch.manual_seed(0)
    layer, x = DeformConv2d(4, 5, 2, flavour), torch.randn(2, 4, 9, 11)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.5)
    expected = layer(x)
    got = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # torch's stub lacks it
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
