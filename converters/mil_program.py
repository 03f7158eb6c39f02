"""An ML Program, read and checked: its inputs, constants and ops, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from solov2_edge.converters import mil_ops_conv, mil_ops_math, mil_ops_quant, mil_ops_resize, mil_ops_shape
from solov2_edge.converters.mil_arguments import Arguments
from solov2_edge.converters.mil_precision import narrow
from solov2_edge.converters.mil_types import TensorType, Value, read_type
from solov2_edge.converters.mil_values import ValueReader
from solov2_edge.errors import InputError, require

__all__ = ["Operation", "Program", "compute", "read_program"]

Result = Tensor | list[Tensor] | list[Value] | Value
MODULES = (mil_ops_math, mil_ops_conv, mil_ops_shape, mil_ops_resize)
FUNCTIONS: dict[str, Callable[[Arguments], Result]] = {
    name: function for module in MODULES for name, function in module.OPS.items()
} | dict(mil_ops_quant.OPS)
CONSTANTS: dict[str, Callable[[Arguments], Result]] = dict(mil_ops_quant.CONSTANT_OPS)
OWN_NAME = "name"  # the attribute in which every op repeats its name


@dataclass(frozen=True, slots=True)
class Operation:
    """One op.

    Attributes:
        kind: its type, such as ``"conv"``.
        what: its type and name, for messages.
        inputs: input name -> where each value comes from: a name of the program, or the value itself.
        outputs: name and declared type of each result.
        last_uses: names whose values nobody needs once this op has run.
    """

    kind: str
    what: str
    inputs: Mapping[str, tuple[str | Value, ...]]
    outputs: tuple[tuple[str, TensorType], ...]
    last_uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """One function of an ML Program.

    Attributes:
        inputs: input name -> type.
        constants: name -> value, compressed ones decoded.
        compressed: the ops that decode those constants which are stored compressed.
        operations: everything else, in order.
        outputs: names of the results.
    """

    inputs: Mapping[str, TensorType]
    constants: Mapping[str, Value]
    compressed: tuple[Operation, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


def read_program(model: Any, folder: Path) -> Program:
    """Read the one function of a specification, decode its constants and check that everything is known.

    Args:
        model: a ``Model_pb2.Model`` that holds an ML Program.
        folder: where it lies; weight files are named relative to it.

    Raises:
        InputError: an op, a type or a structure that the interpreter does not support, a name nobody defined, or a
            weight file that is damaged.
    """
    function, block = _main(model.mlProgram)
    reader = ValueReader(folder)
    inputs = {entry.name: read_type(entry.type, f"input {entry.name!r}") for entry in function.inputs}
    types: dict[str, TensorType] = dict(inputs)
    constants: dict[str, Value] = {}
    compressed: list[Operation] = []
    operations: list[Operation] = []
    _refuse_unknown({entry.type for entry in block.operations})
    for message in block.operations:
        operation = _operation(message, reader, types)
        for name, declared in operation.outputs:
            require(name not in types, f"{operation.what} defines {name!r} a second time; convert the checkpoint again")
            types[name] = declared
        if operation.kind == "const":
            (name, declared), value = operation.outputs[0], operation.inputs["val"][0]
            assert isinstance(value, Value)  # attributes are values
            require(value.type == declared, f"{operation.what} holds {value.type}, declared as {declared}")
            constants[name] = value
        elif operation.kind in CONSTANTS:
            (name, _), values = operation.outputs[0], compute(operation, constants)
            constants[name] = values[0]
            compressed.append(operation)
        else:
            operations.append(operation)
    outputs = tuple(block.outputs)
    missing = sorted(set(outputs) - set(types))
    require(bool(outputs) and not missing, f"the program never defines its outputs {missing}; convert again")
    return Program(inputs, constants, tuple(compressed), _with_last_uses(operations, outputs, constants), outputs)


def compute(operation: Operation, values: Mapping[str, Value]) -> list[Value]:
    """Run one op and check what comes out against what the program declares.

    Args:
        operation: the op.
        values: what names stand for.

    Raises:
        InputError: inputs that do not fit the op or each other, or a result of another shape or kind than declared.
    """
    function = FUNCTIONS.get(operation.kind) or CONSTANTS[operation.kind]
    given = {}
    for name, sources in operation.inputs.items():
        given[name] = [
            source if isinstance(source, Value) else _look_up(operation, values, source) for source in sources
        ]
    arguments = Arguments(operation.what, given)
    try:
        result = function(arguments)
    except (RuntimeError, IndexError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{operation.what} cannot be computed: {_first_line(error)}; convert again") from error
    arguments.refuse_unread()
    if isinstance(result, Value):
        results = [result]
    else:
        made = result if isinstance(result, list) else [result]
        results = [part if isinstance(part, Value) else Value(part, arguments.leading_kind()) for part in made]
    require(
        len(results) == len(operation.outputs),
        f"{operation.what} gives {len(results)} results, the program declares {len(operation.outputs)}; convert again",
    )
    for value, (name, declared) in zip(results, operation.outputs, strict=True):
        require(
            value.type == declared,
            f"{operation.what} gives {value.type} for {name!r}, the program declares {declared}; convert again",
        )
    return [Value(narrow(value.data, value.kind), value.kind) for value in results]


def _main(program: Any) -> tuple[Any, Any]:
    """Return the one function and its block."""
    names = sorted(program.functions)
    require(len(names) == 1, f"the program has functions {names}; the interpreter runs programs of one function")
    function = program.functions[names[0]]
    require(
        function.opset in function.block_specializations,
        f"function {names[0]!r} has no block for its opset {function.opset!r}; convert the checkpoint again",
    )
    return function, function.block_specializations[function.opset]


def _refuse_unknown(kinds: set[str]) -> None:
    unknown = sorted(kinds - set(FUNCTIONS) - set(CONSTANTS) - {"const"})
    noun, names = "op" if len(unknown) == 1 else "ops", ", ".join(map(repr, unknown))
    require(not unknown, f"the program uses {noun} {names}, not supported by the interpreter")


def _operation(message: Any, reader: ValueReader, types: Mapping[str, TensorType]) -> Operation:
    """Read one op; constants stand among its inputs or, for older compressed weights, among its attributes."""
    names = [entry.name for entry in message.outputs]
    what = f"{message.type} {names[0] if names else ''!r}"
    require(bool(names) and not message.blocks, f"{what} has no result or holds other ops; convert again")
    inputs: dict[str, tuple[str | Value, ...]] = {}
    for name, argument in message.inputs.items():
        sources: list[str | Value] = []
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "value":
                sources.append(reader.read(binding.value, f"{names[0]}.{name}"))
            else:
                require(binding.name in types, f"{what} uses {binding.name!r} before it is defined; convert again")
                sources.append(binding.name)
        inputs[name] = tuple(sources)
    for name, value in message.attributes.items():
        if name != OWN_NAME:
            require(name not in inputs, f"{what} has {name!r} as input and as attribute; convert the checkpoint again")
            inputs[name] = (reader.read(value, names[0] if name == "val" else f"{names[0]}.{name}"),)
    require(message.type != "const" or set(inputs) == {"val"}, f"{what} has no value; convert the checkpoint again")
    outputs = tuple((entry.name, read_type(entry.type, f"{what}: result {entry.name!r}")) for entry in message.outputs)
    return Operation(message.type, what, inputs, outputs)


def _with_last_uses(
    operations: list[Operation], outputs: tuple[str, ...], constants: Mapping[str, Value]
) -> tuple[Operation, ...]:
    """Return the ops with the names that can be forgotten after each, found backwards."""
    needed = set(outputs) | set(constants)
    result = []
    for operation in reversed(operations):
        touched = {source for sources in operation.inputs.values() for source in sources if isinstance(source, str)}
        touched |= {name for name, _ in operation.outputs}
        last = tuple(sorted(touched - needed))
        needed |= touched
        result.append(Operation(operation.kind, operation.what, operation.inputs, operation.outputs, last))
    return tuple(reversed(result))


def _look_up(operation: Operation, values: Mapping[str, Value], name: str) -> Value:
    require(name in values, f"{operation.what} uses {name!r}, which is not constant; convert the checkpoint again")
    return values[name]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
