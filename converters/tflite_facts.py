"""What a .tflite file is made of: operators by name, tensor types, weights, what a delegate would stumble over."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

from solov2_edge.errors import require
from solov2_edge.runtime.flatbuffer import FlatBuffer
from solov2_edge.runtime.tflite_file import IDENTIFIER, MODEL_BUFFERS, buffer_extent

__all__ = ["TfliteFacts", "read_facts"]

# Field numbers of schema.fbs, in the order of declaration.
MODEL_CODES, MODEL_SUBGRAPHS, MODEL_SIGNATURES = 1, 2, 7
CODE_OLD, CODE_CUSTOM, CODE_BUILTIN = 0, 1, 3
GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_OPERATORS = 0, 1, 2, 3
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_SIGNATURE = 0, 1, 2, 7
OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS = 0, 1, 2
SIGNATURE_INPUTS, SIGNATURE_OUTPUTS, SIGNATURE_KEY = 0, 1, 2
MAP_NAME = 0

OPERATOR_NAMES = {value: name for name, value in vars(BuiltinOperator).items() if isinstance(value, int)}
TYPE_NAMES = {value: name.lower() for name, value in vars(TensorType).items() if isinstance(value, int)}
# Operators that multiply an activation, their first input, by constant weights, their second.
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
# Operators that may stand between a transpose and the graph's border: they move, convert or squash single elements.
PASSING = frozenset(
    ("CAST", "QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CONCATENATION", "LOGISTIC", "TRANSPOSE")
)
NORMALISING = frozenset(("ADD", "SUB", "MUL", "DIV"))  # with a constant, at the input
MAX_PARTS = 100_000  # operators and tensors of one file; SOLOv2's have about a thousand
MAX_LINKS = 1024  # items of any shorter list: inputs of an operator, dimensions, subgraphs, signatures


@dataclass(frozen=True, slots=True)
class TfliteFacts:
    """What a TFLite model consists of, over all its subgraphs.

    Attributes:
        ops: operator -> how many, most frequent first; a custom operator under its own name.
        custom_ops: names of custom operators, each once, sorted; TensorFlow's begin with ``Flex``.
        tensor_types: type (``"float32"``, ``"int8"``, ...) -> how many tensors.
        constant_bytes: type -> bytes of constants; shared content counts once.
        kernels: (operator, type of the activation, type of the constant weights) -> how many, for convolutions and
            matrix products.
        max_rank: the largest number of dimensions of any tensor.
        inner_transposes: transposes with other than element-wise operators on the way to the input and the outputs.
        dynamic_tensors: tensors whose shape is known only when run; GPUs refuse them.
        signatures: signature -> (input names, output names).
        size_bytes: of the file.
    """

    ops: Mapping[str, int]
    custom_ops: tuple[str, ...]
    tensor_types: Mapping[str, int]
    constant_bytes: Mapping[str, int]
    kernels: Mapping[tuple[str, str, str], int]
    max_rank: int
    inner_transposes: int
    dynamic_tensors: int
    signatures: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    size_bytes: int

    def convolutions(self, activation: str, weights: str) -> int:
        """Return how many convolutions (depthwise ones too) take these types, for example ``("int8", "int8")``.

        Dynamic int8 is ``("float32", "int8")``.
        """
        names = ("CONV_2D", "DEPTHWISE_CONV_2D")
        return sum(self.kernels.get((name, activation, weights), 0) for name in names)


def read_facts(data: bytes) -> TfliteFacts:
    """Read the facts of a .tflite file's content.

    Raises:
        InputError: not a TFLite model, a damaged one, or one beyond :data:`MAX_PARTS`.
    """
    model = FlatBuffer(data, IDENTIFIER)
    root = model.root()
    entries = [model.follow(at) for at in _few(model.tables(root, MODEL_CODES))]
    codes = [_operator_name(model, entry) for entry in entries]
    graphs: list[_Graph] = []
    left = MAX_PARTS
    for at in _few(model.tables(root, MODEL_SUBGRAPHS)):
        graphs.append(_Graph(model, model.follow(at), codes, left))
        left -= len(graphs[-1].operators) + len(graphs[-1].tensors)
    operators = [operator for graph in graphs for operator in graph.operators]
    tensors = [tensor for graph in graphs for tensor in graph.tensors]
    constants = {tensor.buffer: tensor for tensor in tensors if tensor.constant_bytes}
    sizes: Counter[str] = Counter()
    for tensor in constants.values():
        sizes[tensor.kind] += tensor.constant_bytes
    return TfliteFacts(
        ops=dict(Counter(operator.name for operator in operators).most_common()),
        custom_ops=tuple(sorted({model.text(entry, CODE_CUSTOM) for entry in entries} - {""})),
        tensor_types=dict(Counter(tensor.kind for tensor in tensors).most_common()),
        constant_bytes=dict(sizes.most_common()),
        kernels=dict(sum((graph.kernels() for graph in graphs), Counter()).most_common()),
        max_rank=max((tensor.rank for tensor in tensors), default=0),
        inner_transposes=sum(graph.inner_transposes() for graph in graphs),
        dynamic_tensors=sum(tensor.dynamic for tensor in tensors),
        signatures=_signatures(model, root),
        size_bytes=len(data),
    )


@dataclass(frozen=True, slots=True)
class _Tensor:
    kind: str
    rank: int
    dynamic: bool
    buffer: int
    constant_bytes: int


@dataclass(frozen=True, slots=True)
class _Operator:
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class _Graph:
    """One subgraph, taken out of the FlatBuffer."""

    def __init__(self, model: FlatBuffer, table: int, codes: list[str], most: int) -> None:
        buffers = model.tables(model.root(), MODEL_BUFFERS)
        self.inputs = _indices(model, table, GRAPH_INPUTS)
        self.outputs = _indices(model, table, GRAPH_OUTPUTS)
        places = (model.follow(at) for at in _few(model.tables(table, GRAPH_TENSORS), most))
        self.tensors = [_tensor(model, at, buffers) for at in places]
        places = (model.follow(at) for at in _few(model.tables(table, GRAPH_OPERATORS), most))
        self.operators = [_operator(model, at, codes, len(self.tensors)) for at in places]

    def kernels(self) -> Counter[tuple[str, str, str]]:
        """Count (operator, activation, weights) of convolutions and matrix products with constant weights."""
        found: Counter[tuple[str, str, str]] = Counter()
        for operator in self.operators:
            if operator.name in WEIGHTED and len(operator.inputs) > 1 and min(operator.inputs[:2]) >= 0:
                activation, weights = (self.tensors[index] for index in operator.inputs[:2])
                if weights.constant_bytes:
                    found[operator.name, activation.kind, weights.kind] += 1
        return found

    def inner_transposes(self) -> int:
        """Count transposes that neither the input nor an output reaches through passing operators."""
        first, last = set(self.inputs), set(self.outputs)
        # TFLite keeps operators in an order of execution, so one pass each way meets everything.
        for operator in self.operators:
            normalises = operator.name in NORMALISING and any(self._is_constant(index) for index in operator.inputs)
            if (operator.name in PASSING or normalises) and first.intersection(operator.inputs):
                first.update(operator.outputs)
        for operator in reversed(self.operators):
            if operator.name in PASSING and last.intersection(operator.outputs):
                last.update(operator.inputs)
        return sum(
            operator.name == "TRANSPOSE"
            and not first.intersection(operator.inputs)
            and not last.intersection(operator.outputs)
            for operator in self.operators
        )

    def _is_constant(self, index: int) -> bool:
        return index >= 0 and self.tensors[index].constant_bytes > 0


def _operator_name(model: FlatBuffer, code: int) -> str:
    number = max(model.scalar(code, CODE_OLD, "b"), model.scalar(code, CODE_BUILTIN, "i"))
    return model.text(code, CODE_CUSTOM) or OPERATOR_NAMES.get(number, f"operator {number}")


def _tensor(model: FlatBuffer, table: int, buffers: range) -> _Tensor:
    number = model.scalar(table, TENSOR_TYPE, "b")
    buffer = model.scalar(table, TENSOR_BUFFER, "I")
    require(
        buffer < len(buffers), f"a tensor names buffer {buffer} of {len(buffers)}: the file is damaged; copy it again"
    )
    return _Tensor(
        kind=TYPE_NAMES.get(number, f"type {number}"),
        rank=len(_indices(model, table, TENSOR_SHAPE)),
        dynamic=-1 in _indices(model, table, TENSOR_SIGNATURE),
        buffer=buffer,
        constant_bytes=buffer_extent(model, model.follow(buffers[buffer]))[1],
    )


def _operator(model: FlatBuffer, table: int, codes: list[str], tensors: int) -> _Operator:
    code = model.scalar(table, OPERATOR_CODE, "I")
    inputs, outputs = _indices(model, table, OPERATOR_INPUTS), _indices(model, table, OPERATOR_OUTPUTS)
    good = code < len(codes) and all(-1 <= index < tensors for index in (*inputs, *outputs))  # -1: not given
    require(good, "an operator names a tensor or an operator code there is not: the file is damaged; copy it again")
    return _Operator(codes[code], inputs, outputs)


def _signatures(model: FlatBuffer, root: int) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    found = {}
    for at in _few(model.tables(root, MODEL_SIGNATURES)):
        table = model.follow(at)
        names = [
            tuple(model.text(model.follow(entry), MAP_NAME) for entry in _few(model.tables(table, field)))
            for field in (SIGNATURE_INPUTS, SIGNATURE_OUTPUTS)
        ]
        found[model.text(table, SIGNATURE_KEY)] = (names[0], names[1])
    return found


def _indices(model: FlatBuffer, table: int, field: int) -> tuple[int, ...]:
    """Return a vector of 4-byte integers."""
    first, count = model.vector(table, field, 4)
    _few(range(count))
    return struct.unpack_from(f"<{count}i", model.data, first)


def _few(parts: range, most: int = MAX_LINKS) -> range:
    require(len(parts) <= most, f"a list in the TFLite model has {len(parts)} items, at most {most} are read")
    return parts
