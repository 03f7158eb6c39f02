from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge import command_segment
from solov2_edge.cli import main
from solov2_edge.runtime.instances import Instances


class Stub:
    """Finds one square in every frame."""

    def __init__(self) -> None:
        self.timings = {"preprocess": 1.0, "network": 2.0, "decode": 3.0}
        self.options: dict[str, Any] = {}

    def __call__(self, frame: NDArray[np.uint8]) -> Instances:
        mask = np.zeros((1, *frame.shape[:2]), np.bool_)
        mask[:, :5, :5] = True
        return Instances.from_masks(mask, [0.5], [0], ("cell",))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    segmenter = Stub()

    def open_segmenter(path: Path, **options: Any) -> Stub:
        segmenter.options = options
        return segmenter

    monkeypatch.setattr(command_segment, "open_segmenter", open_segmenter)
    return segmenter


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], str]:
    def save(name: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), np.zeros((20, 30, 3), np.uint8))
        return str(tmp_path / name)

    return save


def test_pictures_become_files(
    tmp_path: Path, stub: Stub, picture: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    picture("in/b.jpg")
    assert main(["segment", "m.onnx", picture("a.png"), str(tmp_path / "in"), "-o", str(out)]) == 0
    text = capsys.readouterr().out
    assert "a.png: 1 instances, 1 shown, 6 ms" in text
    assert "2 of 2 pictures" in text
    assert {p.name for p in out.iterdir()} == {
        *("a.overlay.png", "a.json", "b.overlay.jpg", "b.json"),
        "instances.json",
    }
    assert stub.options == {}


def test_a_bad_picture_is_reported_and_the_rest_done(
    tmp_path: Path, stub: Stub, picture: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    words = ["segment", "m.onnx", str(tmp_path / "bad.png"), picture("a.png"), "-o", str(tmp_path / "out")]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "bad.png" in err
    assert "1 of 2 pictures" in out
    assert (tmp_path / "out" / "a.overlay.png").exists()
    assert main([*words, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert [entry["instances"] for entry in document["pictures"]] == [1]
    assert "bad.png" in document["failed"][0]["path"]


def test_options_reach_the_segmenter(tmp_path: Path, stub: Stub, picture: Callable[[str], str]) -> None:
    words = ["segment", "m.onnx", picture("a.png"), "-o", str(tmp_path / "out")]
    options = ["--score-threshold", "0.3", "--max-instances", "7", "--nms-kernel", "linear", "--threads", "2"]
    assert main([*words, *options, "--providers", "cuda"]) == 0
    assert stub.options == {
        "score_threshold": 0.3,
        "max_instances": 7,
        "nms_kernel": "linear",
        "threads": 2,
        "providers": "cuda",
    }
    assert main([*words, "--providers", "cuda", "cpu"]) == 0
    assert stub.options == {"providers": ["cuda", "cpu"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-overlay", "--no-labelme", "--no-coco"], "nothing to write"),
        (["--overlay-scale", "0"], "--overlay-scale must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--max-instances", "-3"], "--max-instances must be at least 1"),
        (["--nms-kernel", "box"], "invalid choice: 'box'"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path,
    stub: Stub,
    picture: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert main(["segment", "m.onnx", picture("a.png"), "-o", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_one_sentence(
    tmp_path: Path, picture: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gone.onnx", "gone.pth"):
        assert main(["segment", name, picture("a.png"), "-o", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err == f"solov2-edge: {name}: no such file\n"


def test_an_output_that_is_a_file_is_refused(
    tmp_path: Path, stub: Stub, picture: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", "m.onnx", picture("a.png"), "-o", picture("b.png")]) == 2
    assert "must be a folder" in capsys.readouterr().err
