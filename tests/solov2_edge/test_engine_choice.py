from __future__ import annotations

from pathlib import Path

import pytest

from solov2_edge.engine_choice import Placed, placed
from solov2_edge.errors import InputError

ONNX, TFLITE, CHECKPOINT = Path("a/m.onnx"), Path("a/m.tflite"), Path("a/m.pth")


def test_everything_runs_in_its_own_engine_unless_others_are_named() -> None:
    assert placed([ONNX, TFLITE, ONNX], None) == [Placed(ONNX), Placed(TFLITE)]
    assert Placed(ONNX).name == "m.onnx"


def test_every_artefact_runs_in_every_engine_that_was_named_and_can() -> None:
    found = placed([ONNX, TFLITE, CHECKPOINT], ["onnxruntime", "openvino", "litert", "openvino"])
    assert found == [
        Placed(ONNX, "onnxruntime"),
        Placed(ONNX, "openvino"),
        Placed(TFLITE, "litert"),
        Placed(CHECKPOINT),
    ]
    assert found[1].name == "m.onnx in openvino"


@pytest.mark.parametrize(
    ("models", "engines", "message"),
    [
        ([ONNX, TFLITE], ["openvino"], r"--engine openvino runs no \.tflite artefacts such as m\.tflite; add litert"),
        ([TFLITE], ["onnx"], r"--engine onnx runs no \.tflite artefacts"),
        ([ONNX], ["openvino", "litert"], "--engine litert runs none of the artefacts given; leave it out"),
        ([CHECKPOINT], ["openvino"], "--engine openvino runs none of the artefacts given"),
    ],
)
def test_what_fits_nothing_is_refused(models: list[Path], engines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        placed(models, engines)
