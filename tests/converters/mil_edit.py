"""Planting faults in a saved .mlpackage, in the specification and the weight file on disk; loaded by conftest."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solov2_edge.converters.mil_package import read_package

METADATA = struct.Struct("<IIQQQ32x")
ELEMENTS = {10: "<f2", 11: "<f4", 21: "i1", 31: "u1"}  # MIL.proto's data types


class Edited:
    """One package, to be changed in place; :meth:`save` writes the specification back."""

    def __init__(self, path: Path) -> None:
        package = read_package(path)
        self.path, self.model = path, package.model
        self._file = package.folder / "model.mlmodel"
        self.weights = package.folder / "weights" / "weight.bin"
        (function,) = self.model.mlProgram.functions.values()
        self.block = function.block_specializations[function.opset]

    def save(self) -> None:
        self._file.write_bytes(self.model.SerializeToString())

    def all(self, kind: str) -> list[Any]:
        """Every op of a type, in order."""
        return [op for op in self.block.operations if op.type == kind]

    def op(self, kind: str, number: int = 0, where: Callable[[Any], bool] = lambda op: True) -> Any:
        """The ``number``-th op of a type that fulfils a condition."""
        return [op for op in self.all(kind) if where(op)][number]

    def made(self, name: str) -> Any:
        """The op that makes a value."""
        return next(op for op in self.block.operations if any(output.name == name for output in op.outputs))

    def source(self, op: Any, name: str, number: int = 0) -> str:
        """The name that an op's input refers to."""
        return str(op.inputs[name].arguments[number].name)

    def value(self, op: Any, name: str) -> Any:
        """The ``Value`` message of an op's constant input or attribute, wherever it stands."""
        if name in op.attributes:
            return op.attributes[name]
        (binding,) = op.inputs[name].arguments
        return binding.value if binding.WhichOneof("binding") == "value" else self.made(binding.name).attributes["val"]

    def replace(self, op: Any, name: str, change: Callable[[list[Any]], Sequence[Any]]) -> None:
        """Give this op, and no other that shares the constant, other numbers for an input stored immediately."""
        message = type(self.value(op, name))()
        message.CopyFrom(self.value(op, name))
        tensor = message.immediateValue.tensor
        field = tensor.WhichOneof("value")
        values = getattr(tensor, field).values
        if field == "bytes":  # float16
            numbers = np.frombuffer(values, "<f2").tolist()
            tensor.bytes.values = np.array(change(numbers), "<f2").tobytes()
        else:
            changed = change(list(values))
            del values[:]
            values.extend(changed)
        binding = op.inputs[name].arguments[0]
        binding.Clear()
        binding.value.CopyFrom(message)

    def array(self, op: Any, name: str) -> np.ndarray:
        """An op's constant input in the weight file, flat and writable: what is written to it is on disk."""
        value = self.value(op, name)
        offset = value.blobFileValue.offset
        _, _, size, start, _ = METADATA.unpack(self.weights.read_bytes()[offset : offset + METADATA.size])
        dtype = np.dtype(ELEMENTS.get(value.type.tensorType.dataType, "u1"))
        return np.memmap(self.weights, dtype, "r+", start, (size // dtype.itemsize,))

    def metadata(self, op: Any, name: str) -> int:
        """Where the metadata of an op's constant input starts in the weight file."""
        return int(self.value(op, name).blobFileValue.offset)
