"""Exact rewritings of an exported ONNX graph that save every engine work, at float32 as at int8.

Each is linear algebra: convolution, bilinear resizing and addition commute, so work moves to where there is less of
it. Results change by float32 rounding only, which the parity check after each pass bounds.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, helper

from solov2_edge.converters.onnx_graph import Graph

__all__ = ["fold_division", "resize_sums_once", "split_constant_channels"]


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


def resize_sums_once(model: ModelProto) -> ModelProto:
    """Add maps before they are resized instead of after: up(a) + up(b) = up(a + b).

    The mask feature branch brings three levels from 1/8 to 1/4 scale and adds them there.
    """
    graph = Graph(model)
    while any(_merge(graph, outer) for outer in graph.of_type("Add")):
        pass
    return graph.finish()


def _merge(graph: Graph, outer: NodeProto) -> bool:
    """Rewrite Add(Add(x, up(a)), up(b)) to Add(x, up(Add(a, b))), the terms of either Add in any order."""
    for inner_name, second_name in (outer.input, outer.input[::-1]):
        inner, second = graph.producer(inner_name), graph.producer(second_name)
        if inner is None or inner.op_type != "Add" or graph.uses(inner_name) != 1:
            continue
        for other, first_name in (inner.input, inner.input[::-1]):
            first = graph.producer(first_name)
            if not _same_resize(graph, first, second):
                continue
            assert first is not None  # or the two would not be the same
            assert second is not None
            total = f"{outer.output[0]}_to_resize"
            graph.same_shape(total, first.input[0])
            merged = NodeProto()
            merged.CopyFrom(first)
            merged.input[0] = total
            graph.replace(
                outer,
                [
                    helper.make_node("Add", [first.input[0], second.input[0]], [total], name=total),
                    merged,
                    helper.make_node("Add", [other, first_name], [outer.output[0]], name=outer.name),
                ],
            )
            graph.remove(first, second, inner)
            return True
    return False


def _same_resize(graph: Graph, first: NodeProto | None, second: NodeProto | None) -> bool:
    """Tell whether two nodes, nobody else's, resize maps of one size to one size in one bilinear way."""
    nodes = [first, second]
    if any(n is None or n.op_type != "Resize" or graph.attribute(n, "mode") != b"linear" for n in nodes):
        return False
    resizes = [node for node in nodes if node is not None]
    settings = [Counter(attribute.SerializeToString() for attribute in node.attribute) for node in resizes]
    shapes = [(graph.shape(node.input[0]), graph.shape(node.output[0])) for node in resizes]
    alone = all(graph.uses(node.output[0]) == 1 for node in resizes)
    return alone and settings[0] == settings[1] and shapes[0] == shapes[1] and None not in shapes[0]
