from __future__ import annotations

from pathlib import Path

import pytest

from solov2_edge import engine_choice
from solov2_edge.engine_choice import Placed, expanded, placed
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


def test_all_means_every_engine_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"onnxruntime", "openvino", "tensorflow"}
    monkeypatch.setattr(engine_choice, "find_spec", lambda module: module if module in installed else None)
    ncnn = Path("a/m.ncnn")
    assert placed([ONNX, TFLITE, CHECKPOINT, ncnn], ["all"]) == [
        Placed(ONNX, "onnxruntime"),
        Placed(ONNX, "openvino"),
        Placed(TFLITE, "litert"),
        Placed(CHECKPOINT),
        Placed(ncnn),  # which says what to install
    ]
    with pytest.raises(InputError, match="--engine all names every engine; leave the others or all out"):
        placed([ONNX], ["all", "openvino"])


def test_a_folder_stands_for_the_artefacts_in_it(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.tflite", "notes.txt", "a.tflite.json"):
        (tmp_path / name).write_text(name)
    for name in ("a.ncnn", "a.mlpackage", "more"):
        (tmp_path / name).mkdir()
    found = [path.name for path in expanded([tmp_path / "a.ncnn", tmp_path])]
    assert found[:2] == ["a.ncnn", "a.tflite"]
    assert [name for name in found if name != "a.mlpackage"] == ["a.ncnn", "a.tflite", "b.onnx"]
    with pytest.raises(InputError, match=r"more holds no artefacts \(\.onnx, "):
        expanded([tmp_path / "more"])
