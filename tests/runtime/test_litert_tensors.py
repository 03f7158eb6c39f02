from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.litert import LitertSession
from solov2_edge.runtime.litert_tensors import Tensor

AssertTiny = Callable[..., None]
MakeTflite = Callable[..., Path]
GREY = np.full((1, 64, 96, 3), 100, np.uint8)
OUTPUTS = ("class_scores", "kernels", "mask_features")


QUANTISED_INPUTS = [
    ("uint8", None),
    ("uint8", (1.0, 0)),
    ("uint8", (2.0, 5)),
    ("int8", (1.0, -128)),
    ("int16", (0.01, 0)),
]


@pytest.mark.parametrize(("dtype", "quantised"), QUANTISED_INPUTS)
def test_pixels_into_any_input(make_tflite: MakeTflite, dtype: str, quantised: Any, assert_tiny: AssertTiny) -> None:
    session = LitertSession(make_tflite(input_type=dtype, input_quantised=quantised))
    for value in (0, 100, 254):
        assert_tiny(session.run(np.full_like(GREY, value)), value / 1000, tolerance=2e-5)


def test_pixels_are_told_apart_by_their_place(tflite_builder: ModuleType) -> None:
    """The table of quantised pixels is applied elementwise, whatever the batch's strides."""
    tensor = litert_tensor(dtype="int8", scale=1.0, zero_point=-128)
    batch = np.arange(256, dtype=np.uint8).reshape(1, 8, 8, 4)[:, ::-1, :, ::2]
    np.testing.assert_array_equal(tensor.encode(batch), batch.astype(np.int16) - 128)


@pytest.mark.parametrize(
    ("dtype", "quantised", "tolerance"),
    [
        ("float32", None, 1e-6),
        ("float16", None, 1e-3),
        ("int8", (0.02, -20), 0.011 / 1000),
        ("int16", (1e-4, 0), 1e-6),
        ("uint8", (0.02, 100), 0.011 / 1000),
    ],
)
def test_numbers_into_any_input(
    make_tflite: MakeTflite,
    tiny_manifest: Manifest,
    dtype: str,
    quantised: Any,
    tolerance: float,
    assert_tiny: AssertTiny,
) -> None:
    manifest = replace(tiny_manifest, format="tflite", input=InputContract("tensor", 64, 96, "pixels"))
    session = LitertSession(make_tflite(manifest=manifest, input_type=dtype, input_quantised=quantised))
    for value in (-1.5, 0.0, 1.73):
        batch = np.full((1, 3, 64, 96), value, np.float32)
        assert_tiny(session.run(batch), value / 1000, tolerance=tolerance + 1e-6)


def test_numbers_out_of_a_quantised_inputs_range_are_clipped() -> None:
    tensor = litert_tensor(dtype="int8", scale=0.5, zero_point=10)
    numbers = np.array([-1e9, -0.24, 0.26, 1e9], np.float32)
    assert tensor.encode(numbers).tolist() == [-128, 10, 11, 127]
    assert tensor.encode(numbers).dtype == np.int8


def litert_tensor(**changes: Any) -> Any:
    return Tensor(**{"name": "image", "index": 0, "dtype": "float32", "shape": (1, 8, 8, 2), **changes})


@pytest.mark.parametrize(
    ("dtype", "quantised", "tolerance"),
    [
        ("float16", None, 1e-2),
        ("int8", {"class_scores": (1 / 256, -128), "kernels": (1 / 127, 0), "mask_features": (0.1, 3)}, 0.051),
        ("uint8", {"class_scores": (1 / 255, 0), "kernels": (1 / 127, 0), "mask_features": (0.1, 125)}, 0.051),
        ("int16", dict.fromkeys(OUTPUTS, (0.001, 0)), 0.0006),
    ],
)
def test_any_output_becomes_float32(
    make_tflite: MakeTflite, dtype: str, quantised: Any, tolerance: float, assert_tiny: AssertTiny
) -> None:
    session = LitertSession(make_tflite(output_type=dtype, output_quantised=quantised))
    raw = undecoded(session.run(GREY))
    assert_tiny(raw, tolerance=tolerance)
    assert raw.class_scores[3, 0] == pytest.approx(0.9, abs=0.002)
    assert raw.class_scores[0, 0] == 0  # a zero is a zero in any of them
