"""3x3 convolutions with few outputs, as one integer product per pixel and a sum over the nine neighbours.

ONNX Runtime lays out nine times the input for an integer convolution, however few outputs there are; class scores of
one class cost as much as sixteen. The products of each pixel with the nine taps need no such copy, and adding them up
where they belong is Col2Im. Measured for one class on 64 channels, 40 x 40, two threads: 0.17 ms down to 0.05. The
sums stay float32: class scores are not rounded to 8 bits on top.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from solov2_edge.converters.onnx_graph import Graph

__all__ = ["FEW", "few_outputs_by_taps"]

FEW = 4  # outputs up to which nine products per output and pixel are cheaper than the copy
TAPS = 9
MIDDLE = 128  # what a signed 8-bit weight is raised by: this side of an integer product is unsigned


def few_outputs_by_taps(model: ModelProto) -> ModelProto:
    """Rewrite integer 3x3 convolutions of stride 1 with at most :data:`FEW` outputs that end in float.

    Their weights stay the integers they were, and the result is no longer rounded.
    """
    graph = Graph(model)
    for conv in graph.of_type("Conv"):
        sources = [graph.producer(name) for name in conv.input]
        if len(sources) != 3 or not _is_plain(graph, conv):
            continue
        if any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            continue
        source, stored, added = sources
        assert source is not None and stored is not None and added is not None  # noqa: PT018 - seen above
        weight, steps = (graph.constant(name) for name in stored.input[:2])
        bias, units = (graph.constant(name) for name in added.input[:2])
        zero, shape = graph.constant(source.input[2]), graph.shape(conv.output[0])
        if weight is None or steps is None or bias is None or units is None or zero is None or shape is None:
            continue
        ending = _float_ending(graph, conv)
        if ending is None or len(weight) > FEW or zero.dtype != np.uint8:
            continue
        new = _products(graph, conv, source, (weight, steps), shape[2:])
        new.append(_shifted(graph, conv, bias * units, ending.output[0]))
        graph.replace(ending, new)
    return graph.finish()


def _is_plain(graph: Graph, conv: NodeProto) -> bool:
    wanted = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [1, 1], "dilations": [1, 1], "group": 1}
    defaults = {"strides": [1, 1], "dilations": [1, 1], "group": 1}
    return all(graph.attribute(conv, name, defaults.get(name)) == value for name, value in wanted.items())


def _float_ending(graph: Graph, conv: NodeProto) -> NodeProto | None:
    """Return the DequantizeLinear after a convolution, None where its integers are read by anything else."""
    node = conv
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        readers = graph.consumers(node.output[0])
        if graph.uses(node.output[0]) != 1 or readers[0].op_type != kind:
            return None
        node = readers[0]
    return node


def _products(
    graph: Graph,
    conv: NodeProto,
    source: NodeProto,
    stored: tuple[NDArray[Any], NDArray[Any]],
    shape: tuple[int, ...],
) -> list[NodeProto]:
    """Return the nodes that give ``{conv}_sums``, (1, outputs, H, W), without the bias."""
    weight, steps = stored
    name, channels = conv.name, weight.shape[1]
    # Rows: the nine taps of each output; Col2Im reads tap (y, x) of a pixel as going to (y - 1, x - 1) beside it, so
    # the tap that a convolution reads there is the opposite one.
    rows = weight[:, :, ::-1, ::-1].transpose(0, 2, 3, 1).reshape(-1, channels)
    graph.store(f"{name}_taps", (rows.astype(np.int16) + MIDDLE).astype(np.uint8))
    graph.store(f"{name}_taps_step", np.array(steps.ravel()[0], np.float32))
    graph.store(f"{name}_taps_zero", np.array(MIDDLE, np.uint8))
    graph.store(f"{name}_pixels_shape", np.array([1, channels, int(np.prod(shape))]))
    graph.store(f"{name}_picture_shape", np.array(shape))
    graph.store(f"{name}_tap_shape", np.array([3, 3]))
    taps, pixels, real, products = (f"{name}_{part}" for part in ("taps_real", "pixels", "pixels_real", "products"))
    return [
        helper.make_node("DequantizeLinear", [f"{name}_taps", f"{name}_taps_step", f"{name}_taps_zero"], [taps], taps),
        helper.make_node("Reshape", [source.input[0], f"{name}_pixels_shape"], [pixels], pixels),
        helper.make_node("DequantizeLinear", [pixels, *source.input[1:]], [real], real),
        helper.make_node("MatMul", [taps, real], [products], products),
        helper.make_node(
            "Col2Im",
            [products, f"{name}_picture_shape", f"{name}_tap_shape"],
            [f"{name}_sums"],
            f"{name}_sums",
            pads=[1] * 4,
        ),
        *_equalised(graph, name, steps.ravel()),
    ]


def _equalised(graph: Graph, name: str, steps: NDArray[Any]) -> list[NodeProto]:
    """Return what gives each output its own step instead of the first one's; nothing for one output."""
    if len(steps) == 1:
        return []
    graph.store(f"{name}_own_steps", (steps / steps[0]).astype(np.float32).reshape(1, -1, 1, 1))
    return [helper.make_node("Mul", [f"{name}_sums", f"{name}_own_steps"], [f"{name}_equal"], f"{name}_equal")]


def _shifted(graph: Graph, conv: NodeProto, bias: NDArray[Any], output: str) -> NodeProto:
    graph.store(f"{conv.name}_shift", bias.astype(np.float32).reshape(1, -1, 1, 1))
    last = f"{conv.name}_sums" if bias.size == 1 else f"{conv.name}_equal"
    return helper.make_node("Add", [last, f"{conv.name}_shift"], [output], f"{conv.name}_shifted")
