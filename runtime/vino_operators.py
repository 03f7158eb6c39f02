"""Two operators of our .onnx files that OpenVINO cannot read by itself, put together from its own.

OpenVINO 2026.4 knows no DeformConv, which its own deformable convolution computes, and reads the scales of a depthwise
QLinearConv along the wrong axis. The only QLinearConv that ``solov2-edge convert`` writes scales the integers of each
channel by itself (see converters/onnx_large_norms.py), so no convolution is needed for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solov2_edge.errors import InputError
from solov2_edge.runtime.vino_import import frontend, openvino

__all__ = ["extensions"]

ops: Any = openvino.opset13
LARGEST = 255.0  # of the uint8 that is rounded to
ABSENT = "NullNode"  # what stands for an optional input left out


def extensions() -> list[Any]:
    """Return what :meth:`openvino.Core.add_extension` takes."""
    extension = frontend.ConversionExtension
    return [extension("DeformConv", _deform_conv), extension("QLinearConv", _scaled_integers)]


def _deform_conv(node: Any) -> list[Any]:
    """Translate ONNX DeformConv (opset 19 and 22): data, weight, offsets, and perhaps bias and modulation."""
    data, weight, offsets = (node.get_input(place) for place in range(3))
    bias, modulation = _optional(node, 3), _optional(node, 4)
    pads = list(node.get_attribute("pads", [0, 0, 0, 0]))
    result = openvino.opset8.deformable_convolution(
        data,
        offsets,
        weight,
        list(node.get_attribute("strides", [1, 1])),
        pads[:2],
        pads[2:],
        list(node.get_attribute("dilations", [1, 1])),
        modulation,
        "EXPLICIT",
        node.get_attribute("group", 1),
        node.get_attribute("offset_group", 1),
        True,  # samples beside the border count as zero, each by itself, as in ONNX
    )
    if bias is not None:
        result = ops.add(result, _per_channel(bias))
    return list(result.outputs())


def _scaled_integers(node: Any) -> list[Any]:
    """Translate a depthwise 1x1 QLinearConv of uint8 to uint8: round((x - x0) * w * scale + bias * scale) + y0."""
    if node.get_input_size() != 9:
        raise InputError("a QLinearConv without a bias")
    pixels, step, zero, weight, weight_step, weight_zero, out_step, out_zero, bias = map(node.get_input, range(9))
    channels = weight.get_partial_shape()[0]
    sides = [side.get_length() for side in weight.get_partial_shape()]
    if sides[1:] != [1, 1, 1] or node.get_attribute("group", 1) != channels.get_length():
        raise InputError("a QLinearConv that is not depthwise and 1x1")
    factors = ops.subtract(_float(_flat(weight)), _float(_flat(weight_zero)))
    whole = ops.multiply(ops.subtract(_float(pixels), _float(zero)), _per_channel(factors))
    whole = ops.add(whole, _per_channel(_float(bias)))
    scale = ops.divide(ops.multiply(step, _flat(weight_step)), out_step)
    rounded = ops.round(ops.multiply(whole, _per_channel(scale)), "half_to_even")
    raised = ops.clamp(ops.add(rounded, _float(out_zero)), 0.0, LARGEST)
    return list(ops.convert(raised, "u8").outputs())


def _optional(node: Any, place: int) -> Any | None:
    if place >= node.get_input_size():
        return None
    found = node.get_input(place)
    return None if found.get_node().get_type_name() == ABSENT else found


def _float(value: Any) -> Any:
    return ops.convert(value, "f32")


def _flat(value: Any) -> Any:
    return ops.reshape(value, np.array([-1]), False)


def _per_channel(value: Any) -> Any:
    """Reshape (C) to (1, C, 1, 1)."""
    return ops.reshape(value, np.array([1, -1, 1, 1]), False)
