from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge import command_eval
from solov2_edge.cli import main
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.rle import encode_mask


def disc(radius: int) -> NDArray[np.bool_]:
    mask = np.zeros((80, 80), np.uint8)
    cv2.circle(mask, (40, 40), radius, 1, cv2.FILLED)
    return mask.astype(np.bool_)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One picture with one disc of radius 20; ``<radius>.onnx`` finds a disc of that radius."""
    (tmp_path / "in").mkdir()
    assert cv2.imwrite(str(tmp_path / "in" / "a.png"), np.zeros((80, 80, 3), np.uint8))
    truth = disc(20)
    entry = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": int(truth.sum()), "bbox": [20, 20, 41, 41]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 80, "width": 80}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{**entry, "segmentation": encode_mask(truth)}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")

    def open_segmenter(path: Path, **options: Any) -> Any:
        assert options["max_instances"] == 100
        return lambda frame: Instances.from_masks(disc(int(Path(path).stem))[None], [0.9], [0], ("cell",))

    monkeypatch.setattr(command_eval, "open_segmenter", open_segmenter)
    return ["--annotations", str(tmp_path / "a.json"), "--images", str(tmp_path / "in")]


def test_checkpoints_run_at_the_size_asked_for(
    data: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}
    plain = command_eval.open_segmenter

    def spy(path: Path, **options: Any) -> Any:
        seen[path.name] = options.pop("input_size", None)
        return plain(path, **options)

    monkeypatch.setattr(command_eval, "open_segmenter", spy)
    assert main(["eval", "20.onnx", "20.pth", "--input-size", "64x96", *data]) == 0
    assert seen == {"20.onnx": None, "20.pth": (64, 96)}
    assert main(["eval", "20.onnx", "--input-size", "64x96", *data]) == 2
    assert "--input-size is for checkpoints" in capsys.readouterr().err


def test_a_table_of_ap(data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "20.onnx", "5.onnx", *data]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "AP", "AP50", "AP75", "small", "medium", "large", "pictures", "objects"]
    assert lines[1].split() == ["20.onnx", "100.0", "100.0", "100.0", "-", "100.0", "-", "1", "1"]
    assert lines[2].split()[:3] == ["5.onnx", "0.0", "0.0"]


@pytest.mark.parametrize(
    ("models", "options", "code", "verdict"),
    [
        (["20.onnx"], ["--baseline", "20.pth", "--max-drop", "0.5"], 0, "PASSED: 20.onnx is 0.00 points below 20.pth"),
        (["18.onnx", "20.onnx"], ["--baseline", "20.onnx", "--max-drop", "0.5"], 3, "FAILED: 18.onnx is"),
        (["18.onnx"], ["--baseline", "20.onnx", "--max-drop", "50"], 0, "PASSED: 18.onnx is"),
        (["20.onnx"], ["--baseline", "18.onnx", "--max-drop", "0"], 0, "PASSED: 20.onnx is"),
        (["18.onnx"], ["--baseline", "20.onnx"], 0, "18.onnx is"),
    ],
)
def test_the_gate(
    data: list[str],
    capsys: pytest.CaptureFixture[str],
    models: list[str],
    options: list[str],
    code: int,
    verdict: str,
) -> None:
    assert main(["eval", *models, *data, *options]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(verdict)


def test_the_gate_as_json(data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "18.onnx", *data, "--baseline", "20.onnx", "--max-drop", "0.5", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    assert document["worst_drop"] == pytest.approx(document["results"][0]["ap"] - document["results"][1]["ap"])
    assert document["results"][1]["drop"] == document["worst_drop"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-drop", "0.5"], "--max-drop needs --baseline"),
        (["--baseline", "20.onnx", "--max-drop", "-1"], "at least 0, got -1.0"),
        (["--baseline", "20.onnx", "--max-drop", "nan"], "at least 0, got nan"),
        (["--baseline", "20.onnx"], "nothing to compare with the baseline 20.onnx"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--max-detections", "0"], "--max-detections must be at least 1"),
    ],
)
def test_contradictions_are_refused(
    data: list[str], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["eval", "20.onnx", *data, *options]) == 2
    assert message in capsys.readouterr().err


def test_missing_annotations_are_one_sentence(data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "20.onnx", "--annotations", "gone.json", "--images", data[3]]) == 2
    err = capsys.readouterr().err
    assert "gone.json" in err
    assert err.count("\n") == 1
