from __future__ import annotations

import random
import time
from types import ModuleType

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from solov2_edge.converters.tflite_facts import read_facts
from solov2_edge.errors import InputError

ARRAYS = {"scores": np.ones((19, 2), np.float32), "features": np.ones((4, 16, 24), np.float32)}


def test_a_tiny_model(tflite_builder: ModuleType) -> None:
    data = tflite_builder.tiny_tflite(ARRAYS, (1, 32, 64, 3), input_name="frame", output_type="float16")
    facts = read_facts(data)
    assert facts.ops == {"ADD": 2, "MUL": 2, "CAST": 3, "REDUCE_MAX": 1}
    assert next(iter(facts.ops)) == "CAST"
    assert facts.custom_ops == ()
    assert facts.tensor_types == {"float32": 10, "float16": 2, "uint8": 1, "int32": 1}
    assert facts.constant_bytes == {"float32": 4 * (19 * 2 + 4 * 16 * 24 + 2), "int32": 16}
    assert facts.max_rank == 4
    assert facts.dynamic_tensors == facts.inner_transposes == 0
    assert facts.signatures == {"serving_default": (("frame",), ("scores", "features"))}
    assert facts.size_bytes == len(data)
    assert facts.kernels == {}


def convolutions(builder: ModuleType, activation: str, weights: str, *, dynamic: bool = False) -> bytes:
    """Image, convolution, custom operator, rank-5 reshape, and transposes at the input, inside and at the output."""
    model = builder.Model()
    order = model.constant("order", np.array([0, 1, 2, 3], np.int32))
    source = model.tensor("image", (1, 4, 4, 2), activation)
    names = ("first", "convolved", "inside", "strange", "doubled", "last")
    tensors = {name: model.tensor(name, (1, 4, 4, 2), activation) for name in names}
    if dynamic:
        model.tensors[tensors["inside"]].shapeSignature = [1, -1, 4, 2]
    kernel = model.constant("kernel", np.ones((2, 1, 1, 2), weights))
    model.operator("TRANSPOSE", [source, order], [tensors["first"]], schema.TransposeOptionsT())
    model.operator("CONV_2D", [tensors["first"], kernel, -1], [tensors["convolved"]], schema.Conv2DOptionsT())
    model.operator("TRANSPOSE", [tensors["convolved"], order], [tensors["inside"]], schema.TransposeOptionsT())
    model.operator("FlexErf", [tensors["inside"]], [tensors["strange"]])
    model.operator("CONV_2D", [tensors["strange"], kernel, -1], [tensors["doubled"]], schema.Conv2DOptionsT())
    model.operator("TRANSPOSE", [tensors["doubled"], order], [tensors["last"]], schema.TransposeOptionsT())
    scores = model.tensor("scores", (1, 1, 4, 4, 2), activation)
    model.operator("RESHAPE", [tensors["last"]], [scores], schema.ReshapeOptionsT())
    data: bytes = model.finish({"image": source}, {"scores": scores})
    return data


@pytest.mark.parametrize(
    ("activation", "weights"), [("float32", "float32"), ("float32", "int8"), ("int8", "int8"), ("int16", "int8")]
)
def test_what_converters_must_not_leave_behind(tflite_builder: ModuleType, activation: str, weights: str) -> None:
    facts = read_facts(convolutions(tflite_builder, activation, weights))
    assert facts.custom_ops == ("FlexErf",)
    assert facts.ops["FlexErf"] == 1
    assert facts.max_rank == 5
    assert facts.inner_transposes == 1
    assert facts.kernels == {("CONV_2D", activation, weights): 2}
    assert facts.convolutions(activation, weights) == 2
    assert facts.convolutions("uint8", "uint8") == 0


def test_shapes_known_only_when_run(tflite_builder: ModuleType) -> None:
    assert read_facts(convolutions(tflite_builder, "float32", "float32", dynamic=True)).dynamic_tensors == 1


def test_a_shared_constant_counts_once(tflite_builder: ModuleType) -> None:
    model = tflite_builder.Model()
    one = model.constant("one", np.ones(8, np.float32))
    other = model.tensor("other", (8,))
    model.tensors[other].buffer = model.tensors[one].buffer
    output = model.tensor("sum", (8,))
    model.binary("ADD", one, other, output)
    assert read_facts(model.finish({}, {"sum": output})).constant_bytes == {"float32": 32}


def test_damage_ends_in_an_input_error_or_a_reading_soon(tflite_builder: ModuleType) -> None:
    model = convolutions(tflite_builder, "float32", "int8")
    start, refused = time.perf_counter(), 0
    source = random.Random(0)
    for _ in range(1500):
        damaged = bytearray(model)
        for _ in range(source.randint(1, 6)):
            damaged[source.randrange(len(model))] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))
        try:
            read_facts(bytes(damaged))
        except InputError:
            refused += 1
    assert refused > 100
    assert time.perf_counter() - start < 60
    for length in range(0, len(model), 7):
        with pytest.raises(InputError):
            read_facts(model[:length])
