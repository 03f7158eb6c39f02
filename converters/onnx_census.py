"""What an 8-bit ONNX file really holds: counts of integer convolutions, and each weight against its float original."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.errors import GateError

__all__ = ["EITHER", "NEAREST", "Census", "check_weights", "require_integers", "take_census"]

# Steps between a weight and its float original, rounded to the nearest or to either side; the excess allows for
# float32's own rounding.
NEAREST = 0.5 + 1e-3
EITHER = 1 + 1e-3


@dataclass(frozen=True, slots=True)
class Census:
    """Convolutions of a graph; those of constants, and those whose weights are computed of the picture, do not count.

    Attributes:
        integer: both inputs come out of DequantizeLinear, and the result goes into QuantizeLinear where activations
            are unsigned: what engines compute in integers. Products that Col2Im adds up count as one; see
            :mod:`solov2_edge.converters.onnx_taps`.
        floating: all others.
    """

    integer: int
    floating: int

    def __str__(self) -> str:
        return f"{self.integer} integer and {self.floating} float convolutions"


def take_census(model: ModelProto) -> Census:
    """Count the convolutions of a graph."""
    graph = Graph(model)
    convolutions = [conv for conv in graph.of_type("Conv", "DeformConv") if _is_layer(graph, conv)]
    products = [graph.producer(node.input[0]) for node in graph.of_type("Col2Im")]
    convolutions += [node for node in products if node is not None and node.op_type == "MatMul"]
    integer = sum(_is_integer(graph, conv) for conv in convolutions)
    return Census(integer, len(convolutions) - integer)


def _is_layer(graph: Graph, conv: NodeProto) -> bool:
    """Tell whether a convolution is one of the network's: of a map, by weights that are stored, as integers or not."""
    weight = graph.producer(conv.input[1])
    stored = weight is None or weight.op_type == "DequantizeLinear"
    return stored and not graph.is_constant(conv.input[0])


def _is_integer(graph: Graph, conv: NodeProto) -> bool:
    sources = [graph.producer(name) for name in conv.input[:2]]
    if conv.op_type == "DeformConv" or any(node is None or node.op_type != "DequantizeLinear" for node in sources):
        return False
    if conv.op_type == "MatMul":  # of integers it gives float
        return True
    assert sources[0] is not None  # seen above
    zero = graph.constant(sources[0].input[2])
    signed = zero is not None and zero.dtype == np.int8
    return signed or [node.op_type for node in graph.consumers(conv.output[0])] == ["QuantizeLinear"]


def require_integers(census: Census, expected: int) -> None:
    """Refuse a file that is 8-bit in name only.

    Raises:
        GateError: fewer convolutions run in integers than were planned, or none.
    """
    if census.integer < max(expected, 1):
        raise GateError(
            f"{expected} convolutions were to run in integers and {census.integer} do, of "
            f"{census.integer + census.floating}; nothing was written"
        )


def check_weights(original: ModelProto, quantised: ModelProto, within: float = NEAREST) -> None:
    """Refuse an 8-bit graph one of whose weights means something else than its float original.

    Args:
        original: the float graph.
        quantised: its QDQ form.
        within: steps that a weight may be from the original.

    Raises:
        GateError: a weight is further from the original; the message names it.
    """
    before, after = Graph(original), Graph(quantised)
    for node in after.of_type("DequantizeLinear"):
        integers, steps = after.constant(node.input[0]), after.constant(node.input[1])
        if integers is None or steps is None or integers.dtype != np.int8:
            continue
        name = node.input[0].removesuffix("_integer")
        exact = before.constant(name)
        if exact is None or exact.shape != integers.shape:
            raise GateError(f"the 8-bit weight {name} has no float original; nothing was written")
        units = steps.reshape(-1, *[1] * (exact.ndim - 1)).astype(np.float64)
        worst = float((np.abs(exact - integers * units) / units).max())
        if not worst <= within:
            raise GateError(f"the 8-bit weight {name} is {worst:.3g} steps from the float one; nothing was written")
