"""TFLite networks as :class:`~solov2_edge.converters.quantisable.Quantisable`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from solov2_edge.converters.quantisable import Layer
from solov2_edge.converters.tflite_census import ENOUGH
from solov2_edge.converters.tflite_graph import Graph, read_graph
from solov2_edge.converters.tflite_graph import Layer as Operator
from solov2_edge.converters.tflite_quantise import DEFAULT_METHOD, quantise_layers
from solov2_edge.converters.tflite_recipes import default_islands, make_plan
from solov2_edge.converters.traceable import Traceable
from solov2_edge.converters.value_ranges import ValueCounts
from solov2_edge.errors import require

__all__ = ["TfliteQuantisable"]


class TfliteQuantisable:
    """A float32 flatbuffer and its int8 forms.

    Layers that share weights over levels are one layer. Those which the recipe leaves float anyway, such as the first
    one, are none of :attr:`layers`; the last ones become what the recipe makes of them, int8 weights with float
    results.

    Attributes:
        suffix: of its files.
        layers: what int8 reduces, by the checkpoint's names.
        facts: the calibration method.
    """

    suffix = ".tflite"

    def __init__(
        self,
        flatbuffer: bytes,
        traceable: Traceable,
        counts: Mapping[str, ValueCounts],
        finish: Callable[[bytes, str], bytes],
    ) -> None:
        """Describe the layers.

        Args:
            flatbuffer: the float32 network.
            traceable: what it was made from, whose modules give the layers their names.
            counts: of :func:`~solov2_edge.converters.tflite_quantise.count_for`.
            finish: from a flatbuffer and its precision to the file's bytes, manifest inside.
        """
        self._flatbuffer, self._counts, self._finish = flatbuffer, counts, finish
        model, graph = read_graph(flatbuffer)
        self._islands = default_islands(graph)
        modes = make_plan(graph, "integer", self._islands).layers
        self._members: dict[str, list[Operator]] = {}
        for name, members in _by_weights(model, graph, traceable).items():
            if any(modes[member.name] != "float" for member in members):
                self._members[name] = members
        self._operators = len(graph.layers)
        self._integer = {name for name, mode in modes.items() if mode == "integer"}
        self.layers = tuple(
            Layer(name, sum(_work(member) for member in members), len(members))
            for name, members in self._members.items()
        )
        self.facts: dict[str, Any] = {"method": DEFAULT_METHOD}

    def islands(self, keep_float: frozenset[str]) -> dict[str, str]:
        """Return the exceptions of :func:`~solov2_edge.converters.tflite_quantise.quantise` for these float layers.

        Raises:
            InputError: no layer has such a name.
        """
        unknown = sorted(keep_float - set(self._members))
        require(not unknown, f"no layer is called {', '.join(unknown)}; the layers are {', '.join(self._members)}")
        return self._islands | {member.name: "float" for name in keep_float for member in self._members[name]}

    def build(self, keep_float: frozenset[str] = frozenset()) -> bytes:
        """Return the file with these layers float; see :class:`~solov2_edge.converters.quantisable.Quantisable`."""
        if keep_float == frozenset(self._members):
            return self._finish(self._flatbuffer, "fp32")
        islands = self.islands(keep_float)
        return self._finish(quantise_layers(self._flatbuffer, "int8", islands, self._counts), "int8")

    def still_int8(self, keep_float: frozenset[str]) -> bool:
        """Tell whether at least half of the layers' operators have int8 weights and activations."""
        kept = {member.name for name in keep_float for member in self._members[name]}
        return len(self._integer - kept) >= ENOUGH * self._operators


def _work(layer: Operator) -> int:
    """Return multiplications: per number of the output, those of one filter (O, kH, kW, I), or of a row."""
    return math.prod(layer.shape) * math.prod(layer.weights[1:])


def _by_weights(model: Any, graph: Graph, traceable: Traceable) -> dict[str, list[Operator]]:
    """Return name -> operators that share one weight tensor, in the order of their first run.

    The converter loses the names of modules that run more than once, but it keeps their weights to the last bit.
    """
    names = _names(traceable)
    sharing: dict[int, list[Operator]] = {}
    for layer in graph.layers:
        sharing.setdefault(graph.operators[layer.operator].inputs[1], []).append(layer)
    found: dict[str, list[Operator]] = {}
    tensors = model.subgraphs[0].tensors
    for tensor, members in sharing.items():
        stored = np.asarray(model.buffers[tensors[tensor].buffer].data, np.uint8).tobytes()
        name = names.get(stored) or members[0].name
        found[name if name not in found else members[0].name] = members
    return found


def _names(traceable: Traceable) -> dict[bytes, str]:
    """Return stored weights -> the module they belong to; modules with equal weights are left out."""
    found: dict[bytes, str] = {}
    for name, parameter in traceable.network.named_parameters():
        if parameter.dim() == 4:
            stored = parameter.detach().permute(0, 2, 3, 1).contiguous().numpy().tobytes()
            module = name.removesuffix(".weight").removesuffix(".conv")
            found[stored] = "" if stored in found else module
    return found
