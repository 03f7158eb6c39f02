"""Which values of a graph become 8-bit integers, and which parts stay float islands.

Convolutions carry the work, so they are what becomes integer; additions, maxima and moving values between two integer
convolutions follow, because converting there and back costs more than they do. Everything else stays float: group
normalisation, whose statistics and wide range do not fit eight bits, bilinear resizing, the sigmoid, coordinates
(constants, see :mod:`solov2_edge.converters.onnx_rewrites`), and offsets and sampling positions of deformable
convolutions, where a step of the grid would be a shift of the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx import NodeProto

from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.errors import require

__all__ = ["Plan", "layer_names", "layer_of", "layer_work", "make_plan"]

MOVES = ("Transpose", "Reshape", "Gather")  # what only moves values works on the integers themselves
ENDINGS = (".weight", ".weight_of_map", ".weight_of_pixels")


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes integer.

    Attributes:
        convolutions: outputs of the convolutions that become integer.
        values: names of the values that get a step and a zero, in graph order.
        same_as: value -> the value whose step and zero it shares.
        clamps: outputs of the ReLUs that a range starting at zero makes superfluous.
        moved: outputs of the nodes that move integers.
    """

    convolutions: frozenset[str]
    values: tuple[str, ...]
    same_as: dict[str, str]
    clamps: frozenset[str]
    moved: frozenset[str]


def layer_of(conv: NodeProto) -> str:
    """Return the layer a convolution belongs to, by its weight's name.

    The head's towers run on five levels with one set of weights: they are one layer, kept float or not together.
    """
    name = str(conv.input[1]).removeprefix("network.")
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name.removesuffix(".grouped").removesuffix(".conv")


def layer_names(graph: Graph) -> list[str]:
    """Return the layers that can be integer, in the order they run."""
    return list(dict.fromkeys(layer_of(conv) for conv in _candidates(graph)))


def layer_work(graph: Graph) -> dict[str, int]:
    """Return layer -> multiplications of one run, over all levels it runs on: what keeping it float costs, roughly."""
    work: dict[str, int] = {}
    for conv in _candidates(graph):
        result, weight = graph.shape(conv.output[0]), graph.constant(conv.input[1])
        assert result is not None  # sizes are fixed, so shapes are known
        assert weight is not None  # as of every candidate
        layer = layer_of(conv)
        work[layer] = work.get(layer, 0) + math.prod(result) * math.prod(weight.shape[1:])
    return work


def make_plan(
    graph: Graph, keep_float: frozenset[str] = frozenset(), *, outputs: bool = True, resized: bool = True
) -> Plan:
    """Decide what becomes integer.

    Args:
        graph: a float32 graph as the exporter's passes leave it.
        keep_float: names out of :func:`layer_names` that stay float.
        outputs: round what integer convolutions give, not only what they take: ONNX Runtime has integer
            convolutions with rounded results only; TensorRT is free to give float.
        resized: round the normalised results of integer convolutions ahead of resizing, which itself is float: their
            scale, shift and ReLU then are part of the rounding, and a quarter of the bytes is added up and turned.

    Raises:
        InputError: a name in ``keep_float`` is no layer of this graph, or nothing is left to quantise.
    """
    known = layer_names(graph)
    unknown = sorted(keep_float - set(known))
    require(not unknown, f"no layer is called {', '.join(unknown)}; the layers are {', '.join(known)}")
    chosen = [conv for conv in _candidates(graph) if layer_of(conv) not in keep_float]
    require(len(chosen) > 0, "every layer is asked to stay float; convert to fp32 or fp16")
    values: set[str] = set()
    moved: set[str] = set()
    same_as: dict[str, str] = {}

    def want(name: str) -> None:
        """Make ``name`` a value of eight bits, and what computes it integer where that follows."""
        node = graph.producer(name)
        if name in values or name in moved or (node is not None and node.op_type == "DequantizeLinear"):
            return
        if node is not None and node.op_type in MOVES and _is_computed(graph, name):
            moved.add(name)
            want(node.input[0])
            return
        values.add(name)
        if node is not None and node.op_type == "MaxPool":  # the largest of values on the grid is on the grid
            want(node.input[0])
            source = node.input[0]
            while source in moved:
                source = graph.producer(source).input[0]  # type: ignore[union-attr]  # what is moved has a producer
            same_as[name] = source
        if node is not None and node.op_type == "Relu" and graph.uses(node.input[0]) == 1:
            node = graph.producer(node.input[0])
        if node is not None and node.op_type == "Add" and _joins(graph, node):
            for source in node.input:
                want(source)

    for conv in chosen:
        want(conv.input[0])
        if outputs:
            want(_after_relu(graph, conv.output[0]))
    results = {conv.output[0] for conv in chosen}
    for resize in graph.of_type("Resize") if resized else ():
        source = _unmoved(graph, resize.input[0])
        if source is not None and source.op_type in ("Relu", "Add") and _convolved(graph, source) <= results:
            want(resize.input[0])
    order = [name for node in graph.nodes for name in node.output]
    return Plan(
        convolutions=frozenset(conv.output[0] for conv in chosen),
        values=(*sorted(values - set(order)), *(name for name in order if name in values)),
        same_as=same_as,
        clamps=frozenset(
            relu.output[0]
            for relu in graph.of_type("Relu")
            if relu.output[0] in values and graph.uses(relu.input[0]) == 1
        ),
        moved=frozenset(moved),
    )


def _candidates(graph: Graph) -> list[NodeProto]:
    """Return the convolutions that can be integer: with stored weights, of something computed, not of offsets."""
    return [
        conv
        for conv in graph.of_type("Conv")
        if graph.is_constant(conv.input[1])
        and not graph.is_constant(conv.input[0])
        and "conv_offset" not in conv.input[1]
    ]


def _is_computed(graph: Graph, name: str) -> bool:
    """Tell whether what is only moved to ``name`` comes from an operator, not from the network's input."""
    return _unmoved(graph, name) is not None


def _unmoved(graph: Graph, name: str) -> NodeProto | None:
    """Return what computes the values that are only moved to ``name``, None if they are the network's input."""
    node = graph.producer(name)
    while node is not None and node.op_type in MOVES:
        node = graph.producer(node.input[0])
    return node


def _convolved(graph: Graph, node: NodeProto) -> set[str]:
    """Return the results of convolutions, those of constants left out, that a node computes on by other operators."""
    found: set[str] = set()
    ahead = [node]
    while ahead:
        node = ahead.pop()
        if node.op_type not in ("Conv", "DeformConv"):
            ahead += [source for source in map(graph.producer, node.input) if source is not None]
        elif not graph.is_constant(node.input[0]):
            found.add(node.output[0])
    return found


def _after_relu(graph: Graph, name: str) -> str:
    """Return the output of the ReLU that alone reads ``name``, else ``name``."""
    readers = graph.consumers(name)
    return str(readers[0].output[0]) if graph.uses(name) == 1 and readers[0].op_type == "Relu" else name


def _joins(graph: Graph, add: NodeProto) -> bool:
    """Tell whether an addition joins two maps; the shift after a normalisation does not."""
    first, second = (graph.shape(name) for name in add.input)
    return first is not None and first == second and not any(graph.is_constant(name) for name in add.input)
