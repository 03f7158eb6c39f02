"""Exact rewritings of an exported ONNX graph that save every engine work, at float32 as at int8.

Each is linear algebra: a convolution of a sum is the sum of convolutions. Results change by float32 rounding only,
which the parity check after each pass bounds. What serves every format is rewritten before the export, in
:mod:`solov2_edge.converters.traceable`.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper

from solov2_edge.converters.onnx_graph import Graph

__all__ = ["fold_division", "split_constant_channels"]


def split_constant_channels(model: ModelProto) -> ModelProto:
    """Take constant input channels, the coordinates, out of convolutions: conv([x, c]) = conv(x) + conv(c).

    The second convolution has constant inputs, and engines compute it once, when they load the file. Channel counts
    are round again (48 instead of 50 for nano), which vectorised convolutions need, and coordinates take no part in
    quantisation: neither their range nor their rounding touches the features'.
    """
    graph = Graph(model)
    for conv in graph.of_type("Conv"):
        concat = graph.producer(conv.input[0])
        weight = graph.constant(conv.input[1])
        if concat is None or concat.op_type != "Concat" or weight is None or len(concat.input) != 2:
            continue
        constant = graph.constant(concat.input[1])
        if constant is None or graph.attribute(concat, "axis") != 1 or graph.attribute(conv, "group", 1) != 1:
            continue
        count = weight.shape[1] - constant.shape[1]
        layer = conv.input[1].removesuffix(".weight")
        of_map, of_constant = f"{layer}.weight_of_map", f"{layer}.weight_of_constant"
        graph.store(of_map, np.ascontiguousarray(weight[:, :count]))
        graph.store(of_constant, np.ascontiguousarray(weight[:, count:]))
        name = conv.output[0]
        sources = ([concat.input[0], of_map, *conv.input[2:]], [concat.input[1], of_constant])
        parts = [
            helper.make_node("Conv", inputs, [f"{name}_{part}"], name=f"{conv.name}_{part}")
            for inputs, part in zip(sources, ("map", "constant"), strict=True)
        ]
        for part in parts:
            part.attribute.extend(conv.attribute)
        add = helper.make_node("Add", [f"{name}_map", f"{name}_constant"], [name], name=f"{conv.name}_add")
        graph.replace(conv, [*parts, add])
    return graph.finish()


def fold_division(model: ModelProto) -> ModelProto:
    """Fold the division by the standard deviation into the first convolution: conv(x / s, W) = conv(x, W / s).

    The mean stays: padding puts zeros around the picture after it was subtracted.
    """
    graph = Graph(model)
    for conv in graph.of_type("Conv"):
        division, weight = graph.producer(conv.input[0]), graph.constant(conv.input[1])
        if division is None or division.op_type != "Div" or weight is None or graph.uses(division.output[0]) != 1:
            continue
        divisor = graph.constant(division.input[1])
        if divisor is None or divisor.size != weight.shape[1]:
            continue
        name = f"{conv.input[1].removesuffix('.weight')}.weight_of_pixels"
        graph.store(name, (weight.astype(np.float64) / divisor.reshape(1, -1, 1, 1)).astype(weight.dtype))
        new = NodeProto()
        new.CopyFrom(conv)
        new.input[0], new.input[1] = division.input[0], name
        graph.replace(conv, [new])
    return graph.finish()
