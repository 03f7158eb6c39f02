"""An ONNX graph held for rewriting: who makes a value, who uses it, what it is, and an order that stays valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Graph"]


class Graph:
    """A working copy of a model without subgraphs; :meth:`finish` gives the rewritten model.

    Attributes:
        nodes: the nodes in a valid order.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self._stored: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs: tuple[str, ...] = tuple(output.name for output in model.graph.output)
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._index()

    def _index(self) -> None:
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._uses = Counter(name for node in self.nodes for name in node.input if name)
        self._uses.update(self.outputs)

    def of_type(self, *kinds: str) -> list[NodeProto]:
        """Return the nodes of these operators, in order."""
        return [node for node in self.nodes if node.op_type in kinds]

    def producer(self, name: str) -> NodeProto | None:
        """Return the node that computes ``name``; None for inputs and constants."""
        return self._producers.get(name)

    def consumers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read ``name``, in order."""
        return [node for node in self.nodes if name in node.input]

    def uses(self, name: str) -> int:
        """Return how often ``name`` is read, as a graph output included."""
        return self._uses[name]

    def is_constant(self, name: str) -> bool:
        """Tell whether ``name`` is stored in the file."""
        return name in self._stored

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the stored array ``name``, or None."""
        tensor = self._stored.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def store(self, name: str, value: NDArray[Any]) -> None:
        """Store a constant; storing the same name twice keeps the first."""
        if name not in self._stored:
            self._stored[name] = numpy_helper.from_array(value, name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a value of the graph as it was given, or None."""
        if self._shapes is None:
            inferred = onnx.shape_inference.infer_shapes(self._model).graph
            self._shapes = {
                value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
                for value in (*inferred.input, *inferred.value_info, *inferred.output)
            }
        return self._shapes.get(name)

    @staticmethod
    def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
        """Return the value of an attribute."""
        for attribute in node.attribute:
            if attribute.name == name:
                return helper.get_attribute_value(attribute)
        return default

    def replace(self, node: NodeProto, new: Sequence[NodeProto]) -> None:
        """Put ``new`` where ``node`` stands."""
        place = next(index for index, other in enumerate(self.nodes) if other is node)
        self.nodes[place : place + 1] = new
        self._index()

    def remove(self, *nodes: NodeProto) -> None:
        """Take nodes out whose outputs nobody needs any more."""
        gone = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in gone]
        self._index()

    def finish(self, nodes: Sequence[NodeProto] | None = None) -> ModelProto:
        """Return the model with what its outputs need: no dead node, no unused constant.

        Args:
            nodes: the nodes to take, in a valid order; default: the graph's.
        """
        needed = set(self.outputs)
        kept: list[NodeProto] = []
        for node in reversed(self.nodes if nodes is None else nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        result = ModelProto()
        result.CopyFrom(self._model)
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(reversed(kept))
        result.graph.initializer.extend(tensor for name, tensor in self._stored.items() if name in needed)
        return result
