"""The census counts what a file computes, whatever it is called."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from solov2_edge.converters.tflite_census import Census, require_integers, take_census
from solov2_edge.errors import GateError

PAIRS = {
    "int8": ("int8", "int8"),
    "int16": ("int16", "int8"),
    "dynamic": ("float32", "int8"),
    "floating": ("float32", "float32"),
    "half": ("float32", "float16"),
    "unpacked": ("float32", "int8"),
    "other": ("uint8", "uint8"),
}


def file_of(builder: ModuleType, *kinds: str) -> bytes:
    """A file with one convolution of each of the given kinds."""
    model = builder.Model()
    image = model.tensor("image", (1, 4, 4, 2))
    outputs = {}
    for number, kind in enumerate(kinds):
        activation, weights = PAIRS[kind]
        source = model.tensor(f"in{number}", (1, 4, 4, 2), activation)
        model.operator("QUANTIZE", [image], [source])
        constant = model.constant(f"w{number}", np.ones((2, 1, 1, 2), weights))
        if kind == "unpacked":
            stored, constant = constant, model.tensor(f"f{number}", (2, 1, 1, 2), activation)
            model.operator("DEQUANTIZE", [stored], [constant])
        outputs[f"out{number}"] = model.tensor(f"out{number}", (1, 4, 4, 2), activation)
        model.operator("CONV_2D", [source, constant], [outputs[f"out{number}"]])
    return bytes(model.finish({"image": image}, outputs))


def test_every_kind_is_counted(tflite_builder: ModuleType) -> None:
    census = take_census(file_of(tflite_builder, *PAIRS, "int8"))
    assert census == Census(int8=2, int16=1, dynamic=1, floating=3, other=1)
    assert census.layers == 8
    assert str(census) == (
        "of 8 layers 2 in int8, 1 in int16 x int8, 1 with int8 weights and float activations, 3 in float, "
        "1 in other types"
    )


@pytest.mark.parametrize(("precision", "kind"), [("int8", "int8"), ("int16x8", "int16"), ("int8-dynamic", "dynamic")])
def test_a_file_is_what_it_is_called_or_refused(tflite_builder: ModuleType, precision: str, kind: str) -> None:
    require_integers(take_census(file_of(tflite_builder, kind, kind, "floating", "floating")), precision)
    for others in ({"floating"}, set(PAIRS) - {kind}):
        with pytest.raises(GateError, match=f"at least half .* called {precision} must"):
            require_integers(take_census(file_of(tflite_builder, *others)), precision)
    with pytest.raises(GateError, match="of 3 layers 1"):
        require_integers(take_census(file_of(tflite_builder, kind, "floating", "floating")), precision)
    with pytest.raises(GateError, match="of 0 layers"):
        require_integers(take_census(file_of(tflite_builder)), precision)


def test_float_precisions_have_nothing_to_prove(tflite_builder: ModuleType) -> None:
    require_integers(take_census(file_of(tflite_builder, "floating")), "fp32")
