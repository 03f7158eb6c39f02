"""ONNX networks as :class:`~solov2_edge.converters.quantisable.Quantisable`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from onnx import ModelProto

from solov2_edge.converters.onnx_graph import Graph
from solov2_edge.converters.onnx_int8 import Int8Builder
from solov2_edge.converters.onnx_islands import layer_of, layer_work, make_plan
from solov2_edge.converters.onnx_quantise import METHOD_FOR
from solov2_edge.converters.quantisable import Layer

__all__ = ["OnnxQuantisable"]

ENOUGH = 0.5  # of the convolutions, that must be integer in a file called int8


class OnnxQuantisable:
    """A float32 graph and its 8-bit forms for one target.

    Attributes:
        suffix: of its files.
        layers: what int8 reduces, by the names of :func:`~solov2_edge.converters.onnx_islands.layer_names`.
        facts: target and calibration method.
    """

    suffix = ".onnx"

    def __init__(self, builder: Int8Builder, floating: ModelProto, finish: Callable[[ModelProto, str], bytes]) -> None:
        """Describe the layers.

        Args:
            builder: the graph in the target's form, calibrated.
            floating: the float32 graph as conversion writes it.
            finish: from a graph and its precision to the file's bytes, manifest inside; it must not change the graph.
        """
        self._builder, self._floating, self._finish = builder, floating, finish
        graph = Graph(builder.prepared)
        work = layer_work(graph)
        planned = make_plan(graph).convolutions
        runs = Counter(layer_of(conv) for conv in graph.of_type("Conv") if conv.output[0] in planned)
        self._convolutions = runs.total()
        self.layers = tuple(Layer(name, work[name], runs[name]) for name in builder.layers)
        self.facts: dict[str, Any] = {"target": builder.target, "method": METHOD_FOR[builder.target]}

    def build(self, keep_float: frozenset[str] = frozenset()) -> bytes:
        """Return the file with these layers float; see :class:`~solov2_edge.converters.quantisable.Quantisable`."""
        if keep_float == frozenset(self._builder.layers):
            return self._finish(self._floating, "fp32")
        return self._finish(self._builder.build(keep_float), "int8")

    def still_int8(self, keep_float: frozenset[str]) -> bool:
        """Tell whether at least half of the convolutions are integer."""
        integer = sum(layer.runs for layer in self.layers if layer.name not in keep_float)
        return integer >= ENOUGH * self._convolutions
