"""A float TFLite network as quantisation sees it: operators in order, who makes a tensor, who takes it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType
from ai_edge_litert.tools import flatbuffer_utils

from solov2_edge.errors import InputError, require

__all__ = ["WEIGHTED", "Graph", "Layer", "Operator", "read_graph"]

OPERATOR_NAMES = {value: name for name, value in vars(BuiltinOperator).items() if isinstance(value, int)}
# Operators that multiply an activation, their first input, by constant weights, their second.
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        index: its place in the order of execution.
        kind: the name of the builtin, ``"CONV_2D"``.
        inputs: tensors it takes, without those left out.
        outputs: tensors it makes.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """An operator with weights, under a name that stays when operators without weights are written differently.

    Attributes:
        name: ``"conv07"``: the number among the layers in the order of execution.
        operator: its operator's index.
        shape: of its output.
        weights: of its weight tensor.
        hint: where it stands, from what the converter kept of module names.
    """

    name: str
    operator: int
    shape: tuple[int, ...]
    weights: tuple[int, ...]
    hint: str


class Graph:
    """The one subgraph of a float network, with its edges in both directions."""

    def __init__(self, model: Any) -> None:
        """Index a ``ModelT``.

        Raises:
            InputError: it has more than one subgraph.
        """
        require(
            len(model.subgraphs) == 1,
            f"quantisation takes a network of one subgraph, got {len(model.subgraphs)}; convert the checkpoint again",
        )
        graph = model.subgraphs[0]
        self.names = [_text(tensor.name) for tensor in graph.tensors]
        self.shapes = [tuple(int(side) for side in _list(tensor.shape)) for tensor in graph.tensors]
        self.is_float = [tensor.type == TensorType.FLOAT32 for tensor in graph.tensors]
        self.is_constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
        self.inputs, self.outputs = _indices(graph.inputs), _indices(graph.outputs)
        self.operators = [
            Operator(
                index,
                OPERATOR_NAMES.get(_code(model.operatorCodes[operator.opcodeIndex]), "?"),
                _indices(operator.inputs),
                _indices(operator.outputs),
            )
            for index, operator in enumerate(graph.operators)
        ]
        self._makers = {t: operator for operator in self.operators for t in operator.outputs}
        self._takers: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for tensor in operator.inputs:
                self._takers.setdefault(tensor, []).append(operator)
        self.layers = tuple(self._layers())

    def activations(self, operator: Operator) -> list[int]:
        """Return the float tensors an operator takes that are computed, not constant."""
        return [t for t in operator.inputs if self.is_float[t] and not self.is_constant[t]]

    def makers(self, operator: Operator) -> list[Operator | None]:
        """Return who makes each of the operator's activations; None for the network's input."""
        return [self._makers.get(t) for t in self.activations(operator)]

    def maker(self, tensor: int) -> Operator | None:
        """Return who makes a tensor; None for the network's input and constants."""
        return self._makers.get(tensor)

    def takers(self, operator: Operator) -> list[Operator]:
        """Return who takes what an operator makes."""
        return [taker for tensor in operator.outputs for taker in self._takers.get(tensor, [])]

    def scope(self, operator: Operator) -> str:
        """Return what ai-edge-quantizer matches its regular expressions against: names of outputs, each with ``;``."""
        return "".join(f"{self.names[tensor]};" for tensor in operator.outputs)

    def _layers(self) -> Iterator[Layer]:
        number = 0
        for operator in self.operators:
            if operator.kind in WEIGHTED and len(operator.inputs) > 1 and self.is_constant[operator.inputs[1]]:
                weights, output = operator.inputs[1], operator.outputs[0]
                name, shape = f"conv{number:02}", self.shapes[output]
                yield Layer(name, operator.index, shape, self.shapes[weights], _hint(self.names[output]))
                number += 1


def read_graph(flatbuffer: bytes) -> tuple[Any, Graph]:
    """Return the mutable ``ModelT`` of a .tflite file's content and its graph.

    Raises:
        InputError: not a TFLite model, or one of several subgraphs.
    """
    require(flatbuffer[4:8] == b"TFL3", "expected a TFLite model, got bytes without its mark TFL3")
    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"the TFLite model is damaged ({error}); convert the checkpoint again") from error
    return model, Graph(model)


def _hint(name: str) -> str:
    """Shorten ``a.b.Backbone_backbone/torch.nn.Conv2d_conv1;1`` to ``backbone/conv1``."""
    last = re.sub(r";\d*$", "", name).split(";")[-1]
    return "/".join(re.sub(r"^.*\.[A-Za-z0-9]+_", "", part) for part in last.split("/")[-3:])


def _code(code: Any) -> int:
    # The older field is one byte wide; newer builtins stand in the other alone.
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in _list(values) if value >= 0)  # -1: left out


def _list(values: Any) -> Any:
    return [] if values is None else values


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
