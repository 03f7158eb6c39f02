"""Tiny .tflite files in the shape of an artefact, built with LiteRT's own schema: no converter, no weights.

The network gives fixed arrays, with the input's largest value / 1000 added to the mask features as a witness that the
input arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
    "int16": schema.TensorType.INT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
}
Quantisation = tuple[float, int]  # scale and zero point of one tensor


@dataclass
class Model:
    """A TFLite model under construction; tensors are referred to by their index."""

    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    codes: list[Any] = field(default_factory=list)

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str = "float32", quantised: Quantisation | None = None
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), TYPES[dtype], 0
        if quantised is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [quantised[0]], [quantised[1]]
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, array: NDArray[Any]) -> int:
        index = self.tensor(name, array.shape, array.dtype.name)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.tensors[index].buffer = len(self.buffers)
        self.buffers.append(buffer)
        return index

    def operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> None:
        """Append an operator by its name in the schema; a name the schema does not know is a custom operator."""
        code = schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        if number == schema.BuiltinOperator.CUSTOM:
            code.customCode = name.encode()
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.codes), list(inputs), list(outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.codes.append(code)
        self.operators.append(operator)

    def binary(self, name: str, first: int, second: int, output: int) -> None:
        options = getattr(schema, {"ADD": "AddOptionsT", "MUL": "MulOptionsT"}[name])()
        self.operator(name, [first, second], [output], options)

    def finish(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        *,
        signature: bool = True,
        metadata: Mapping[str, bytes] | None = None,
    ) -> bytes:
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        model.version, model.operatorCodes, model.subgraphs = 3, self.codes, [graph]
        model.buffers, model.metadata, model.description = self.buffers, [], b"tiny"
        for name, content in (metadata or {}).items():
            entry, buffer = schema.MetadataT(), schema.BufferT()
            entry.name, entry.buffer, buffer.data = name.encode(), len(self.buffers), np.frombuffer(content, np.uint8)
            model.metadata.append(entry)
            self.buffers.append(buffer)
        if signature:
            definition = schema.SignatureDefT()
            definition.signatureKey, definition.subgraphIndex = b"serving_default", 0
            definition.inputs, definition.outputs = _maps(inputs), _maps(outputs)
            model.signatureDefs = [definition]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _maps(names: Mapping[str, int]) -> list[Any]:
    maps = []
    for name, index in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        maps.append(entry)
    return maps


def tiny_tflite(
    arrays: Mapping[str, NDArray[np.float32]],
    shape: Sequence[int],
    *,
    input_name: str = "image",
    input_type: str = "uint8",
    input_quantised: Quantisation | None = None,
    output_type: str = "float32",
    output_quantised: Mapping[str, Quantisation] | None = None,
    signature: bool = True,
    metadata: Mapping[str, bytes] | None = None,
) -> bytes:
    """Build the network.

    Args:
        arrays: output name -> what it gives; the last gets the witness.
        shape: of the input.
        input_name: in the signature, and of the tensor.
        input_type: a key of :data:`TYPES`.
        input_quantised: scale and zero point of the input.
        output_type: a key of :data:`TYPES`.
        output_quantised: output name -> scale and zero point.
        signature: whether the file has one; names are the tensors' where it has none.
        metadata: name -> content.
    """
    model = Model()
    source = model.tensor(input_name, shape, input_type, input_quantised)
    floats = source
    if input_type != "float32":
        floats = model.tensor("floats", shape)
        if input_quantised is None:
            model.operator("CAST", [source], [floats], schema.CastOptionsT())
        else:
            model.operator("DEQUANTIZE", [source], [floats], schema.DequantizeOptionsT())
    top, witness, nothing = model.tensor("top", ()), model.tensor("witness", ()), model.tensor("nothing", ())
    axes = model.constant("axes", np.arange(len(shape), dtype=np.int32))
    model.operator("REDUCE_MAX", [floats, axes], [top], schema.ReducerOptionsT())
    model.binary("MUL", top, model.constant("thousandth", np.array(1e-3, np.float32)), witness)
    model.binary("MUL", top, model.constant("zero", np.array(0, np.float32)), nothing)
    outputs, last = {}, list(arrays)[-1]
    for name, array in arrays.items():
        real = output_type == "float32"
        sum_ = model.tensor(name if real else f"{name}_floats", array.shape)
        model.binary("ADD", model.constant(f"{name}_constant", array), witness if name == last else nothing, sum_)
        outputs[name] = sum_
        if not real:
            scale = (output_quantised or {}).get(name)
            outputs[name] = model.tensor(name, array.shape, output_type, scale)
            operator = ("CAST", schema.CastOptionsT()) if scale is None else ("QUANTIZE", schema.QuantizeOptionsT())
            model.operator(operator[0], [sum_], [outputs[name]], operator[1])
    return model.finish({input_name: source}, outputs, signature=signature, metadata=metadata)
