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
    return data_of(1, tmp_path, monkeypatch)


@pytest.fixture
def dozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same with twelve pictures; ``<radius>-7.onnx`` finds nothing in the first 7 of them."""
    return data_of(12, tmp_path, monkeypatch)


def data_of(pictures: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (folder / "in").mkdir()
    truth = disc(20)
    entry = {"category_id": 1, "iscrowd": 0, "area": int(truth.sum()), "bbox": [20, 20, 41, 41]}
    document: dict[str, Any] = {"images": [], "categories": [{"id": 1, "name": "cell"}], "annotations": []}
    for number in range(pictures):
        assert cv2.imwrite(str(folder / "in" / f"{number}.png"), np.full((80, 80, 3), number, np.uint8))
        document["images"].append({"id": number, "file_name": f"{number}.png", "height": 80, "width": 80})
        document["annotations"].append({**entry, "id": number, "image_id": number, "segmentation": encode_mask(truth)})
    (folder / "a.json").write_text(json.dumps(document), encoding="utf-8")

    def open_segmenter(path: Path, **options: Any) -> Any:
        assert options["max_instances"] == 100
        radius, _, blind = Path(path).stem.partition("-")

        def segment(frame: NDArray[np.uint8]) -> Instances:
            if frame[0, 0, 0] < int(blind or 0):
                return Instances.empty(80, 80, ("cell",))
            return Instances.from_masks(disc(int(radius))[None], [0.9], [0], ("cell",))

        return segment

    monkeypatch.setattr(command_eval, "open_segmenter", open_segmenter)
    return ["--annotations", str(folder / "a.json"), "--images", str(folder / "in")]


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
    words = "model AP AP50 AP75 small medium large AP 95% pictures objects"
    assert lines[0].split() == words.split()
    assert lines[1].split() == ["20.onnx", "100.0", "100.0", "100.0", "-", "100.0", "-", "-", "1", "1"]
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
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("warning: ")]
    assert said[-1].startswith(verdict)


def test_the_gate_as_json(data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "18.onnx", *data, "--baseline", "20.onnx", "--max-drop", "0.5", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    assert document["worst_drop"] == pytest.approx(document["results"][0]["ap"] - document["results"][1]["ap"])
    assert document["results"][1]["drop"] == document["worst_drop"]


def test_drops_come_with_their_interval_and_a_warning(dozen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "20-1.onnx", "20.pth", "20-0.onnx", *dozen, "--baseline", "20.onnx", "--max-drop", "10"]
    assert main(words) == 0  # a drop of 8.9 points: the measured drop counts, and the doubt is said
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[-5:] == ["drop", "drop", "95%", "pictures", "objects"]
    cells = {line.split()[0]: line.split() for line in out[1:5]}
    assert cells["20.onnx"][-4:-2] == ["-", "-"]
    assert cells["20.pth"][-4:-2] == ["0.00", "0.00..0.00"]
    low, high = (float(end) for end in cells["20-1.onnx"][-3].split(".."))
    assert low <= float(cells["20-1.onnx"][-4]) <= high
    assert out[5].startswith("PASSED: 20-1.onnx is")
    assert out[6].startswith("warning: 20-1.onnx: 12 pictures tell a drop to within")
    assert "pictures like these would" in out[6]
    assert len(out) == 7  # nothing is doubtful of what finds exactly the same
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["results"][1]["drop_interval"] == pytest.approx([low, high], abs=0.005)
    assert document["results"][0]["ap_interval"] == [100.0, 100.0]
    assert "drop" not in document["results"][0]
    assert len(document["warnings"]) == 1


def test_without_a_claim_there_is_no_warning(data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "18.onnx", *data, "--baseline", "20.onnx"]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main(["eval", "20.pth", *data, "--baseline", "20.onnx", "--max-drop", "1"]) == 0
    assert "too few to say how far" in capsys.readouterr().out


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


def test_box_ap_beside_mask_ap(data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "20.onnx", "--boxes", *data]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert header.split()[7:13] == ["box", "AP", "box", "AP50", "box", "AP75"]
    assert row.split()[7:10] == ["100.0", "100.0", "100.0"]
    assert main(["eval", "20.onnx", "--boxes", "--json", *data]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["boxes"]["ap"] == pytest.approx(100)


def test_lvis_on_request(data: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plain, seen = command_eval.open_segmenter, []

    def spy(path: Path, **options: Any) -> Any:
        seen.append(options["max_instances"])
        return plain(path, **{**options, "max_instances": 100})

    monkeypatch.setattr(command_eval, "open_segmenter", spy)
    assert main(["eval", "20.onnx", "--protocol", "lvis", *data]) == 2
    assert "neg_category_ids" in capsys.readouterr().err
    path = Path(data[1])
    document = json.loads(path.read_text(encoding="utf-8"))
    for picture in document["images"]:
        picture |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    document["categories"][0]["frequency"] = "c"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert main(["eval", "20.onnx", "--protocol", "lvis", *data]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert header.split()[7:10] == ["APr", "APc", "APf"]
    assert row.split()[7:10] == ["-", "100.0", "-"]
    assert seen[-1] == 300
    assert main(["eval", "20.onnx", "--protocol", "lvis", "--classes", "cell", *data]) == 2
    assert "leave the choice of classes out" in capsys.readouterr().err
