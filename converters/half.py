"""float16: a graph pass that stores weights and activations in half, with float32 where half cannot hold the values.

Our own pass, because it must know which values need float32 here: the preprocessing (pixel values less a mean want
more than 11 bits), the normalisations (the sum of squares overflows 65504), sampling grids (a coordinate of a wide map
wants more than 11 bits) and the outputs, which the contract gives as float32.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from solov2_edge.errors import GateError

__all__ = ["rounded_everywhere", "to_half"]

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
FLOAT_OPERATORS = ("InstanceNormalization", "GroupNormalization", "GridSample", "Cast")
CONVOLUTIONS = ("Conv", "DeformConv")  # where the half region begins, seen from an input or a sampling grid
LARGEST_HALF = 65504.0


def to_half(model: ModelProto) -> ModelProto:
    """Return a float16 copy of a float32 graph; its inputs and outputs keep their types.

    Raises:
        GateError: a weight lies outside the range of float16.
    """
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return _HalfWriter(inferred).write(model)


def rounded_everywhere(model: ModelProto) -> ModelProto:
    """Return a copy of a float16 graph that shows on a CPU what it does where float16 is real.

    ONNX Runtime has few float16 kernels on the CPU: it computes in float32 and drops the casts between neighbours, so
    that a value beyond 65504 passes unseen and nothing is rounded. An Identity behind every float16 value keeps the
    casts apart. To be run with graph optimisations disabled, which would remove it.
    """
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    half = {value.name for value in inferred.value_info if value.type.tensor_type.elem_type == HALF}
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    for node in model.graph.node:
        new = result.graph.node.add()
        new.CopyFrom(node)
        for position, name in enumerate(node.output):
            if name in half:
                new.output[position] = f"{name}_unrounded"
                result.graph.node.append(helper.make_node("Identity", [f"{name}_unrounded"], [name]))
    return result


class _HalfWriter:
    """Walks the nodes in order, giving each inputs of the type it computes in."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.weights = {weight.name: weight for weight in graph.initializer}
        self.originally_float = {name for name, weight in self.weights.items() if weight.data_type == FLOAT}
        values = [*graph.value_info, *graph.input, *graph.output]
        self.originally_float |= {value.name for value in values if value.type.tensor_type.elem_type == FLOAT}
        self.outputs = {value.name for value in graph.output}
        self.half: set[str] = set()  # tensors that are float16 in the new graph
        self.stored: dict[str, TensorProto] = {}
        self.nodes: list[NodeProto] = []
        self.casts: dict[tuple[str, int], str] = {}
        inputs = {value.name for value in graph.input}
        self.float_nodes = _float_nodes(list(graph.node), inputs, self.outputs, set(self.weights))

    def write(self, model: ModelProto) -> ModelProto:
        """Return ``model`` with the new nodes and weights."""
        for index, node in enumerate(model.graph.node):
            self._add(node, HALF if index not in self.float_nodes else FLOAT)
        result = ModelProto()
        result.CopyFrom(model)
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(self.nodes)
        result.graph.initializer.extend(self.stored.values())
        return result

    def _add(self, node: NodeProto, compute: int) -> None:
        """Append ``node`` computing in ``compute``, with the casts it needs before and, for an output, behind."""
        new = NodeProto()
        new.CopyFrom(node)
        for position, name in enumerate(node.input):
            # The scales and the region of interest of a Resize are float32 whatever it resizes.
            untouched = name not in self.originally_float or (node.op_type == "Resize" and position in (1, 2))
            if name:
                new.input[position] = self._value(name, None if untouched else compute)
        renamed = []
        for position, name in enumerate(node.output):
            if compute == HALF and name in self.originally_float:
                if name in self.outputs:
                    new.output[position] = f"{name}_half"
                    renamed.append(name)
                else:
                    self.half.add(name)
        self.nodes.append(new)
        for name in renamed:
            self.nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=FLOAT))

    def _value(self, name: str, wanted: int | None) -> str:
        """Return the name of ``name`` as type ``wanted`` (None: as it is), adding a weight or a cast once."""
        if name in self.weights:
            return self._weight(name, wanted)
        have = HALF if name in self.half else FLOAT
        if wanted is None or wanted == have:
            return name
        if (name, wanted) not in self.casts:
            cast = f"{name}_as_{'half' if wanted == HALF else 'float'}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], name=f"{cast}_cast", to=wanted))
            self.casts[name, wanted] = cast
        return self.casts[name, wanted]

    def _weight(self, name: str, wanted: int | None) -> str:
        weight = self.weights[name]
        if wanted != HALF:
            self.stored[name] = weight
            return name
        stored = f"{name}_half"
        if stored not in self.stored:
            values = numpy_helper.to_array(weight)
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= LARGEST_HALF:
                raise GateError(f"{name} holds {largest:g}, beyond float16's {LARGEST_HALF:g}; convert to fp32 instead")
            self.stored[stored] = numpy_helper.from_array(values.astype(np.float16), stored)
        return stored


def _float_nodes(nodes: list[NodeProto], inputs: set[str], outputs: set[str], weights: set[str]) -> set[int]:
    """Return the indices of the nodes that compute in float32."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output}
    found = set()
    preprocessed = set(inputs)
    for index, node in enumerate(nodes):
        computed = {name for name in node.input if name and name not in weights}
        if node.op_type not in CONVOLUTIONS and computed and computed <= preprocessed:
            preprocessed.update(node.output)
            found.add(index)
        if node.op_type in FLOAT_OPERATORS or (node.op_type == "Sigmoid" and node.output[0] in outputs):
            found.add(index)
        if node.op_type == "GridSample":
            found |= _back_to_convolution(node.input[1], nodes, producer)
    return found


def _back_to_convolution(name: str, nodes: list[NodeProto], producer: dict[str, int]) -> set[int]:
    """Return the nodes that ``name`` is computed by, back to and without the nearest convolutions."""
    waiting, seen = [name], set[int]()
    while waiting:
        index = producer.get(waiting.pop())
        if index is not None and index not in seen and nodes[index].op_type not in CONVOLUTIONS:
            seen.add(index)
            waiting.extend(nodes[index].input)
    return seen
