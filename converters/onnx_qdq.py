"""Writing a float graph in QDQ form: QuantizeLinear and DequantizeLinear around what a plan makes integer.

Engines fuse DequantizeLinear, convolution, QuantizeLinear into one integer convolution; what a file means stays
readable from its nodes, and an engine without a kernel for something still computes it, in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_islands import Plan, layer_of
from solov2_edge.converters.scale import Scale, quantise_weight, scale_of
from solov2_edge.errors import GateError

__all__ = ["Scale", "quantise_weight", "scale_of", "write_qdq"]

BIAS_LIMIT = 2**31 - 1


def write_qdq(model: ModelProto, plan: Plan, scales: Mapping[str, Scale]) -> ModelProto:
    """Return the graph in QDQ form.

    Biases become int32 where activations are uint8; TensorRT takes them as float.

    Args:
        model: the float32 graph ``plan`` was made for.
        plan: what becomes integer.
        scales: of every value of the plan.

    Raises:
        GateError: a bias is too large for its scale.
    """
    return _Writer(Graph(model), plan, scales).write()


class _Writer:
    """The graph in the making: nodes so far, and what each quantised value is called after rounding."""

    def __init__(self, graph: Graph, plan: Plan, scales: Mapping[str, Scale]) -> None:
        self._graph, self._plan, self._scales = graph, plan, scales
        self._values = frozenset(plan.values)
        self._nodes: list[NodeProto] = []
        self._real: dict[str, str] = {}  # value -> its dequantised version
        self._integers: dict[str, tuple[str, str, str]] = {}  # value -> names of its integers, step and zero

    def write(self) -> ModelProto:
        for node in self._graph.of_type("DequantizeLinear"):  # of the picture, which is integer from the start
            self._integers[node.output[0]] = (node.input[0], node.input[1], node.input[2])
        for name in self._plan.values:
            if self._graph.producer(name) is None:
                self._round(name, name)
        for node in self._graph.nodes:
            self._add(node)
        return self._graph.finish(self._nodes)

    def _add(self, node: NodeProto) -> None:
        new, output = NodeProto(), node.output[0]
        new.CopyFrom(node)
        if output in self._plan.moved:
            integers, step, zero = self._integers[node.input[0]]
            new.input[0], new.output[0] = integers, f"{output}_integer"
            self._nodes.append(new)
            self._dequantise(output, new.output[0], step, zero)
            return
        for position, name in enumerate(node.input):
            new.input[position] = self._real.get(name, name)
        if output in self._plan.convolutions:
            self._weigh(node, new)
        if output in self._plan.clamps and not self._scales[output].signed:
            # Rounding to a range that starts at zero is the ReLU: what is negative becomes zero.
            self._round(new.input[0], output)
            return
        self._nodes.append(new)
        if output in self._values:
            self._round(output, output)

    def _round(self, source: str, value: str) -> None:
        """Append the pair that rounds ``source``, under the name of ``value``."""
        scale = self._scales[value]
        integers, step, zero = (f"{value}_{part}" for part in ("integer", "step", "zero"))
        self._graph.store(step, np.array(scale.step, np.float32))
        self._graph.store(zero, np.array(scale.zero, np.int8 if scale.signed else np.uint8))
        self._nodes.append(helper.make_node("QuantizeLinear", [source, step, zero], [integers], name=f"{value}_round"))
        self._dequantise(value, integers, step, zero)

    def _dequantise(self, value: str, integers: str, step: str, zero: str) -> None:
        real = f"{value}_real"
        self._nodes.append(helper.make_node("DequantizeLinear", [integers, step, zero], [real], name=real))
        self._real[value], self._integers[value] = real, (integers, step, zero)

    def _weigh(self, node: NodeProto, new: NodeProto) -> None:
        """Give a convolution its weights, and where the activations are unsigned its bias, as integers."""
        weight = self._graph.constant(node.input[1])
        assert weight is not None  # the plan takes only convolutions with stored weights
        integers, steps = quantise_weight(weight)
        new.input[1] = self._stored(node.input[1], integers, steps)
        _, step, zero = self._integers[node.input[0]]
        bias = self._graph.constant(node.input[2]) if len(node.input) > 2 else None
        kind, unit = self._graph.constant(zero), self._graph.constant(step)
        assert kind is not None
        assert unit is not None  # both were stored with the value
        if bias is None or kind.dtype != np.uint8:
            return
        # The bias joins the sum of products, so its step is theirs; it differs from one use to the next.
        products = float(unit) * steps.astype(np.float64)
        rounded = np.rint(bias.astype(np.float64) / products)
        if np.abs(rounded).max(initial=0) > BIAS_LIMIT:
            raise GateError(
                f"the bias of {layer_of(node)} does not fit 32 bits beside its weights of step {products.min():.1g}; "
                "keep this layer float"
            )
        name = f"{node.input[2]}_of_{node.output[0]}"
        new.input[2] = self._stored(name, rounded.astype(np.int32), products.astype(np.float32))

    def _stored(self, name: str, integers: NDArray[Any], steps: NDArray[np.float32]) -> str:
        """Store integers, append once what makes them real, and return the real ones' name."""
        real = f"{name}_real"
        if name not in self._real:
            parts = [f"{name}_{part}" for part in ("integer", "step", "zero")]
            for part, value in zip(parts, (integers, steps, np.zeros(steps.shape, integers.dtype)), strict=True):
                self._graph.store(part, value)
            self._nodes.append(helper.make_node("DequantizeLinear", parts, [real], name=real, axis=0))
            self._real[name] = real
        return real
